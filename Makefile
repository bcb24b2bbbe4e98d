# Everything works on a machine that has Python 3.11 or newer, pip and make:
# each target sets up .venv first, once, and again only when pyproject.toml changed.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
MERMAID := tests/browser/node_modules/mermaid/dist/mermaid.min.js

.PHONY: demo test test-long mutants chaos bench lint diagrams browser clean

demo: $(READY)
	$(BIN)/python examples/custom_events_resnet18.py

test: lint
	$(BIN)/python -m pytest -n auto --dist worksteal -rs --durations=5

# the same tests: properties on many more programs, all mutants, all repetitions
test-long: lint
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -n auto --dist worksteal

# how much the tools notice: each judges some thousand changes of the loop, of what drives it, and of traces
mutants: $(READY)
	PYTHONPATH=tests $(BIN)/python -m mutants

# trainings that are killed, so many times, end as if nobody had: make chaos KILLS=20; SEED= repeats a run
chaos: $(READY)
	PYTHONPATH=tests $(BIN)/python -m chaos --kills $(or $(KILLS),100) $(addprefix --seed=,$(SEED))

# what it costs, against hand-written loops and pytorch-ignite
bench: $(READY)
	PYTHONPATH=tests $(BIN)/python -m benchmarks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# what tests of the diagrams load into a browser; without it, and without chromium and graphviz, they are skipped
browser: $(MERMAID)

# the file as packed is older than any package.json: touched, it tells whether that asks for another version since
$(MERMAID): tests/browser/package.json
	cd tests/browser && npm install --no-package-lock --no-audit --no-fund # --prefix would lose npm's settings
	touch $@

# those that [tool.camshaft.diagrams] in pyproject.toml lists
diagrams: $(READY)
	$(BIN)/camshaft draw --all

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "camshaft needs Python 3.11 or newer: make PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf .venv build dist tests/browser/node_modules
