"""Faults and control calls planted at the n-th firing of an event, on camshaft's engines and on those of ignite."""

from __future__ import annotations

import contextlib
import gc
import weakref

import ignite.engine
import pytest

import camshaft
from camshaft import BackpropEvents, Engine, Events, EventUnion, Phase, record
from camshaft.testing.faults import PlantedError, call_at, raise_at
from support.steps import no_op

LIBRARIES = [camshaft, ignite.engine]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_fault_is_raised_at_the_nth_firing(library):
    trainer = library.Engine(no_op)
    fault = raise_at(trainer, library.Events.ITERATION_STARTED, n=2, error=OSError("disk full"))
    with pytest.raises(OSError, match="disk full"):
        trainer.run([1, 2, 3])
    assert fault.reached
    assert trainer.state.iteration == 2


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_control_call_is_made_at_the_nth_firing(library):
    trainer = library.Engine(no_op)
    with call_at(trainer, library.Events.ITERATION_STARTED, trainer.terminate, n=2) as call:
        assert trainer.run([1, 2, 3], max_epochs=5).iteration == 2
    assert call.reached


@pytest.mark.parametrize("library", LIBRARIES)
def test_it_happens_once_and_counts_firings_over_all_runs(library):
    trainer, heard = library.Engine(no_op), []
    trainer.run([1, 2], max_epochs=1)
    with call_at(trainer, library.Events.ITERATION_STARTED, lambda: heard.append(trainer.state.iteration), n=3):
        trainer.run([1, 2], max_epochs=2)
        assert heard == []
        trainer.run([1, 2], max_epochs=4)
    assert heard == [5]


@pytest.mark.parametrize("library", LIBRARIES)
def test_it_is_removed_at_the_end_of_the_block_and_by_hand(library):
    trainer, heard = library.Engine(no_op), []
    with call_at(trainer, library.Events.STARTED, lambda: heard.append("in the block")):
        trainer.run([1])
    planted = call_at(trainer, library.Events.COMPLETED, lambda: heard.append("by hand"))
    planted.remove()
    planted.remove()
    trainer.run([1], max_epochs=3)
    assert heard == ["in the block"]
    assert not trainer.has_event_handler(planted)
    assert not planted.reached


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("n", "batches", "message"),
    [
        (3, 1, "ITERATION_STARTED fired 1 time, but the fault was planted at the 3rd time: the test proves nothing"),
        (12, 2, "ITERATION_STARTED fired 2 times, but the fault was planted at the 12th time: the test proves nothing"),
    ],
)
def test_a_moment_that_never_came_is_an_error(library, n, batches, message):
    trainer = library.Engine(no_op)
    with pytest.raises(AssertionError) as caught, raise_at(trainer, library.Events.ITERATION_STARTED, n=n) as fault:
        trainer.run(range(batches))
    assert str(caught.value) == message
    assert not fault.reached
    assert not trainer.has_event_handler(fault), "it was removed all the same"


def test_a_call_at_an_event_that_never_fired_is_an_error():
    trainer = Engine(no_op)
    message = "^TERMINATE never fired, but the call was planted at the 1st time: the test proves nothing$"
    with pytest.raises(AssertionError, match=message), call_at(trainer, Events.TERMINATE, trainer.interrupt):
        trainer.run([1])


def test_an_exception_on_its_way_out_is_not_replaced():
    trainer = Engine(no_op)
    with pytest.raises(KeyError), raise_at(trainer, Events.STARTED) as fault:
        raise KeyError
    trainer.run([1])
    assert not fault.reached


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_fault_passes_when_it_was_caught_inside_the_block(library):
    trainer = library.Engine(no_op)
    with raise_at(trainer, library.Events.EPOCH_COMPLETED) as fault, pytest.raises(PlantedError) as caught:
        trainer.run([1])
    assert fault.reached
    assert str(caught.value) == "planted at the 1st EPOCH_COMPLETED"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError, ValueError, "planted at the 1st STARTED"),
        (ValueError("mine"), ValueError, "mine"),
        (KeyboardInterrupt, KeyboardInterrupt, "planted at the 1st STARTED"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "mine"), UnicodeDecodeError, "mine"),
    ],
)
def test_the_error_is_an_instance_or_a_class(error, kind, message):
    trainer = Engine(no_op)
    with raise_at(trainer, Events.STARTED, error=error), pytest.raises(kind, match=message):
        trainer.run([1])


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_call_at_exception_raised_copes_with_the_exception(library):
    trainer, heard = library.Engine(lambda engine, batch: 1 / 0), []
    call_at(trainer, library.Events.EXCEPTION_RAISED, lambda: heard.append(trainer.state.iteration) or True)
    with contextlib.suppress(ZeroDivisionError):
        trainer.run([1])
    assert heard == [1]


def test_a_call_at_exception_raised_swallows_nothing():
    trainer = Engine(lambda engine, batch: 1 / 0)
    with call_at(trainer, Events.EXCEPTION_RAISED, lambda: True), pytest.raises(ZeroDivisionError):
        trainer.run([1])


