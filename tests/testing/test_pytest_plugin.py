"""The pytest plugin, in sessions of its own: inside this process where that shows the same, else in another."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camshaft import DATA, Engine, Events, Loop, Phase, every, record
from camshaft.testing import loops
from camshaft.testing.coverage import EventCoverage, MachineCoverage
from camshaft.testing.golden import Golden, difference, golden_text, last_events
from camshaft.testing.reporter import Reporter
from support.steps import nothing

pytest_plugins = ["pytester"]

ENGINES = """
import pytest
from camshaft import Engine, Events

def nothing(engine, batch):
    pass

def wrong_order(engine, batch):
    engine.fire_event("backward_completed")
    engine.fire_event("backward_started")

def make(step=nothing, name="trainer"):
    engine = Engine(step, name=name)
    engine.register_events("backward_started", "backward_completed")
    return engine

def make_pair():
    trainer, evaluator = Engine(nothing, name="trainer"), Engine(nothing, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1])
    return trainer, evaluator
"""

ILLEGAL = """\
trainer event #6 BACKWARD_COMPLETED is illegal in EPOCH 1 / ITERATION 1: [in BACKWARD] does not hold
    4  GET_BATCH_COMPLETED
    5  ITERATION_STARTED
  > 6  BACKWARD_COMPLETED
  expected: ITERATION_COMPLETED | BACKWARD_STARTED | ITERATION_SKIPPED | TERMINATE | INTERRUPT | \
TERMINATE_SINGLE_EPOCH | EXCEPTION_RAISED
  nearest legal order: BACKWARD_STARTED comes first
"""


class Sessions:
    """Runs pytest on a module of tests, with warnings as errors."""

    def __init__(self, pytester):
        self.pytester = pytester
        self.path = pytester.path
        options = "--strict-markers --import-mode=importlib -p no:cacheprovider"
        pytester.makeini(f"[pytest]\naddopts = {options}\nfilterwarnings = error\n")

    def write(self, tests):
        self.pytester.makepyfile(test_it=ENGINES + tests)

    def run(self, *args):
        return self.pytester.runpytest_inprocess(*args)

    def output(self, tests, *args, **outcomes):
        """What the session of these tests prints."""
        self.write(tests)
        result = self.run(*args)
        result.assert_outcomes(**outcomes)
        return str(result.stdout)


@pytest.fixture
def sessions(pytester):
    return Sessions(pytester)


def section(output, title):
    """The lines under a heading of the report, up to the next heading."""
    lines = iter(output.splitlines())
    for line in lines:
        if line.strip("-=_ ") == title and line != title:
            return list(itertools.takewhile(lambda line: not line.startswith(("---", "===", "___")), lines))
    raise AssertionError(f"no section {title!r} in\n{output}")


# -- nothing is imported unasked --------------------------------------------------------------------------------------


def test_a_session_that_uses_nothing_of_it_imports_neither_torch_nor_the_package(sessions):
    sessions.pytester.makeconftest(
        """
        import sys
        import pytest

        def loaded():
            return sorted({"torch", "camshaft", "camshaft_pytest"} & set(sys.modules))

        def pytest_unconfigure(config):
            print("\\nleft over:", loaded())
        """
    )
    sessions.pytester.makepyfile("def test_pass(): pass\ndef test_fail(): assert 0")
    for options in ((), ("--update-traces",), ("-n1",)):
        result = sessions.pytester.runpytest_subprocess(*options)
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*plugins:*camshaft*", "left over: ?'camshaft_pytest'?"])


def test_options_and_marker_are_documented(sessions):
    output = str(sessions.run("--help").stdout)
    for option in ("--update-traces", "--event-coverage ", "--event-coverage-fail-under=N"):
        assert option in output
    assert "@pytest.mark.legal_events: judge what every engine fires" in str(sessions.run("--markers").stdout)


# -- legal_events -----------------------------------------------------------------------------------------------------


def test_a_marked_test_whose_engine_breaks_its_order_fails_with_the_whole_text_and_nothing_else(sessions):
    output = sessions.output(
        """
@pytest.mark.legal_events
def test_order():
    make(wrong_order).run([1, 2])
""",
        failed=1,
    )
    assert "\n".join(section(output, "test_order")) + "\n" == ILLEGAL
    assert "FAILED test_it.py::test_order - Failed: trainer event #6 BACKWARD_COMPLETED" in output
    assert "camshaft_pytest.py" not in output


def test_the_line_that_fired_the_event_is_shown_when_asked_for(sessions):
    output = sessions.output(
        """
