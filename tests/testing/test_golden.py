"""Golden traces: how they are written, and how differences are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft import Engine, record
from camshaft.testing.golden import Golden, difference, golden_text
from support.sessions import GOLDEN, TEXT, section
from support.steps import no_op

pytest_plugins = ["pytester"]


def errors(output):
    """Return the lines of the error message in a report."""
    return [line.removeprefix("E").strip() for line in output.splitlines() if line.startswith("E ")]


def test_a_golden_trace_is_written_and_equal_from_then_on(sessions):
    output = sessions.output(GOLDEN, "--update-traces", passed=1)
    assert section(output, "golden traces") == ["1 golden trace written"]
    path = sessions.path / "traces" / "two_epochs.txt"
    assert path.read_bytes() == TEXT.encode()
    assert sorted(sessions.path.joinpath("traces").iterdir()) == [path], "nothing unfinished stays"
    sessions.output(GOLDEN, passed=1)
    output = sessions.output(GOLDEN, "--update-traces", passed=1)
    assert path.read_bytes() == TEXT.encode(), "the same run gives the same bytes"
    path.write_bytes(TEXT.replace("\n", "\r\n").encode())
    assert "golden traces" not in sessions.output(GOLDEN, passed=1), "git may have changed the ends of lines"


def test_a_missing_golden_trace_says_how_to_write_it(sessions):
    output = sessions.output(GOLDEN, failed=1)
    assert errors(output) == [
        "AssertionError: traces/two_epochs.txt does not exist: run pytest with --update-traces to write it"
    ]
    assert '>       with golden_trace("two_epochs") as trace:' in output
    assert "golden.py" not in output, "no frame of the plugin is shown"
    assert not sessions.path.joinpath("traces").exists()


def test_a_golden_trace_that_differs_shows_where_and_what_to_do(sessions):
    path = sessions.path / "traces" / "two_epochs.txt"
    path.parent.mkdir()
    lines = TEXT.splitlines()
    changed = [*lines[:7], "  evaluator STARTED 0", *lines[7:19], *lines[20:]]
    path.write_text("\n".join(changed) + "\n")
    output = sessions.output(GOLDEN, failed=1)
    assert errors(output) == [
        "AssertionError: the trace differs from traces/two_epochs.txt at event 7",
        "--- traces/two_epochs.txt, 31 events",
        "+++ this run, 31 events",
        "trainer GET_BATCH_COMPLETED 0",
        "trainer ITERATION_STARTED 1",
        "trainer ITERATION_COMPLETED 1",
        "-  evaluator STARTED 0",
        "trainer EPOCH_COMPLETED 1",
        "evaluator STARTED 0",
        "evaluator EPOCH_STARTED 1",
        "evaluator GET_BATCH_STARTED 0",
        "evaluator GET_BATCH_COMPLETED 0",
        "evaluator ITERATION_STARTED 1",
        "evaluator ITERATION_COMPLETED 1",
        "evaluator EPOCH_COMPLETED 1",
        "evaluator COMPLETED 1",
        "trainer EPOCH_STARTED 2",
        "trainer GET_BATCH_STARTED 1",
        "trainer DATALOADER_STOP_ITERATION 1",
        "+trainer GET_BATCH_COMPLETED 1",
        "trainer ITERATION_STARTED 2",
        "trainer ITERATION_COMPLETED 2",
        "trainer EPOCH_COMPLETED 2",
        "if the change is intended, run pytest with --update-traces",
    ]
    assert "golden.py" not in output
    sessions.output(GOLDEN, "--update-traces", passed=1)
    assert path.read_text() == TEXT


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("", ""),
        ("trainer STARTED 0\n", "trainer STARTED 0"),
        ("# camshaft golden trace 2\n", "# camshaft golden trace 2"),
    ],
)
def test_a_file_of_another_format_is_named_as_such(sessions, text, first):
    path = sessions.path / "traces" / "two_epochs.txt"
    path.parent.mkdir()
    path.write_text(text)
    assert errors(sessions.output(GOLDEN, failed=1)) == [
        f"AssertionError: traces/two_epochs.txt does not begin with '# camshaft golden trace 1', but with {first!r}: "
        "run pytest with --update-traces to write it again"
    ]


def test_bytes_that_are_no_text_are_a_difference(sessions):
    path = sessions.path / "traces" / "two_epochs.txt"
    path.parent.mkdir()
    path.write_bytes(TEXT.encode().replace(b"EPOCH_STARTED 1", b"EPOCH_\xff 1", 1))
    assert "at event 2" in errors(sessions.output(GOLDEN, failed=1))[0]


def test_golden_traces_of_named_engines_in_folders(sessions):
    output = sessions.output(
        """
