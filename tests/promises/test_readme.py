"""Every block of code in the README runs, in order, and prints the text block below it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys

import pytest

from support import ROOT

pytest_plugins = ["pytester"]

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, flags=re.M | re.S)


def test_every_python_block_prints_the_text_block_below_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    ran = 0
    for (kind, code), (below, expected) in zip(BLOCKS, [*BLOCKS[1:], ("", "")], strict=True):
        if kind != "python":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"README block {ran + 1}", "exec"), namespace)
        ran += 1
        assert printed.getvalue() == (expected if below == "text" else ""), code
    assert ran >= 8


# The blocks are one program, whose variables get new values. Like most training scripts, its functions and what they
# call have no annotations: their bodies are checked all the same.
FLAGS = "# mypy: allow-untyped-defs, allow-untyped-calls, allow-redefinition\n"


def test_every_python_block_type_checks(tmp_path):
    program = tmp_path / "readme.py"
    program.write_text(FLAGS + "\n".join(code for kind, code in BLOCKS if kind == "python"), encoding="utf-8")
    # the configuration is that of `make lint`, strict, and so is the cache: without it, torch is read for 20 seconds
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", program],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": "src"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_kind_of_block_is_known():
    assert {kind for kind, _ in BLOCKS} <= {"python", "py", "text", "sh", "mermaid", "toml"}


def test_every_block_for_pytest_passes(pytester):
    pytester.makeconftest(
        """
        import builtins
        import pytest
        from camshaft import Engine, Events

        trainer, evaluator = (Engine(lambda engine, batch: None, name) for name in ("trainer", "evaluator"))
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1])
        defined = {"trainer": trainer, "evaluator": evaluator, "loader": [1, 2, 3], "Events": Events, "pytest": pytest}
        vars(builtins).update(defined)
        """
    )
    blocks = [code for kind, code in BLOCKS if kind == "py"]
    assert blocks
    pytester.makepyfile(*blocks)
    assert pytester.runpytest_subprocess("--update-traces").ret == 0
    assert pytester.runpytest_subprocess().ret == 0


def test_every_make_target_that_it_names_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`?make ([a-z-]+)", TEXT)):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


@pytest.mark.parametrize(
    "line",
    [line for kind, code in BLOCKS if kind == "sh" for line in code.splitlines() if line.startswith("camshaft ")],
)
def test_every_command_line_works(line):
    command = line.partition("#")[0]
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