@pytest.mark.legal_events(call_sites=True)
def test_order():
    make(wrong_order).run([1, 2])
""",
        failed=1,
    )
    assert "  > 6  BACKWARD_COMPLETED  fired by test_it.py:8 in wrong_order" in output


@pytest.mark.parametrize("where", ["class", "module"])
def test_the_marker_counts_on_classes_and_modules(sessions, where):
    mark = "@pytest.mark.legal_events" if where == "class" else "pytestmark = pytest.mark.legal_events"
    output = sessions.output(
        f"""
{mark}
class TestOrder:
    def test_wrong(self):
        make(wrong_order).run([1])

    def test_right(self):
        make().run([1])

    def test_without_engine(self):
        pass
""",
        failed=1,
        passed=2,
    )
    assert "FAILED test_it.py::TestOrder::test_wrong" in output


def test_every_engine_is_judged_and_only_in_the_body_of_the_test(sessions):
    output = sessions.output(
        """
@pytest.fixture
def engine():
    engine = make(wrong_order)
    engine.run([1])
    yield engine
    engine.run([1], max_epochs=2)

@pytest.mark.legal_events
def test_fixture(engine):
    make().run([1])

@pytest.mark.legal_events
def test_nested():
    outer = Engine(nothing, name="outer")
    outer.nest(make(wrong_order, name="inner"), on=Events.EPOCH_STARTED, data=[1])
    outer.run([1])

def test_not_marked():
    make(wrong_order).run([1])
""",
        passed=2,
        failed=1,
    )
    assert "inner event #8 BACKWARD_COMPLETED is illegal" in output


def test_a_failure_of_its_own_stays_and_a_section_says_what_was_illegal(sessions):
    output = sessions.output(
        """
@pytest.mark.legal_events
def test_wrong():
    make(wrong_order).run([1, 2])
    assert 1 == 2

@pytest.mark.legal_events
def test_right():
    make().run([1, 2])
    assert 1 == 2

@pytest.mark.legal_events
def test_raising():
    make(lambda engine, batch: 1 / 0).run([1, 2])
""",
        failed=3,
    )
    assert "\n".join(section(output, "illegal events")) + "\n" == ILLEGAL
    assert output.count("illegal events") == 1, "the failure of a run is an end that its machine knows"
    assert output.count("E       assert 1 == 2") == 2
    assert "E   ZeroDivisionError: division by zero" in output


def test_a_test_case_of_unittest_is_judged_too(sessions):
    output = sessions.output(
        """
import unittest

@pytest.mark.legal_events
class TestOrder(unittest.TestCase):
    def test_wrong(self):
        make(wrong_order).run([1, 2])

    def test_own_failure(self):
        make(wrong_order).run([1, 2])
        self.assertEqual(1, 2)
""",
        failed=2,
    )
    assert "\n".join(section(output, "TestOrder.test_wrong")) + "\n" == ILLEGAL
    assert "AssertionError: 1 != 2" in output
    assert "\n".join(section(output, "illegal events")) + "\n" == ILLEGAL


def test_a_marked_test_that_is_skipped_or_expected_to_fail(sessions):
    output = sessions.output(
        """
@pytest.mark.legal_events
def test_skipped():
    make(wrong_order).run([1])
    pytest.skip("not today")

@pytest.mark.legal_events
@pytest.mark.xfail
def test_known():
    make(wrong_order).run([1])
""",
        skipped=1,
        xfailed=1,
    )
    assert "illegal" not in output


def test_a_test_that_runs_again_is_judged_anew(sessions):
    sessions.pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            for log in (False, True):
                item._initrequest()
                runtestprotocol(item, log=log, nextitem=nextitem)
            return True
        """
    )
    sessions.output(
        """
steps = [nothing, wrong_order]

@pytest.mark.legal_events
def test_order(event_trace):
    with event_trace():
        make(steps.pop()).run([1])
""",
        passed=1,
    )


# -- event_trace ------------------------------------------------------------------------------------------------------


