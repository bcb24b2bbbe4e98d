"""Differences between pytorch-ignite and camshaft in failures."""

from __future__ import annotations

import gc

import ignite.engine
import pytest

import camshaft
from camshaft import event
from camshaft.testing import Call, PlantedError
from support.ignite_differences import (
    a_failure_in_an_iteration_that_a_handler_suppresses,
    a_failure_that_a_handler_observes,
    a_keyboard_interrupt_that_a_handler_suppresses,
    differing,
)
from support.ignite_engines import run_out
from support.ignite_parity import program
from support.steps import no_op

# -- differences that random programs avoid ----------------------------------------------------------------------------


def test_a_failure_that_a_handler_observes():
    call = Call("epoch_started", 1, "raise", PlantedError)
    ours, theirs = differing(a_failure_that_a_handler_observes, program(call, handlers=[event("exception_raised")]))
    assert theirs.runs[0].error is None
    assert isinstance(ours.runs[0].error, PlantedError)
    assert theirs.after("epoch_started") == ours.after("epoch_started") == ["exception_raised"]


def test_a_keyboard_interrupt_that_a_handler_suppresses():
    call = Call("epoch_started", 1, "raise", KeyboardInterrupt)
    ours, theirs = differing(a_keyboard_interrupt_that_a_handler_suppresses, program(call, swallow=True))
    assert theirs.runs[0].error is None
    assert isinstance(ours.runs[0].error, KeyboardInterrupt)
    assert theirs.after("epoch_started") == ours.after("epoch_started") == ["exception_raised"]


def test_a_failure_in_an_iteration_that_a_handler_suppresses():
    call = Call("iteration_started", 2, "raise", PlantedError)
    ours, theirs = differing(
        a_failure_in_an_iteration_that_a_handler_suppresses, program(call, swallow=True, max_epochs=2)
    )
    assert theirs.after("iteration_started", 2)[:3] == ["exception_raised", "epoch_completed", "epoch_started"]
    assert ours.after("iteration_started", 2) == ["exception_raised"]
    assert theirs.runs[0].states["trainer"]["epoch"] == 2
    assert ours.runs[0].states["trainer"]["epoch"] == 1


# -- differences that random programs do not reach ---------------------------------------------------------------------


def test_a_failure_without_handlers():
    def last_of(library):
        trainer = library.Engine(lambda engine, batch: 1 / 0)
        assert isinstance(run_out(trainer, [1]), ZeroDivisionError)
        return trainer.last_event_name.value

    assert last_of(ignite.engine) == "iteration_started", "EXCEPTION_RAISED does not fire at all"
    assert last_of(camshaft) == "exception_raised"


def test_a_handler_of_exception_raised_that_was_removed():
    def run(library):
        trainer = library.Engine(lambda engine, batch: 1 / 0)
        with trainer.add_event_handler(library.Events.EXCEPTION_RAISED, lambda error: True):
            pass
        return trainer.run([1])

    assert run(ignite.engine).iteration == 1, "it takes the exception still"
    with pytest.raises(ZeroDivisionError):
        run(camshaft)


@pytest.mark.parametrize(("fails_at", "times"), [("ITERATION_STARTED", 2), ("EPOCH_STARTED", 1)])
def test_a_handler_of_exception_raised_that_raises(fails_at, times):
    def raised(library):
        trainer, errors = library.Engine(no_op), []
        trainer.add_event_handler(library.Events[fails_at], lambda: 1 / 0)

        @trainer.on(library.Events.EXCEPTION_RAISED)
        def fail(engine, error):
            errors.append(type(error))
            raise KeyError

        left = run_out(trainer, [1])
        assert isinstance(left, KeyError)
        return errors, type(left.__context__)

    assert raised(ignite.engine)[0] == [ZeroDivisionError, KeyError][:times]
    assert raised(camshaft) == ([ZeroDivisionError], ZeroDivisionError)


def test_a_handler_that_raises_stop_iteration_during_a_fetch():
    def stopped(library):
        trainer = library.Engine(no_op)

        @trainer.on(library.Events.GET_BATCH_COMPLETED)
        def stop(engine):
            if engine.state.iteration == 1:
                raise StopIteration

        return trainer

    trainer = stopped(ignite.engine)
    with pytest.warns(UserWarning, match="can not provide data anymore"):
        assert trainer.run([1, 2, 3], max_epochs=2).iteration == 1, "it is taken for the end of the data"
    error = run_out(stopped(camshaft), [1, 2, 3], max_epochs=2)
    assert isinstance(error, RuntimeError)
    assert isinstance(error.__cause__, StopIteration)


def test_a_paused_engine_that_is_garbage_collected():
    def raised(library):
        errors = []
        trainer = library.Engine(no_op)
        trainer.add_event_handler(library.Events.EXCEPTION_RAISED, lambda error: errors.append(type(error)))
        trainer.add_event_handler(library.Events.STARTED, lambda engine: engine.interrupt())
        trainer.run([1])
        del trainer
        gc.collect()
        return errors

    assert raised(ignite.engine) == [GeneratorExit]
    assert raised(camshaft) == []