@pytest.mark.parametrize("epochs", [1, 2])
def test_trainer(golden_trace, epochs):
    trainer, evaluator = make_pair()
    with golden_trace(f"trainer/{epochs}.epochs", trainer):
        trainer.run([1], max_epochs=epochs)
    with golden_trace("evaluator", evaluator):
        evaluator.run([1])
""",
        "--update-traces",
        passed=2,
    )
    assert section(output, "golden traces") == ["3 golden traces written"]
    folder = sessions.path / "traces"
    assert "evaluator" not in (folder / "trainer" / "2.epochs.txt").read_text()
    assert (folder / "trainer" / "1.epochs.txt").read_text().count("\n") == 9
    sessions.run().assert_outcomes(passed=2)


def test_one_name_for_two_traces_is_refused_when_they_are_written(sessions):
    output = sessions.output(
        """
@pytest.mark.parametrize("epochs", [1, 2])
def test_trainer(golden_trace, epochs):
    with golden_trace("some"):
        make().run([1], max_epochs=epochs)
""",
        "--update-traces",
        passed=1,
        failed=1,
    )
    assert errors(output) == [
        "AssertionError: traces/some.txt was already written with other events: give each trace its own name"
    ]


def test_an_exception_in_the_block_passes_and_nothing_is_written(sessions):
    output = sessions.output(
        """
def test_raising(golden_trace):
    with pytest.raises(ZeroDivisionError), golden_trace("raising"):
        make(lambda engine, batch: 1 / 0).run([1])
    with golden_trace("raising"):
        raise ValueError("mine")
""",
        "--update-traces",
        failed=1,
    )
    assert errors(output) == ["ValueError: mine"]
    assert section(output, "golden traces") == ["no golden traces written"]
    assert not sessions.path.joinpath("traces").exists()


@pytest.mark.parametrize("options", [(), ("--update-traces",)])
def test_a_golden_trace_of_nothing_is_a_failure(sessions, options):
    output = sessions.output(
        """
def test_golden(golden_trace):
    trainer, evaluator = make_pair()
    with golden_trace("nothing", Engine(nothing)):
        trainer.run([1])
""",
        *options,
        failed=1,
    )
    assert errors(output) == [
        "AssertionError: nothing was recorded for traces/nothing.txt: no engine ran, or none of those given to "
        "golden_trace"
    ]


@pytest.mark.parametrize(
    "name", ["", "../up", "a/../../up", "/etc/passwd", "a//b", "a/", ".", "..", "a\\b", "c:up", "a\0b", "a\nb"]
)
def test_a_name_that_would_leave_the_folder_is_refused(tmp_path, name):
    golden = Golden(tmp_path / "traces", True, {})
    with pytest.raises(ValueError, match="name must name a file in .*traces, such as 'two_epochs', got "):
        golden(name)


def test_a_name_that_was_forgotten_is_asked_for(tmp_path):
    with pytest.raises(
        TypeError, match="name must be a string, got .*: give it before the engines, as in golden_trace"
    ):
        Golden(tmp_path, False, {})(Engine(no_op))


def test_names_of_engines_stay_on_their_line():
    odd, plain = Engine(no_op, name="two\nlines \u2028 \udc80"), Engine(no_op, name="über # 1")
    with record() as trace:
        odd.run([1])
        plain.run([1])
    lines = golden_text(trace).splitlines()
    assert len(lines) == 17
    assert lines[1] == "two\\nlines \\u2028 \\udc80 STARTED 0"
    assert lines[-1] == "über # 1 COMPLETED 1"
    golden_text(trace).encode()


LINES = st.lists(st.sampled_from("abc"), max_size=12)


@given(LINES, LINES)
def test_a_difference_shows_the_first_line_that_differs(one, other):
    if one == other:
        return
    number, diff = difference(one, other)
    assert one[: number - 1] == other[: number - 1]
    assert one[number - 1 : number] != other[number - 1 : number]
    marked = [line for line in diff if line[0] in "+-"]
    assert marked
    removed, added = ["".join(line[1:] for line in diff if line[0] in kind) for kind in (" -", " +")]
    assert removed in "".join(one)
    assert added in "".join(other)
    assert len(removed) - len(added) == len(one) - len(other)


def test_the_difference_of_long_traces_is_short():
    one = [f"trainer ITERATION_STARTED {number}" for number in range(100_000)]
    number, diff = difference(one, [*one[:50_000], "trainer TERMINATE 50000", *one[50_000:]])
    assert number == 50_001
    assert diff == [*(f" {line}" for line in one[49_997:50_000]), "+trainer TERMINATE 50000"] + [
        f" {line}" for line in one[50_000:50_003]
    ]
    number, diff = difference(one, [f"evaluator ITERATION_STARTED {number}" for number in range(100_000)])
    assert number == 1
    assert len(diff) == 41
    assert diff[-1] == "..."