def test_a_failing_test_shows_the_last_events_that_it_recorded(sessions):
    output = sessions.output(
        """
def test_trace(event_trace):
    trainer, evaluator = make_pair()
    with event_trace() as trace:
        trainer.run([1, 2, 3], max_epochs=2)
    trace.assert_legal()
    assert len(trace) == 0
""",
        failed=1,
    )
    shown = section(output, "events recorded")
    assert shown[0] == "47 events, the last 30:"
    assert len(shown) == 31
    assert shown[1] == "18    evaluator GET_BATCH_STARTED 0"
    assert shown[-2:] == ["46    evaluator COMPLETED 1", "47  trainer COMPLETED 2"]


def test_only_the_engines_that_are_named_are_recorded_and_each_block_is_shown(sessions):
    output = sessions.output(
        """
def test_traces(event_trace):
    trainer, evaluator = make_pair()
    with event_trace(evaluator) as inner:
        trainer.run([1, 2], max_epochs=2)
    assert {event.engine for event in inner} == {"evaluator"}
    with pytest.raises(KeyError), event_trace(trainer, call_sites=True) as none:
        raise KeyError
    with event_trace(trainer) as outer:
        trainer.run([1, 2], max_epochs=3)
        1 / 0
""",
        failed=1,
    )
    assert output.count("- events recorded -") == 3
    assert "\nnothing was recorded\n" in output
    assert section(output, "events recorded")[1] == " 1  evaluator STARTED 0"
    assert ">           1 / 0" in output


def test_a_test_that_passes_shows_no_events(sessions):
    output = sessions.output(
        """
def test_trace(event_trace):
    with event_trace():
        make().run([1])

@pytest.mark.xfail
def test_known(event_trace):
    with event_trace():
        make().run([1])
    assert 0
""",
        "-rA",
        passed=1,
        xfailed=1,
    )
    assert "events recorded" not in output


def test_what_a_fixture_recorded_is_shown_when_it_fails(sessions):
    output = sessions.output(
        """
@pytest.fixture
def trained(event_trace):
    with event_trace():
        make(lambda engine, batch: 1 / 0).run([1])

def test_trained(trained):
    pass
""",
        errors=1,
    )
    assert section(output, "events recorded")[-1] == "6  trainer EXCEPTION_RAISED 1"


def test_engines_of_other_libraries_are_passed_on(sessions):
    output = sessions.output(
        """
from ignite.engine import Engine as IgniteEngine

def test_ignite(event_trace, golden_trace):
    trainer = IgniteEngine(nothing)
    with golden_trace("ignite", trainer):
        trainer.run([1])
    with event_trace(trainer) as trace:
        trainer.run([1], max_epochs=2)
    trace.assert_legal()
    assert trace.count("completed") == 2
""",
        "--update-traces",
        failed=1,
    )
    assert section(output, "events recorded")[-1].endswith("  engine COMPLETED 2")
    assert sessions.path.joinpath("traces", "ignite.txt").read_text().splitlines()[-1] == "engine COMPLETED 1"


def test_the_last_events_in_words():
    engine = Engine(nothing, name="trainer")
    with record() as trace:
        assert last_events(trace) == "nothing was recorded"
        engine.run([1])
    assert last_events(trace, 2).splitlines() == [
        "8 events, the last 2:",
        "7  trainer EPOCH_COMPLETED 1",
        "8  trainer COMPLETED 1",
    ]
    assert last_events(trace, 8).splitlines()[:2] == ["8 events:", "1  trainer STARTED 0"]


# -- golden_trace -----------------------------------------------------------------------------------------------------

GOLDEN = """
def test_golden(golden_trace):
    trainer, evaluator = make_pair()
    with golden_trace("two_epochs") as trace:
        trainer.run([1], max_epochs=2)
    trace.assert_legal()
"""

TEXT = """\
# camshaft golden trace 1
trainer STARTED 0
trainer EPOCH_STARTED 1
trainer GET_BATCH_STARTED 0
trainer GET_BATCH_COMPLETED 0
trainer ITERATION_STARTED 1
trainer ITERATION_COMPLETED 1
trainer EPOCH_COMPLETED 1
  evaluator STARTED 0
  evaluator EPOCH_STARTED 1
  evaluator GET_BATCH_STARTED 0
  evaluator GET_BATCH_COMPLETED 0
  evaluator ITERATION_STARTED 1
  evaluator ITERATION_COMPLETED 1
  evaluator EPOCH_COMPLETED 1
  evaluator COMPLETED 1
trainer EPOCH_STARTED 2
trainer GET_BATCH_STARTED 1
trainer DATALOADER_STOP_ITERATION 1
trainer GET_BATCH_COMPLETED 1
trainer ITERATION_STARTED 2
trainer ITERATION_COMPLETED 2
trainer EPOCH_COMPLETED 2
  evaluator STARTED 0
  evaluator EPOCH_STARTED 1
  evaluator GET_BATCH_STARTED 0
  evaluator GET_BATCH_COMPLETED 0
  evaluator ITERATION_STARTED 1
  evaluator ITERATION_COMPLETED 1
  evaluator EPOCH_COMPLETED 1
  evaluator COMPLETED 1
trainer COMPLETED 2
"""


