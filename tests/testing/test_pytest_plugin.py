"""The pytest plugin: markers, fixtures and asserts, in separate sessions."""

from __future__ import annotations

import pytest

from camshaft import Engine, record
from camshaft.testing.golden import last_events
from support.sessions import ILLEGAL, section
from support.steps import no_op

pytest_plugins = ["pytester"]


# -- imports ----------------------------------------------------------------------------------------------------------


def test_an_unused_plugin_imports_neither_torch_nor_camshaft(sessions):
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
    assert "@pytest.mark.legal_events: fail if an engine fires an illegal event" in str(
        sessions.run("--markers").stdout
    )


# -- legal_events ------------------------------------------------------------------------------------------------------


def test_a_marked_test_fails_where_an_engine_breaks_its_order(sessions):
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
        failed=2,
        passed=1,
    )
    assert "FAILED test_it.py::TestOrder::test_wrong" in output
    assert "FAILED test_it.py::TestOrder::test_without_engine" in output
    assert "no engine ran in the body of this test, so nothing was checked" in output


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


def test_a_failure_of_its_own_stays_beside_illegal_order(sessions):
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


# -- event_trace -------------------------------------------------------------------------------------------------------


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


def test_only_named_engines_are_recorded_and_shown(sessions):
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
    engine = Engine(no_op, name="trainer")
    with record() as trace:
        assert last_events(trace) == "nothing was recorded"
        engine.run([1])
    assert last_events(trace, 2).splitlines() == [
        "8 events, the last 2:",
        "7  trainer EPOCH_COMPLETED 1",
        "8  trainer COMPLETED 1",
    ]
    assert last_events(trace, 8).splitlines()[:2] == ["8 events:", "1  trainer STARTED 0"]


# -- assert statements that compare traces ----------------------------------------------------------------------------


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
        "assert 8 events, 6 expected; the first difference:",
        "4  GET_BATCH_COMPLETED",
        "5  ITERATION_STARTED",
        "> 6  ITERATION_COMPLETED",
        "expected: EPOCH_COMPLETED",
        "assert 2 events, 1 expected; the first difference:",
        "1  STARTED",
        "> 2  EPOCH_STARTED",
        "expected: nothing more",
        "assert 8 events, 12 expected; the first difference:",
        "5  trainer ITERATION_STARTED 1",
        "6  trainer ITERATION_COMPLETED 1",
        "> 7  trainer EPOCH_COMPLETED 1",
        "expected: trainer GET_BATCH_STARTED 1",
    ]
