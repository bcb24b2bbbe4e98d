"""`camshaft draw` and `camshaft report`, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from browser import crossed, outside, overlaps
from camshaft import Engine, Events, Loop, Phase, record

# what is written twice in one second would be taken for what was compiled before
ENV = {"COLUMNS": "300", "PYTHONDONTWRITEBYTECODE": "1"}

FILE = """
from camshaft import Engine, Events
trainer = Engine(lambda engine, batch: batch, name="trainer")
@trainer.on(Events.COMPLETED)
def celebrate(): ...
def loop():
    return trainer.loop
number = 3
"""

PROJECT = """
[tool.camshaft.diagrams]
"pictures/loop.svg" = "train.py:trainer"
"pictures/loop.txt" = { target = "train:loop", level = "full", control = true }
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(FILE)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


@pytest.fixture
def run(folder):
    def call(*arguments, cwd=folder):
        command = [sys.executable, "-m", "camshaft", *arguments]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=ENV)

    return call


def make_trace(path, handler_times=False):
    with record(handler_times=handler_times) as trace:
        trainer = Engine(lambda engine, batch: batch, name="trainer")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: None)
        trainer.run([1, 2, 3], max_epochs=2)
    trace.save(path)
    return trace


@pytest.mark.parametrize("target", ["train.py:trainer", "train:trainer", "train.py:loop"])
def test_a_picture_goes_to_the_terminal(run, target):
    shown = run("draw", target)
    assert shown.returncode == 0
    assert "│  │  ╭─ ITERATION  for each batch" in shown.stdout


@pytest.mark.parametrize("ending", ["svg", "mmd", "dot", "txt", "html"])
def test_a_picture_goes_to_a_file(run, folder, ending):
    assert run("draw", "train.py:trainer", "-o", f"out.{ending}").returncode == 0
    assert (folder / f"out.{ending}").read_text() == Engine(lambda engine, batch: batch, "trainer").diagram().rendered(
        f".{ending}"
    )


def test_options_say_what_is_shown(run):
    assert "GET_BATCH" not in run("draw", "train.py:trainer").stdout
    assert "[GET_BATCH]" in run("draw", "train.py:trainer", "--level", "full").stdout
    assert "[FAILED]" in run("draw", "train.py:trainer", "--control").stdout
    assert "› celebrate" in run("draw", "train.py:trainer", "--handlers").stdout


def test_a_trace_is_drawn_over_it(run, folder):
    make_trace(folder / "run.jsonl")
    assert "ITERATION_COMPLETED ×6" in run("draw", "train.py:trainer", "--trace", "run.jsonl").stdout
    assert "ITERATION_COMPLETED ×6" in run("draw", "train.py:loop", "--trace", "run.jsonl").stdout
    with record() as trace:
        Engine(lambda engine, batch: batch, name="other").run([1])
    trace.save(folder / "other.jsonl")
    done = run("draw", "train.py:trainer", "--trace", "other.jsonl")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "other.jsonl has no run of trainer; recorded are other" in done.stderr


def test_a_trace_of_another_loop_is_refused(run, folder):
    with record() as trace:
        Engine([Phase("CLIP", lambda e, b: None)], name="trainer").run([1])
    trace.save(folder / "run.jsonl")
    done = run("draw", "train.py:trainer", "--trace", "run.jsonl")
    assert done.returncode == 2
    assert done.stderr == (
        "camshaft: run.jsonl was recorded of another loop: trainer fired CLIP_STARTED there, which this one has not\n"
    )


def test_a_report_that_is_no_page_is_refused(run, folder):
    make_trace(folder / "run.jsonl")
    done = run("report", "run.jsonl", "-o", "report.txt")
    assert (done.returncode, done.stderr) == (2, "camshaft: a report is a page, so report.txt should end in .html\n")