def errors(output):
    """The lines of the failure alone."""
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


def test_a_golden_trace_that_is_missing_is_a_failure_that_says_how_to_write_it(sessions):
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
        "if the change is meant, run pytest with --update-traces",
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
        "run pytest with --update-traces to write it anew"
    ]


def test_bytes_that_are_no_text_are_a_difference(sessions):
    path = sessions.path / "traces" / "two_epochs.txt"
    path.parent.mkdir()
    path.write_bytes(TEXT.encode().replace(b"EPOCH_STARTED 1", b"EPOCH_\xff 1", 1))
    assert "at event 2" in errors(sessions.output(GOLDEN, failed=1))[0]


def test_golden_traces_of_named_engines_in_folders_and_of_several_tests(sessions):
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
        "AssertionError: traces/some.txt was written with other events before: give each trace its own name"
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
        "AssertionError: nothing was recorded for traces/nothing.txt: no engine ran, or none of those that are named"
    ]


@pytest.mark.parametrize(
    "name", ["", "../up", "a/../../up", "/etc/passwd", "a//b", "a/", ".", "..", "a\\b", "c:up", "a\0b", "a\nb"]
)
def test_a_name_that_would_leave_the_folder_is_refused(tmp_path, name):
    golden = Golden(tmp_path / "traces", True, {})
    with pytest.raises(ValueError, match="names no file in .*traces: give a name such as 'two_epochs'"):
        golden(name)


def test_a_name_that_was_forgotten_is_asked_for(tmp_path):
    with pytest.raises(TypeError, match="is no name: give one before the engines, as in golden_trace"):
        Golden(tmp_path, False, {})(Engine(nothing))


def test_names_of_engines_stay_on_their_line():
    odd, plain = Engine(nothing, name="two\nlines \u2028 \udc80"), Engine(nothing, name="über # 1")
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
def test_a_difference_names_the_first_line_that_differs_and_shows_it(one, other):
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


# -- event coverage ---------------------------------------------------------------------------------------------------

COVERED = """
@pytest.mark.parametrize("name", ["one", "other"])
def test_run(name):
    Engine(nothing, name=name).run([1, 2])

def test_terminated():
    trainer = make(name="trainer")
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: trainer.fire_event("backward_started"))
    trainer.add_event_handler(Events.ITERATION_STARTED, trainer.terminate)
    trainer.run([1, 2])
"""

