"""`camshaft report`, as a user runs it."""

from __future__ import annotations

import json

from browser import crossed, outside, overlaps
from camshaft import Engine, Events, Loop, Phase, record
from support.command_line import make_trace


def test_a_report_that_is_no_page_is_refused(run, folder):
    make_trace(folder / "run.jsonl")
    done = run("report", "run.jsonl", "-o", "report.txt")
    assert (done.returncode, done.stderr) == (2, "camshaft: a report is an HTML page: report.txt must end in .html\n")


def test_the_report_is_one_page(run, folder, page):
    make_trace(folder / "run.jsonl", handler_times=True)
    done = run("report", "run.jsonl", "-o", "page.html", "--chrome-trace", "perfetto.json")
    assert (done.returncode, done.stdout) == (0, "page.html: 31 events in 1 run\n")
    page.show((folder / "page.html").read_text(), width=1200)
    assert not page.errors
    for picture in ("svg.timeline", "svg.camshaft"):
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
    assert "2 violations of the event order" in text
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
    parts = page.evaluate("() => document.querySelectorAll('svg.timeline rect').length")
    assert 100 < parts < 6 * 600
    titles = page.evaluate(
        "() => [...document.querySelectorAll('svg.timeline title')].map(title => title.textContent).join()"
    )
    assert "FORWARD ×" in titles


def test_the_report_of_nothing(page):
    from camshaft.draw.report import report

    with record() as trace:
        pass
    page.show(report(trace), width=800)
    assert "0 events in 0 runs" in page.evaluate("() => document.body.innerText")


def test_the_timeline_shows_each_span_in_its_place(page):
    from camshaft.draw.timeline import timeline

    loop = Loop("EPOCH", Phase("A", lambda e, b: None), Phase("B", lambda e, b: None), times=2)
    with record() as trace:
        Engine(loop, name="worker").run()
    page.show(timeline(trace), width=1200)
    geometry = page.geometry("svg.timeline")
    rows = {}
    for node in geometry.nodes:
        rows.setdefault(round(node.box.top), []).append(node.box)
    tops = sorted(rows)
    assert [len(rows[top]) for top in tops][:2] == [1, 2]
    for inner in rows[tops[1]]:
        assert rows[tops[0]][0].left - 0.5 <= inner.left < inner.right <= rows[tops[0]][0].right + 0.5