def test_a_fault_at_exception_raised_has_the_first_as_context():
    trainer = Engine(lambda engine, batch: 1 / 0)
    with raise_at(trainer, Events.EXCEPTION_RAISED), pytest.raises(PlantedError) as caught:
        trainer.run([1])
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_due_firings_of_filters_and_all_of_a_union_count():
    trainer, heard = Engine(no_op), []
    with call_at(trainer, Events.ITERATION_STARTED(every=2), lambda: heard.append(trainer.state.iteration), n=2):
        trainer.run(range(5))
    union = Events.EPOCH_STARTED | Events.COMPLETED
    assert isinstance(union, EventUnion)
    with call_at(trainer, union, lambda: heard.append(trainer.state.epoch), n=2):
        trainer.run(range(5), max_epochs=2)
    assert heard == [4, 2]
    message = "^EPOCH_STARTED\\(every=2\\) \\| COMPLETED fired 1 time, but the call was planted at the 2nd time"
    planted = call_at(trainer, Events.EPOCH_STARTED(every=2) | Events.COMPLETED, trainer.terminate, n=2)
    with pytest.raises(AssertionError, match=message), planted:
        trainer.run(range(5), max_epochs=3)


def test_filters_and_lists_of_ignite():
    events, trainer = ignite.engine.Events, ignite.engine.Engine(no_op)
    with call_at(trainer, events.ITERATION_STARTED(every=2), trainer.terminate, n=2):
        assert trainer.run(range(5)).iteration == 4
    with call_at(trainer, events.EPOCH_STARTED | events.COMPLETED, trainer.terminate, n=2) as call:
        trainer.run(range(5), max_epochs=1)
    assert call.reached
    assert not trainer.has_event_handler(call)


def test_custom_events_phases_and_strings():
    trainer = Engine([Phase("BACKWARD", no_op), Phase("OPTIM_STEP", no_op)])
    for event in (BackpropEvents.BACKWARD_COMPLETED, "optim_step_started"):
        with raise_at(trainer, event, n=2), pytest.raises(PlantedError, match="planted at the 2nd"):
            trainer.run([1, 2, 3])
        trainer.close()


def test_a_planted_fault_leaves_a_legal_trace():
    for event in (Events.STARTED, Events.GET_BATCH_STARTED, Events.ITERATION_COMPLETED, Events.COMPLETED):
        trainer = Engine(no_op)
        with record() as trace, raise_at(trainer, event), pytest.raises(PlantedError):
            trainer.run([1, 2])
        trace.assert_legal()
        assert trace.runs[0].outcome == "failed"


@pytest.mark.parametrize("n", [0, -1, 1.0, True, None, "2"])
def test_an_n_that_never_comes_is_refused(n):
    trainer = Engine(no_op)
    for plant in (lambda: raise_at(trainer, Events.STARTED, n=n), lambda: call_at(trainer, Events.STARTED, print, n=n)):
        with pytest.raises(ValueError, match=f"n must be an integer of 1 or more, got {n!r}"):
            plant()
    assert not trainer.handlers(Events.STARTED)


@pytest.mark.parametrize("error", ["text", None, int, 3])
def test_what_is_no_exception_is_refused(error):
    trainer = Engine(no_op)
    with pytest.raises(TypeError, match="error must be an exception or an exception class, got "):
        raise_at(trainer, Events.STARTED, error=error)


def test_a_class_that_needs_more_than_a_message_is_refused():
    with pytest.raises(TypeError, match="error=UnicodeDecodeError cannot be created with only a message: give an inst"):
        raise_at(Engine(no_op), Events.STARTED, error=UnicodeDecodeError)


def test_what_is_no_callable_is_refused():
    trainer = Engine(no_op)
    with pytest.raises(TypeError, match=r"call must be callable, got None: give the method itself, as in call_at\("):
        call_at(trainer, Events.STARTED, trainer.terminate())


def test_an_event_unknown_to_the_engine_is_refused():
    with pytest.raises(ValueError, match="BACKWARD_STARTED is not registered in engine"):
        raise_at(Engine(no_op), BackpropEvents.BACKWARD_STARTED)


def test_it_says_what_it_is():
    trainer = Engine(no_op)
    planted = call_at(trainer, Events.EPOCH_STARTED, no_op.__doc__.strip, n=2)
    assert repr(planted) == "<call planted at the 2nd EPOCH_STARTED>"
    trainer.run([1], max_epochs=2)
    assert repr(planted) == "<call planted at the 2nd EPOCH_STARTED, reached>"


def test_a_planted_fault_does_not_keep_an_engine_alive():
    trainer = Engine(no_op)
    raise_at(trainer, Events.COMPLETED, n=2)
    trainer.run([1])
    gc.disable()
    try:
        gone = weakref.ref(trainer)
        del trainer
        assert gone() is None
    finally:
        gc.enable()