REPORT = """\
one, other (EPOCH, ITERATION): 9/26 transitions taken, 34.6%
  STARTED -- COMPLETED --> COMPLETED
  EPOCH -- ITERATION_STARTED --> EPOCH/ITERATION
  EPOCH -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/GET_BATCH -- DATALOADER_STOP_ITERATION --> EPOCH/GET_BATCH/RESTART
  EPOCH/GET_BATCH -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/GET_BATCH/RESTART -- GET_BATCH_COMPLETED --> EPOCH/after GET_BATCH
  EPOCH/ITERATION -- ITERATION_SKIPPED --> EPOCH/after ITERATION
  EPOCH/after ITERATION -- ITERATION_STARTED --> EPOCH/ITERATION
  after EPOCH -- EPOCH_STARTED --> EPOCH
  EPOCH/TERMINATED -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/TERMINATED -- EPOCH_STARTED --> EPOCH
  EPOCH/TERMINATED -- COMPLETED --> COMPLETED
  TERMINATED -- COMPLETED --> COMPLETED
  EXCEPTION_RAISED anywhere in the run
  INTERRUPT anywhere in the run
  TERMINATE anywhere in the run
  TERMINATE_SINGLE_EPOCH anywhere within EPOCH
trainer (EPOCH, ITERATION, BACKWARD): 8/28 transitions taken, 28.5%
  STARTED -- COMPLETED --> COMPLETED
  EPOCH -- ITERATION_STARTED --> EPOCH/ITERATION
  EPOCH -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/GET_BATCH -- DATALOADER_STOP_ITERATION --> EPOCH/GET_BATCH/RESTART
  EPOCH/GET_BATCH -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/GET_BATCH/RESTART -- GET_BATCH_COMPLETED --> EPOCH/after GET_BATCH
  EPOCH/ITERATION -- ITERATION_COMPLETED --> EPOCH/after ITERATION
  EPOCH/ITERATION -- ITERATION_SKIPPED --> EPOCH/after ITERATION
  EPOCH/after ITERATION -- GET_BATCH_STARTED --> EPOCH/GET_BATCH
  EPOCH/after ITERATION -- ITERATION_STARTED --> EPOCH/ITERATION
  EPOCH/after ITERATION -- EPOCH_COMPLETED --> after EPOCH
  after EPOCH -- EPOCH_STARTED --> EPOCH
  after EPOCH -- COMPLETED --> COMPLETED
  EPOCH/TERMINATED -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/TERMINATED -- EPOCH_STARTED --> EPOCH
  EPOCH/TERMINATED -- COMPLETED --> COMPLETED
  BACKWARD_COMPLETED anywhere within ITERATION
  EXCEPTION_RAISED anywhere in the run
  INTERRUPT anywhere in the run
  TERMINATE_SINGLE_EPOCH anywhere within EPOCH
total: 17/54 transitions taken, 31.4%""".splitlines()


def test_the_report_shows_what_was_never_taken(sessions):
    assert section(sessions.output(COVERED, "--event-coverage", passed=3), "event coverage") == REPORT


def test_coverage_and_golden_traces_under_xdist(sessions):
    sessions.write(COVERED + GOLDEN.replace("test_golden", "test_golden1") + GOLDEN.replace("two_epochs", "more"))
    spread = sessions.run("-n2", "--update-traces", "--event-coverage-fail-under=90")
    alone = sessions.run("--update-traces", "--event-coverage-fail-under=90")
    for result in (spread, alone):
        result.assert_outcomes(passed=5)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert section(str(result.stdout), "golden traces") == ["2 golden traces written"]
    report = section(str(spread.stdout), "event coverage")
    assert report == section(str(alone.stdout), "event coverage")
    assert report[-1] == "event coverage: 35% is less than the 90% asked for"
    spread = sessions.run("-n1", "-k", "not golden", "--event-coverage-fail-under=31")
    assert spread.ret == pytest.ExitCode.OK
    assert section(str(spread.stdout), "event coverage") == REPORT


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("31.4", None), ("0", None), ("31.5", "31.4% is less than the 31.5%"), ("100", "31.4% is less than the 100%")],
)
def test_low_coverage_fails_the_session(sessions, wanted, said):
    sessions.write(COVERED)
    result = sessions.run("--color=yes", f"--event-coverage-fail-under={wanted}")
    result.assert_outcomes(passed=3)
    assert result.ret == (pytest.ExitCode.OK if said is None else pytest.ExitCode.TESTS_FAILED)
    red = f"\x1b[31m\x1b[1mevent coverage: {said} asked for\x1b[0m"
    assert (red in str(result.stdout)) == (said is not None)
    assert "total: 17/54 transitions taken, 31.4%" in str(result.stdout), "it implies the report"


def test_a_session_that_fails_by_itself_fails_as_such(sessions):
    sessions.write(COVERED + "\ndef test_wrong():\n    assert 0\n")
    assert sessions.run("--event-coverage-fail-under=10").ret == pytest.ExitCode.TESTS_FAILED
    assert sessions.run("--event-coverage-fail-under=10", "-k", "unknown").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_session_without_engines(sessions):
    sessions.write("def test_nothing():\n    pass\n")
    output = sessions.run("--event-coverage")
    assert section(str(output.stdout), "event coverage") == ["no engine ran"]
    assert output.ret == pytest.ExitCode.OK
    assert sessions.run("--event-coverage-fail-under=0").ret == pytest.ExitCode.OK
    result = sessions.run("--event-coverage-fail-under=1")
    assert section(str(result.stdout), "event coverage") == [
        "no engine ran",
        "event coverage: no engine ran, which is less than the 1% asked for",
    ]
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_collecting_tests_is_no_coverage(sessions):
    sessions.write(COVERED)
    result = sessions.run("--collect-only", "--event-coverage-fail-under=100")
    assert result.ret == pytest.ExitCode.OK
    assert "event coverage" not in str(result.stdout)