def test_the_drawings_of_a_project_are_made_and_checked(run, folder):
    done = run("draw", "--check")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "pictures/loop.svg is missing",
        "pictures/loop.txt is missing",
    ]
    assert run("draw", "--all").stdout == "drew pictures/loop.svg\ndrew pictures/loop.txt\n"
    assert run("draw", "--check").returncode == 0
    assert run("draw", "--all").stdout == ""
    (folder / "train.py").write_text(FILE.replace('"trainer"', '"teacher"'))
    assert run("draw", "--check").stderr == "pictures/loop.svg is not what the code would draw now\n"
    (folder / "inner").mkdir()
    assert run("draw", "--all", cwd=folder / "inner").returncode == 0
    assert run("draw", "--check", cwd=folder / "inner").returncode == 0
    assert "teacher" in (folder / "pictures/loop.svg").read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "lists no diagrams: add [tool.camshaft.diagrams]"),
        ('[tool.camshaft.diagrams]\n"a.svg" = 3', "give a target"),
        ('[tool.camshaft.diagrams]\n"a.png" = "train.py:trainer"', "no diagram is written as '.png'"),
        ('[tool.camshaft.diagrams]\n"a.svg" = {target = "train.py:trainer", size = 3}', "there is no 'size'"),
        ('[tool.camshaft.diagrams]\n"a.svg" = {target = "train.py:trainer", level = "all"}', "level is 'all'"),
        ('[tool.camshaft.diagrams]\n"a.svg" = "train.py:nothing"', "has no attribute 'nothing'"),
        ('[tool.camshaft.diagrams]\n"a.svg" = {target = "train.py:trainer", trace = "no.jsonl"}', "no.jsonl"),
        ('[tool.camshaft.diagrams]\n"a.svg" = {target = "train.py:trainer", handlers = "no"}', "give true or false"),
        ('[tool.camshaft.diagrams]\n"a.svg" = {target = "train.py:trainer", trace = 3}', "give a file"),
        ("tool = 3", "lists no diagrams"),
        ("[tool]\ncamshaft = 3", "lists no diagrams"),
        ("[tool", "pyproject.toml: "),
    ],
)
def test_a_project_that_cannot_be_drawn_says_why(run, folder, text, why):
    (folder / "pyproject.toml").write_text(text)
    for option in ("--all", "--check"):
        done = run("draw", option)
        assert done.returncode == 2
        assert why in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["train.py:number"], "camshaft: train.py:number is 3: name an Engine, a Loop, or a function"),
        (["train.py:nothing"], "has no attribute 'nothing'"),
        (["nowhere.py:trainer"], "no file nowhere.py"),
        (["train.py"], "write package.module:name"),
        ([], "give a TARGET"),
        (["train.py:trainer", "--all"], "give a TARGET with its options, or --all"),
        (["--all", "--level", "full"], "give a TARGET with its options, or --all"),
        (["train.py:trainer", "-o", "out.png"], "use .svg, .mmd, .dot, .txt, .html"),
        (["train.py:trainer", "-o", "nowhere/out.svg"], "No such file"),
        (["train.py:trainer", "--trace", "train.py"], "train.py"),
        (["train.py:trainer", "--level", "all"], "'all' is not one of"),
    ],
)
def test_what_cannot_be_drawn_says_why(run, arguments, why):
    done = run("draw", *arguments)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_each_file_has_neighbours_of_its_own(run, folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "helper.py").write_text(f"NAME = 'trainer of {name}'\n")
        (folder / name / "string.py").write_text(
            "from camshaft import Engine\n"
            "def trainer():\n"
            "    from helper import NAME\n"
            "    return Engine(lambda engine, batch: batch, NAME)\n"
        )
    (folder / "pyproject.toml").write_text(
        '[tool.camshaft.diagrams]\n"a.txt" = "a/string.py:trainer"\n"b.txt" = "b/string.py:trainer"\n'
    )
    assert run("draw", "--all").returncode == 0
    assert "trainer of a" in (folder / "a.txt").read_text()
    assert "trainer of b" in (folder / "b.txt").read_text()


