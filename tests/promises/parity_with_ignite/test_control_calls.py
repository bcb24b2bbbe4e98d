"""Differences between pytorch-ignite and camshaft in control calls."""

from __future__ import annotations

import ignite.engine
import pytest

import camshaft
from camshaft.testing import Call, Data, PlantedError
from support.ignite_differences import (
    a_control_call_at_terminate_single_epoch,
    a_control_call_in_the_step,
    an_interrupt_at_dataloader_stop_iteration,
    differing,
    several_control_calls_at_once,
    terminate_at_interrupt,
    terminate_at_terminate,
    terminate_epoch_at_epoch_started,
    terminate_epoch_at_exception_raised_before_an_epoch,
    terminate_epoch_at_started,
)
from support.ignite_parity import program
from support.steps import no_op

# -- differences that random programs avoid ----------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["STEP", "y"])
def test_a_control_call_in_the_step(at):
    ours, theirs = differing(a_control_call_in_the_step, program(Call(at, 2, "terminate", False), fires=["y"]))
    assert theirs.after("iteration_started", 2) == ["y", "iteration_completed", "terminate", "completed"]
    assert ours.after("iteration_started", 2) == ["y", "terminate", "completed"]


@pytest.mark.parametrize(
    ("one", "other", "by_ignite", "by_camshaft"),
    [
        (
            ("terminate_epoch", False),
            ("interrupt", None),
            ["terminate_single_epoch", "epoch_completed", "interrupt", "completed"],
            ["terminate_single_epoch", "epoch_completed", "completed"],
        ),
        (
            ("terminate_epoch", False),
            ("terminate_epoch", True),
            ["terminate_single_epoch", "completed"],
            ["terminate_single_epoch", "epoch_completed", "completed"],
        ),
        (("terminate", False), ("terminate", True), ["terminate"], ["terminate", "completed"]),
    ],
)
def test_several_control_calls_at_once(one, other, by_ignite, by_camshaft):
    calls = [Call("iteration_completed", 2, *one), Call("iteration_completed", 2, *other)]
    ours, theirs = differing(several_control_calls_at_once, program(*calls))
    assert theirs.after("iteration_completed", 2) == by_ignite
    assert ours.after("iteration_completed", 2) == by_camshaft


@pytest.mark.parametrize(
    ("call", "by_ignite", "by_camshaft"),
    [
        (("terminate", False), ["epoch_completed", "terminate", "completed"], ["terminate", "completed"]),
        (
            ("interrupt", None),
            ["epoch_completed", "interrupt", "completed"],
            ["interrupt", "epoch_completed", "completed"],
        ),
        (("terminate_epoch", True), ["completed"], ["epoch_completed", "completed"]),
    ],
)
def test_a_control_call_at_terminate_single_epoch(call, by_ignite, by_camshaft):
    calls = [Call("iteration_started", 2, "terminate_epoch", False), Call("terminate_single_epoch", 1, *call)]
    ours, theirs = differing(a_control_call_at_terminate_single_epoch, program(*calls))
    assert theirs.after("terminate_single_epoch") == by_ignite
    assert ours.after("terminate_single_epoch") == by_camshaft


@pytest.mark.parametrize(
    ("what", "stops"),
    [
        ("terminate", ["terminate", "completed"]),
        ("terminate_epoch", ["terminate_single_epoch", "epoch_completed", "completed"]),
    ],
)
def test_terminate_at_interrupt(what, stops):
    calls = [Call("iteration_started", 2, "interrupt"), Call("interrupt", 1, what, False)]
    ours, theirs = differing(terminate_at_interrupt, program(*calls))
    assert theirs.after("interrupt") == ["iteration_completed", *stops]
    assert ours.after("interrupt") == stops
    ours, theirs = differing(terminate_at_interrupt, program(*calls, resumes=0))
    assert theirs.runs[0].is_paused
    assert theirs.after("interrupt") == []
    assert not ours.runs[0].is_paused


@pytest.mark.parametrize("skips_first", [True, False])
def test_terminate_at_terminate(skips_first):
    calls = [Call("iteration_started", 2, "terminate", skips_first), Call("terminate", 1, "terminate", not skips_first)]
    ours, theirs = differing(terminate_at_terminate, program(*calls))
    assert theirs.after("terminate") == ["completed"] * skips_first
    assert ours.after("terminate") == ["completed"] * (not skips_first)


def test_terminate_epoch_at_started():
    differing(terminate_epoch_at_started, program(Call("started", 1, "terminate_epoch", False)))
    for library, calls_after_it, message in [
        (ignite.engine, ["called"], "should not be called on Event.STARTED or Event.EPOCH_STARTED"),
        (camshaft, [], "none has begun; call it from EPOCH_STARTED on"),
    ]:
        trainer, called = library.Engine(no_op), []
        trainer.add_event_handler(library.Events.STARTED, lambda engine: engine.terminate_epoch())
        trainer.add_event_handler(library.Events.STARTED, lambda: called.append("called"))
        with pytest.raises(RuntimeError, match=message):
            trainer.run([1])
        assert called == calls_after_it


def test_terminate_epoch_at_epoch_started():
    call = Call("epoch_started", 1, "terminate_epoch", False)
    ours, theirs = differing(terminate_epoch_at_epoch_started, program(call, max_epochs=2))
    assert theirs.after("epoch_started") == ["exception_raised"]
    assert isinstance(theirs.runs[0].error, RuntimeError)
    assert ours.after("epoch_started")[:3] == ["terminate_single_epoch", "epoch_completed", "epoch_started"]
    assert ours.runs[0].error is None


def test_terminate_epoch_at_exception_raised_before_an_epoch():
    calls = [Call("started", 1, "raise", PlantedError), Call("exception_raised", 1, "terminate_epoch", False)]
    ours, theirs = differing(terminate_epoch_at_exception_raised_before_an_epoch, program(*calls, swallow=True))
    assert theirs.runs[0].error is None
    assert isinstance(ours.runs[0].error.__cause__, RuntimeError)
    assert "none has begun" in str(ours.runs[0].error.__cause__)


def test_an_interrupt_at_dataloader_stop_iteration():
    call = Call("dataloader_stop_iteration", 1, "interrupt")
    ours, theirs = differing(an_interrupt_at_dataloader_stop_iteration, program(call, data=Data(2), epoch_length=3))
    assert theirs.after("dataloader_stop_iteration")[:3] == ["interrupt", "get_batch_started", "get_batch_completed"]
    assert ours.after("dataloader_stop_iteration")[:2] == ["interrupt", "get_batch_completed"]


# -- differences that random programs do not reach ---------------------------------------------------------------------


def test_terminate_as_a_handler():
    def completes(library):
        trainer, completed = library.Engine(no_op), []
        trainer.add_event_handler(library.Events.ITERATION_STARTED(once=2), trainer.terminate)
        trainer.add_event_handler(library.Events.COMPLETED, lambda: completed.append(True))
        assert trainer.run([1, 2, 3]).iteration == 2
        return completed

    assert completes(ignite.engine) == [], "the engine is passed, and taken for skip_completed"
    assert completes(camshaft) == [True]