@pytest.mark.parametrize("text", ["101", "-1", "nan", "much"])
def test_what_is_no_percentage_is_refused(sessions, text):
    result = sessions.run(f"--event-coverage-fail-under={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{text!r} is no percentage: give a number from 0 to 100"])


def test_engines_in_fixtures_count_and_all_features_go_together(sessions):
    output = sessions.output(
        """
@pytest.fixture(scope="session", autouse=True)
def trained():
    Engine(nothing, name="before").run([1])
    yield
    Engine(nothing, name="after").run([1])

@pytest.mark.legal_events
def test_all(event_trace, golden_trace):
    with event_trace() as trace, golden_trace("all"):
        Engine(nothing, name="within").run([1])
""",
        "--event-coverage",
        "--update-traces",
        passed=1,
    )
    assert (
        section(output, "event coverage")[0]
        == "after, before, within (EPOCH, ITERATION): 8/26 transitions taken, 30.7%"
    )


def observed(*runs):
    coverage = EventCoverage()
    with coverage.observing():
        for run in runs:
            run()
    return coverage


def test_equal_loops_are_one_machine_and_others_are_not():
    def phases():
        return [Phase("A", lambda engine, batch: None), Phase("B", nothing, when=every(2))]

    coverage = observed(
        lambda: Engine(phases(), name="one").run([1]),
        lambda: Engine(phases(), name="two").run([1, 2]),
        lambda: Engine([Phase("A", nothing)], name="three").run([1]),
    )
    assert [list(machine.engines) for machine in coverage.machines.values()] == [["one", "two"], ["three"]]
    lines = list(coverage.report())
    assert lines[0].startswith("one, two (EPOCH, ITERATION, A, B): ")
    assert lines[-1] == f"total: {coverage.taken}/{coverage.total} transitions taken, {lines[-1].split()[-1]}"


def test_free_states_count_as_their_events_whatever_is_entered_meanwhile():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("A", nothing), over=DATA))
    names = [f"{state}_{end}" for state in "xyz" for end in ("started", "completed")]
    engine = Engine(loop)
    plain = MachineCoverage.of(engine.loop)
    engine.register_events(*names)
    machine = MachineCoverage.of(engine.loop)
    assert len(machine.transitions) == len(plain.transitions) + 6
    assert list(machine.transitions.values())[-10:-4] == [f"{name.upper()} anywhere within ITERATION" for name in names]

    @engine.on(Events.ITERATION_STARTED)
    def enter():
        engine.fire_event("x_started")
        engine.fire_event("y_started")

    @engine.on("a_completed")
    def leave():
        engine.fire_event("x_completed")
        engine.fire_event("y_completed")

    (taken,) = observed(lambda: engine.run([1])).machines.values()
    places = {place for place, _ in taken.taken}
    assert not any(place.endswith(("/X", "/Y", "/Z")) for place in places)
    assert {words for key, words in taken.transitions.items() if key in taken.taken} >= {
        "EPOCH/ITERATION -- A_STARTED --> EPOCH/ITERATION/A",
        "EPOCH/ITERATION/A -- A_COMPLETED --> EPOCH/ITERATION/after A",
        "EPOCH/ITERATION/after A -- ITERATION_COMPLETED --> EPOCH/after ITERATION",
        *(f"{name}_{end} anywhere within ITERATION" for name in "XY" for end in ("STARTED", "COMPLETED")),
    }


def test_a_run_that_pauses_is_followed_on_and_one_met_in_the_middle_too():
    engine, other = Engine(nothing), Engine(nothing)
    for one in (engine, other):
        one.add_event_handler(Events.GET_BATCH_COMPLETED(once=1), one.interrupt)
    whole = observed(lambda: engine.run([1, 2, 3]), engine.run)
    other.run([1, 2, 3])
    rest = observed(other.run)
    (taken,), (later,) = [[machine.taken for machine in seen.machines.values()] for seen in (whole, rest)]
    assert later == {
        ("EPOCH/after GET_BATCH", "iteration_started"),
        ("EPOCH/ITERATION", "iteration_completed"),
        ("EPOCH/after ITERATION", "get_batch_started"),
        ("EPOCH/GET_BATCH", "get_batch_completed"),
        ("EPOCH/after ITERATION", "epoch_completed"),
        ("after EPOCH", "completed"),
    }
    first = {("READY", "started"), ("STARTED", "epoch_started"), ("EPOCH", "get_batch_started"), ("", "interrupt")}
    assert taken == later | first