def test_a_file_that_leaves_says_why(run, folder):
    (folder / "leaves.py").write_text("import sys\nsys.exit('no\\nway')\n")
    done = run("source", "leaves.py:trainer")
    assert (done.returncode, "SystemExit: no way" in done.stderr) == (2, True)


# -- the report -------------------------------------------------------------------------------------------------------


def test_the_report_is_one_page(run, folder, page):
    make_trace(folder / "run.jsonl", handler_times=True)
    done = run("report", "run.jsonl", "-o", "page.html", "--chrome-trace", "perfetto.json")
    assert (done.returncode, done.stdout) == (0, "page.html: 31 events in 1 run\n")
    page.show((folder / "page.html").read_text(), width=1200)
    assert not page.errors
    for picture in ("svg.strip", "svg.camshaft"):
        geometry = page.geometry(picture)
        assert geometry.texts
        assert not overlaps(geometry.texts)
        assert not crossed(geometry.texts, geometry.edges)
        assert not outside(geometry.texts, geometry.view_box)
    text = page.evaluate("() => document.body.innerText")
    assert "31 events in 1 run, " in text and "all in legal order" in text
    row = page.evaluate("() => [...document.querySelectorAll('table tr')].at(-1).innerText").split("\t")
    assert row[:4] == ["trainer", "ITERATION_COMPLETED", "make_trace.<lambda>", "6"]
    assert len(row) == 8
    assert json.loads((folder / "perfetto.json").read_text())["traceEvents"]


def test_the_report_lists_every_violation(run, folder, page):
    trace = make_trace(folder / "run.jsonl")
    order = [*range(5), *range(6, 20), *range(21, len(trace))]
    trace.rearranged(order).save(folder / "bad.jsonl")
    assert run("report", "bad.jsonl").returncode == 0
    page.show((folder / "report.html").read_text(), width=1200)
    text = page.evaluate("() => document.body.innerText")
    broken = trace.rearranged(order).violations()
    assert len(broken) == 2
    assert "2 out of order" in text
    assert all(one.message.splitlines()[0] in text for one in broken)
    assert "record(handler_times=True)" in text


def test_the_report_of_a_long_run_stays_small(page):
    from camshaft.draw.report import report

    inner = Engine(lambda engine, batch: batch, name="evaluator")
    trainer = Engine([Phase("FORWARD", lambda e, b: None), Phase("BACKWARD", lambda e, b: None)], name="trainer")
    trainer.nest(inner, on=Events.EPOCH_COMPLETED, data=range(100))
    with record() as trace:
        trainer.run(range(1000), max_epochs=13)
    assert len(trace) > 100_000
    text = report(trace)
    assert len(text) < 1_000_000
    page.show(text, width=1200)
    assert not page.errors
    parts = page.evaluate("() => document.querySelectorAll('svg.strip rect').length")
    assert 100 < parts < 6 * 600
    told = page.evaluate(
        "() => [...document.querySelectorAll('svg.strip title')].map(title => title.textContent).join()"
    )
    assert "FORWARD ×" in told


def test_the_report_of_nothing(page):
    from camshaft.draw.report import report

    with record() as trace:
        pass
    page.show(report(trace), width=800)
    assert "0 events in 0 runs" in page.evaluate("() => document.body.innerText")


def test_the_strip_shows_each_span_in_its_place(page):
    from camshaft.draw.strip import strip

    loop = Loop("EPOCH", Phase("A", lambda e, b: None), Phase("B", lambda e, b: None), times=2)
    with record() as trace:
        Engine(loop, name="worker").run()
    page.show(strip(trace), width=1200)
    geometry = page.geometry("svg.strip")
    rows = {}
    for node in geometry.nodes:
        rows.setdefault(round(node.box.top), []).append(node.box)
    tops = sorted(rows)
    assert [len(rows[top]) for top in tops][:2] == [1, 2]
    for inner in rows[tops[1]]:
        assert rows[tops[0]][0].left - 0.5 <= inner.left < inner.right <= rows[tops[0]][0].right + 0.5
