"""Random loops, scenarios and traces: what they are, and that failures shrink to a few lines."""

from __future__ import annotations

import pytest
from hypothesis import find, given, settings

from camshaft import DATA, EventOrderError, Loop, OpaqueStep
from camshaft.testing import illegal_traces, loops, return_batch, scenarios, traces
from support.declared import NAMES, STANDARD


@given(loops())
def test_a_loop_is_shown_as_the_python_that_declares_it(loop):
    assert eval(repr(loop), NAMES) == loop


@given(traces(loops()))
def test_random_traces_are_legal(trace):
    trace.assert_legal()


@given(illegal_traces(loops()))
def test_illegal_traces_are_not_legal(trace):
    with pytest.raises(EventOrderError):
        trace.assert_legal()


@pytest.mark.parametrize("event", ["optim_step_completed", "terminate", "exception_raised", "iteration_skipped"])
def test_random_traces_reach_whatever_a_loop_can_fire(event):
    find(traces(STANDARD), lambda trace: any(one.event == event for one in trace), settings=settings(max_examples=3000))


def test_a_found_failure_shrinks_to_a_few_lines():
    """Print the smallest scenario with three iterations as a program of a few lines."""
    loop = Loop("EPOCH", Loop("ITERATION", OpaqueStep(return_batch), over=DATA))

    @settings(max_examples=2000, database=None, derandomize=True, report_multiple_bugs=False)
    @given(scenarios(loop))
    def few_iterations(scenario):
        assert scenario.play().engine.state.iteration < 3

    with pytest.raises(AssertionError) as caught:
        few_iterations()
    program = caught.value.__notes__[0]
    assert program.splitlines()[-4:] == [
        'trainer = Engine(Loop("EPOCH", Loop("ITERATION", OpaqueStep(return_batch), over=DATA)), \'trainer\')',
        "with record() as trace:",
        "    trainer.run([0, 1, 2])",
        "trace.assert_legal()",
    ]