def test_an_illegal_event_takes_no_transition():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("A"), over=DATA))
    report = Reporter(loop, name="by hand")
    coverage = EventCoverage()
    with coverage.observing(), report:
        for event in ("started", "a_completed", "epoch_started"):
            report(event)
    (machine,) = coverage.machines.values()
    assert sorted(machine.taken) == [("READY", "started"), ("STARTED", "epoch_started")]


def test_what_a_worker_sends_adds_up():
    first = observed(lambda: Engine(nothing, name="one").run([1]))
    second = observed(lambda: Engine(nothing, name="two").run([1, 2]), lambda: Engine([Phase("A", nothing)]).run([1]))
    merged = EventCoverage()
    for coverage in (first, second, first):
        merged.merge(coverage.dump())
    assert merged.total == second.total
    assert len(merged.machines) == 2
    assert next(iter(merged.machines.values())).engines == {"one": None, "two": None}
    assert list(merged.report())[-1].startswith("total: ")
    assert merged.taken == second.taken


def test_long_lists_of_names_are_cut():
    coverage = observed(*(lambda name=name: Engine(nothing, name=f"e{name}").run([1]) for name in range(10, 30)))
    assert next(coverage.report()).startswith("e10, e11, e12, e13, e14, e15, e16, e17, 12 more (EPOCH, ITERATION): ")


def test_all_but_one_of_many_transitions_is_less_than_all():
    coverage = observed(lambda: Engine(nothing).run([1]))
    (machine,) = coverage.machines.values()
    machine.transitions = {(str(number), "x"): "x" for number in range(9999)}
    machine.taken = set(list(machine.transitions)[:-1])
    assert next(coverage.report()).endswith("9998/9999 transitions taken, 99.9%")
    assert coverage.shortfall(99.98) is None
    assert coverage.shortfall(100) == "event coverage: 99.9% is less than the 100% asked for"


@given(loops())
def test_what_is_counted_is_what_the_declaration_has(loop):
    """For any loop: each step of the machine counts as something that is said in words, and as one thing only."""
    machine = MachineCoverage.of(loop)
    assert {counted for counted, _ in machine.steps.values()} == set(machine.transitions)
    assert len(set(machine.transitions.values())) == len(machine.transitions)
    without = MachineCoverage.of(loop.evolve(free=()))
    events = sum(len(state.events) for state in loop.free)
    assert len(machine.transitions) == len(without.transitions) + events


# -- comparing in an assert statement ---------------------------------------------------------------------------------


def test_an_assert_that_compares_events_shows_where_they_part(sessions):
    output = sessions.output(
        """
def test_list(event_trace):
    with event_trace() as trace:
        make().run([1])
    names = "started epoch_started get_batch_started get_batch_completed iteration_started epoch_completed".split()
    assert trace == names

def test_shorter(event_trace):
    with event_trace() as trace:
        make().run([1])
    assert ["started"] == trace[:1].select(event="started")
    assert trace[:2] == ["started"]

def test_traces(event_trace):
    with event_trace() as one:
        make().run([1])
    with event_trace() as two:
        make().run([1, 2])
    assert one == two
""",
        failed=3,
    )
    shown = [line.removeprefix("E").strip() for line in output.splitlines() if line.startswith("E  ")]
    assert shown == [
        "assert 8 events, 6 expected: they part here",
        "4  GET_BATCH_COMPLETED",
        "5  ITERATION_STARTED",
        "> 6  ITERATION_COMPLETED",
        "expected: EPOCH_COMPLETED",
        "assert 2 events, 1 expected: they part here",
        "1  STARTED",
        "> 2  EPOCH_STARTED",
        "expected: nothing more",
        "assert 8 events, 12 expected: they part here",
        "5  trainer ITERATION_STARTED 1",
        "6  trainer ITERATION_COMPLETED 1",
        "> 7  trainer EPOCH_COMPLETED 1",
        "expected: trainer GET_BATCH_STARTED 1",
    ]
