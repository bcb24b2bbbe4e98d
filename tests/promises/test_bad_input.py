"""Wrong arguments raise one clear error, as early as possible. It names argument and fix, and changes nothing."""

import json
import re
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from torch import nn

from camshaft import (
    DATA,
    Engine,
    EventOrderError,
    Loop,
    LoopError,
    Phase,
    Snapshot,
    Trace,
    TraceError,
    event,
    every,
    record,
)
from camshaft.handlers import ClipGradNorm
from camshaft.metrics import Accuracy, Loss, attach
from support.engines import ClipEvents, E
from support.steps import echo, no_op


def trainer(process=echo, **options):
    return Engine(process, "trainer", **options)


def phases():
    return trainer([Phase("FORWARD", no_op), Phase("BACKWARD", no_op)])


def snapshot(engine):
    attached = {key: [handler.function for handler in engine.handlers(key)] for key in engine.loop.event_keys}
    return (
        engine.loop,
        engine.source(),
        attached,
        engine.state_dict(),
        vars(engine.state).copy(),
        engine.state.dataloader,
        engine.current_run,
    )


@contextmanager
def refused(engine, error, match):
    """Expect an error whose message matches, and check that it leaves the engine unchanged."""
    before = snapshot(engine)
    with pytest.raises(error, match=match):
        yield
    assert snapshot(engine) == before


# -- events and handlers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda engine: engine.add_event_handler("grad_clipped", print),
        lambda engine: engine.on("grad_clipped")(print),
        lambda engine: engine.add_event_handler(E.STARTED | event("grad_clipped", every=2), print),
        lambda engine: engine.remove_event_handler(print, "grad_clipped"),
        lambda engine: engine.has_event_handler(print, "grad_clipped"),
        lambda engine: engine.fire_event("grad_clipped"),
        lambda engine: engine.nest(Engine(echo), on="grad_clipped", data=[1]),
    ],
)
def test_an_unregistered_event_is_an_error_with_the_nearest_name(use):
    engine = trainer()
    engine.register_events(ClipEvents.GRADS_CLIPPED)
    with refused(engine, ValueError, r"GRAD_CLIPPED is not registered in trainer.*GRADS_CLIPPED.*register_events"):
        use(engine)


def test_an_event_that_the_loop_can_never_fire_is_an_error():
    engine = Engine(Loop("EPISODE", Phase("ACT", no_op)), "trainer")
    with refused(engine, ValueError, r"GET_BATCH_STARTED can never fire in the loop EPISODE.*EPISODE_STARTED"):
        engine.add_event_handler(E.GET_BATCH_STARTED, print)


@pytest.mark.parametrize("thing", [5, None, object(), 2.5])
def test_anything_but_an_event_is_an_error(thing):
    engine = trainer()
    for use in (engine.register_events, engine.fire_event, lambda event: engine.add_event_handler(event, print)):
        with refused(engine, TypeError, rf"{re.escape(repr(thing))} is not an event.*EventEnum"):
            use(thing)


def two(first, second):
    pass


def named(*, rate):
    pass


@pytest.mark.parametrize(
    ("handler", "args", "kwargs", "message"),
    [
        (two, (), {}, r"two\(first, second\) does not fit STARTED.*two\(engine\) or two\(\)"),
        (two, (1, 2, 3), {}, r"two\(engine, 1, 2, 3\) or two\(1, 2, 3\)"),
        (named, (), {}, r"named\(engine\) or named\(\)"),
        (named, (), {"speed": 1}, r"named\(engine, speed=1\) or named\(speed=1\)"),
    ],
)
def test_a_handler_that_cannot_be_called_is_an_error(handler, args, kwargs, message):
    engine = trainer()
    with refused(engine, TypeError, message):
        engine.add_event_handler(E.STARTED, handler, *args, **kwargs)


def test_a_handler_of_exception_raised_needs_the_exception():
    engine = trainer()
    with refused(
        engine,
        TypeError,
        r"two.* does not fit EXCEPTION_RAISED.*two\(engine, exception, 1, 2\) or two\(exception, 1, 2\)",
    ):
        engine.add_event_handler(E.EXCEPTION_RAISED, two, 1, 2)


def test_a_union_is_attached_to_all_of_its_events_or_to_none():
    engine = trainer()
    with refused(engine, TypeError, "EXCEPTION_RAISED"):
        engine.add_event_handler(E.STARTED | E.EXCEPTION_RAISED, lambda: None)


@pytest.mark.parametrize("handler", [None, 5, "print"])
def test_a_handler_that_is_no_callable_is_an_error(handler):
    engine = trainer()
    with refused(engine, TypeError, rf"handler for STARTED must be callable, got {handler!r}"):
        engine.add_event_handler(E.STARTED, handler)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: E.TERMINATE(every=2), r"TERMINATE\(every=2\).*once in a run.*leave the filter out"),
        (lambda: E.EXCEPTION_RAISED(once=3), r"EXCEPTION_RAISED\(once=3\).*once in a run"),
        (lambda: E.EXCEPTION_RAISED(after=1), r"EXCEPTION_RAISED\(after=1\).*once in a run"),
        (lambda: E.EPOCH_STARTED(after=4, before=5), r"after=4.*never due"),
        (lambda: E.EPOCH_STARTED(every=9, before=9), r"every=9.*never due"),
        (lambda: E.EPOCH_STARTED(before=1), r"before=1.*never due"),
        (lambda: E.EPOCH_STARTED(once=2, every=3), "once.*every"),
        (lambda: E.EPOCH_STARTED(event_filter=lambda engine, count: True, every=3), "event_filter.*every"),
        (lambda: E.EPOCH_STARTED(event_filter=lambda engine: True), r"event_filter.*\(engine, count\)"),
        (lambda: E.EPOCH_STARTED(event_filter=5), "event_filter must be a function.*, got 5"),
        (lambda: E.EPOCH_STARTED(once=[]), "once"),
        (lambda: E.EPOCH_STARTED(once=0), "once must be an integer of 1 or more, got 0"),
        (lambda: E.EPOCH_STARTED(once=[1, "x"]), "once.*'x'"),
        (lambda: E.EPOCH_STARTED(once="x"), "once must be an integer of 1 or more, got 'x'"),
        (lambda: E.EPOCH_STARTED(once=2.5), "once must be an integer of 1 or more, got 2.5"),
        (lambda: E.EPOCH_STARTED(before="x"), "before must be an integer of 0 or more, got 'x'"),
        (lambda: E.EPOCH_STARTED(after=-1), "after must be an integer of 0 or more, got -1"),
        (lambda: E.EPOCH_STARTED(priority="high"), "priority must be an integer, got 'high'"),
    ],
)
def test_a_filter_that_cannot_work_on_its_event_is_an_error(make, message):
    engine = trainer()
    with refused(engine, (ValueError, TypeError), message):
        engine.add_event_handler(make(), print)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2"])
def test_every_0_is_an_error(value):
    with pytest.raises(ValueError, match=rf"every must be an integer of 1 or more, got {value!r}"):
        E.ITERATION_STARTED(every=value)
    with pytest.raises(ValueError, match=rf"every must be an integer of 1 or more, got {value!r}"):
        event("grads_clipped", every=value)
    with pytest.raises(LoopError, match=rf"every\(n\): n must be an integer of 1 or more, got {value!r}"):
        every(value)


@pytest.mark.parametrize("member", ["epoch_completed", E.STARTED, E.EXCEPTION_RAISED])
@pytest.mark.parametrize("place", [{}, {"after": "BACKWARD"}, {"order": "declared"}])
def test_registering_the_value_of_a_built_in_event_is_an_error(member, place):
    engine = phases()
    with refused(engine, ValueError, "built-in event.*another value"):
        engine.register_events(ClipEvents.GRADS_CLIPPED, member, **place)
    assert not engine.has_registered_events(ClipEvents.GRADS_CLIPPED)


# -- limits and data --------------------------------------------------------------------------------------------------


def nest(engine, *args, **limits):
    return engine.nest(Engine(echo, "evaluator"), E.EPOCH_COMPLETED, *args, **limits)


STARTS = {"run": Engine.run, "steps": Engine.steps, "nest": nest}


@pytest.fixture(params=list(STARTS))
def start(request):
    return STARTS[request.param]


def test_both_max_epochs_and_max_iters_are_an_error(start):
    engine = trainer()
    with refused(engine, ValueError, "max_epochs and max_iters.*give one"):
        start(engine, [1], max_epochs=1, max_iters=1)


@pytest.mark.parametrize("limit", ["max_epochs", "max_iters", "epoch_length"])
@pytest.mark.parametrize("value", [0, -3, "2"])
def test_a_limit_that_is_no_positive_number_is_an_error(start, limit, value):
    engine = trainer()
    with refused(engine, ValueError, rf"{limit} must be an integer of 1 or more, got {value!r}"):
        start(engine, [1], **{limit: value})


@pytest.mark.parametrize("data", [5, echo, object()])
def test_data_that_is_not_iterable_is_an_error(start, data):
    engine = trainer()
    with refused(engine, TypeError, rf"not iterable: {re.escape(repr(data))}.*DataLoader"):
        start(engine, data)


@pytest.mark.parametrize("data", [[], (), {}, range(0)])
def test_empty_data_is_an_error_before_anything_fires(data):
    engine = trainer()
    with record() as trace, refused(engine, ValueError, "data is empty"):
        engine.run(data)
    assert len(trace) == 0


@pytest.mark.parametrize("limits", [{}, {"epoch_length": 3}, {"max_iters": 3}])
def test_data_that_turns_out_to_be_empty_is_an_error(limits):
    engine = trainer()
    with pytest.raises(ValueError, match="data is empty"):
        engine.run(iter([]), **limits)
    assert engine.state.iteration == 0
    assert engine.current_run is None


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [(5, TypeError, "not iterable: 5"), ([], ValueError, "data is empty"), (None, TypeError, "None")],
)
def test_new_data_that_cannot_work_is_an_error_where_it_is_set(data, error, message):
    engine, stepped = trainer(lambda engine, batch: stepped.append(batch)), []

    @engine.on(E.ITERATION_STARTED(once=1))
    def replace(engine):
        with pytest.raises(error, match=message):
            engine.set_data(data)

    engine.run([1, 2])
    assert stepped == [1, 2]


def test_data_none_without_epoch_length_is_an_error(start):
    engine = trainer()
    with refused(engine, ValueError, "data=None needs epoch_length"):
        start(engine)


def test_wrong_limits_leave_a_completed_run_unchanged():
    engine = trainer()
    engine.run([1, 2], max_epochs=2)
    for arguments in (
        {"max_epochs": 1},
        {"max_epochs": 3, "max_iters": 9},
        {"max_epochs": 0},
        {"max_epochs": 3, "epoch_length": 5},
    ):
        with refused(engine, ValueError, "max_epochs|epoch_length"):
            engine.run([1, 2], **arguments)


# -- loops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("process", [5, None, "step"])
def test_a_step_that_is_no_callable_is_an_error(process):
    with pytest.raises(TypeError, match=rf"process_function must be a function \(engine, batch\).*, got {process!r}"):
        Engine(process)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Phase("FORWARD", 5), r"FORWARD: run must be a function \(engine, batch\), got 5"),
        (lambda: Phase("FORWARD", echo, when=5), r"FORWARD: when must be a function .*every\(n\), got 5"),
        (lambda: Engine([echo]), r"ITERATION.*echo.*Phase\('ECHO', echo\)"),
        (lambda: Engine([5]), "ITERATION.*5 is not a state"),
        (lambda: Engine([]), "at least one Phase"),
        (lambda: Engine(Phase("FORWARD", echo)), r"Engine\(\[FORWARD\]\)"),
        (
            lambda: Loop("EPOCH", Phase("ACT", echo), until=5),
            r"EPOCH: until must be a function \(engine\) -> bool, got 5",
        ),
        (
            lambda: Loop("EPOCH", Loop("INNER", Phase("ACT", echo), over=5)),
            r"INNER: over must be .*an iterable.*, got 5",
        ),
    ],
)
def test_a_phase_or_a_condition_that_is_no_callable_is_an_error(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_two_states_of_one_name_are_an_error():
    message = "two states are named FORWARD.*another name"
    with pytest.raises(LoopError, match=message):
        Engine([Phase("FORWARD", no_op), Phase("FORWARD", no_op, started="again_started", completed="again_completed")])
    with pytest.raises(LoopError, match=message):
        Loop(
            "EPOCH",
            Phase("FORWARD", no_op),
            Loop("ITERATION", Phase("FORWARD", no_op, started="a", completed="b"), over=DATA),
        )
    with pytest.raises(LoopError, match=message):
        phases().loop.insert(Phase("FORWARD", no_op, started="a", completed="b"), after="BACKWARD")


@pytest.mark.parametrize("place", [{}, {"after": "BACKWARD"}, {"within": "EPOCH"}])
def test_registering_a_second_state_of_one_name_is_an_error(place):
    engine = phases()
    with refused(engine, ValueError, "two states are named FORWARD"):
        engine.register_events("grads_clipped", "FORWARD", **place)


@pytest.mark.parametrize("place", ["after", "before", "within"])
def test_a_place_at_an_unknown_state_lists_the_known_states(place):
    engine = phases()
    with refused(engine, LoopError, "BACKWARDS.*BACKWARD|BACKWARDS.*ITERATION"):
        engine.register_events(ClipEvents.GRADS_CLIPPED, **{place: "BACKWARDS"})
    with pytest.raises(LoopError, match=r"EPOCH.*BACKWARDS.*FORWARD"):
        engine.loop.insert(Phase("CLIP", no_op), **{place: "BACKWARDS"})


def test_after_and_before_together_are_an_error():
    engine = phases()
    with refused(engine, LoopError, "after='FORWARD' and before='BACKWARD'.*give one"):
        engine.register_events("grads_clipped", after="FORWARD", before="BACKWARD")


def test_an_order_that_is_unknown_is_an_error():
    engine = phases()
    with refused(engine, ValueError, "order must be 'free' or 'declared', got 'strict'"):
        engine.register_events("grads_clipped", order="strict")


# -- running ----------------------------------------------------------------------------------------------------------


def test_running_an_engine_inside_itself_is_an_error():
    engine = trainer()
    engine.add_event_handler(E.ITERATION_STARTED, lambda engine: engine.run([1]) and None)
    with pytest.raises(RuntimeError, match=r"trainer is running.*second Engine"):
        engine.run([1, 2])
    assert engine.state.iteration == 1


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_nesting_an_engine_inside_itself_is_an_error(depth):
    engines = [Engine(echo, f"level_{number}") for number in range(depth + 1)]
    for outer, inner in pairwise(engines):
        outer.nest(inner, on=E.EPOCH_COMPLETED, data=[1])
    with refused(engines[-1], ValueError, "level_0 cannot be nested.*inside itself"):
        engines[-1].nest(engines[0], on=E.EPOCH_COMPLETED, data=[1])


def test_firing_a_placed_event_by_hand_is_an_error():
    engine = phases()
    engine.register_events(ClipEvents.GRADS_CLIPPED, after="BACKWARD")
    for handle in (ClipEvents.GRADS_CLIPPED, "grads_clipped", "backward_completed", E.EPOCH_STARTED):
        with refused(engine, ValueError, "trainer fires .* itself.*leave out"):
            engine.fire_event(handle)


def test_firing_a_declared_event_out_of_order_is_an_error():
    engine, called = trainer(lambda engine, batch: engine.fire_event("second") or engine.fire_event("first")), []
    engine.register_events("first", "second", "third", order="declared")
    engine.add_event_handler("first", lambda: called.append("first"))
    with pytest.raises(
        EventOrderError, match=r"(?s)trainer event FIRST .* in EPOCH 1 / ITERATION 1\n *expected: THIRD"
    ):
        engine.run([1])
    assert called == []


def paused():
    engine = trainer()
    handle = engine.add_event_handler(
        E.ITERATION_COMPLETED(once=2), lambda engine: engine.interrupt() or handle.remove()
    )
    engine.run([1, 2, 3])
    return engine


@pytest.mark.parametrize("start", [Engine.run, Engine.steps])
def test_new_data_for_a_paused_run_is_an_error(start):
    engine = paused()
    with refused(engine, ValueError, r"trainer is paused.*set_data\(\).*close\(\)"):
        start(engine, [4, 5, 6])
    assert engine.run().iteration == 3


def test_wrong_new_limits_leave_a_paused_run_unchanged():
    engine = paused()
    for limits, message in (
        ({"max_iters": 9}, "started with max_epochs"),
        ({"epoch_length": 5}, "epoch_length=5"),
        ({"max_epochs": 0}, "max_epochs must be an integer of 1 or more, got 0"),
    ):
        with refused(engine, ValueError, message):
            engine.run(**limits)
    assert engine.run().iteration == 3


# -- saved states and traces ------------------------------------------------------------------------------------------


def saved(**changes):
    engine = trainer()
    engine.run([1, 2, 3], max_epochs=2)
    return {key: value for key, value in (engine.state_dict() | changes).items() if value != "missing"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": "missing", "iteration": "missing"}, "lacks epoch, iteration"),
        ({"epoch": "missing", "epoch_length": None}, "epoch_length"),
        ({"learning_rate": 1}, "learning_rate.*state_dict_user_keys"),
        ({"epoch": -1}, "epoch=-1"),
        ({"epoch": "two"}, "epoch='two'"),
        ({"iteration": 1.5}, "iteration=1.5"),
        ({"max_iters": 9}, "max_epochs and max_iters"),
        ({"epoch_length": 0}, "epoch_length must be an integer of 1 or more, got 0"),
        ({"position": 1.5}, "position=1.5"),
        ({"position": 2, "epoch": 0}, "position=2.*epoch=0"),
        ({"position": 2, "iteration": 1}, "position=2.*iteration=1"),
        ({"epoch": 1, "iteration": 6, "where": "missing"}, "epoch=1.*iteration=6|iteration=6.*epoch=1"),
        ({"epoch": 0, "iteration": 6}, "epoch=0.*iteration=6|iteration=6.*epoch=0"),
        ({"epoch": 3, "where": "missing"}, "epoch=3.*max_epochs=2|max_epochs=2.*epoch=3"),
    ],
)
def test_a_state_dict_with_missing_or_wrong_keys_is_an_error(changes, message):
    engine = trainer()
    with refused(engine, ValueError, message):
        engine.load_state_dict(saved(**changes))


def test_a_state_dict_without_its_user_keys_is_an_error():
    engine = trainer()
    engine.state_dict_user_keys.append("best")
    engine.state.best = 1
    with refused(engine, ValueError, "lacks best"):
        engine.load_state_dict(saved())
    del engine.state.best
    with pytest.raises(KeyError, match="best"):
        engine.state_dict()


def test_loading_a_state_during_a_run_is_an_error():
    engine = paused()
    with refused(engine, RuntimeError, r"trainer.*close\(\)"):
        engine.load_state_dict(saved())


@pytest.fixture
def trace_file(tmp_path):
    path = tmp_path / "run.trace"
    with record() as trace:
        trainer().run([1, 2], max_epochs=2)
    trace.save(path)
    return path


def test_a_trace_file_of_another_version_is_an_error(trace_file):
    header, *rest = trace_file.read_text().splitlines(keepends=True)
    trace_file.write_text(json.dumps(json.loads(header) | {"version": 99}) + "\n" + "".join(rest))
    with pytest.raises(TraceError, match=r"run\.trace is a trace of version 99.*record it again"):
        Trace.load(trace_file)


def test_a_trace_file_that_is_cut_short_anywhere_is_an_error(trace_file):
    text = trace_file.read_text()
    Trace.load(trace_file)
    lines = text.splitlines(keepends=True)
    cuts = ["".join(lines[:number]) for number in range(len(lines))] + [
        text[:length] for length in range(0, len(text) - 1, 7)
    ]
    for cut in cuts:
        trace_file.write_text(cut)
        with pytest.raises(TraceError, match=r"run\.trace.*(record|does not say)"):
            Trace.load(trace_file)


@pytest.mark.parametrize("text", ["hello", "{}", "[1, 2]", "null", '{"camshaft": "loop", "version": 1}', "\x00\x01"])
def test_a_file_that_is_no_trace_is_an_error(text, tmp_path):
    path = tmp_path / "other"
    path.write_text(text)
    with pytest.raises(TraceError, match="other"):
        Trace.load(path)


# -- the first hour ---------------------------------------------------------------------------------------------------

MODEL = nn.Linear(4, 2)
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), lr=0.1)


def handle(engine):
    pass


FIRST_HOUR = {
    "a model as a process": (lambda _: Engine(MODEL), r"process Linear\.forward\(input.*called with \(engine, batch\)"),
    "a class as a process": (
        lambda _: Engine(nn.Linear),
        "process is the class Linear: give an instance, or a function",
    ),
    "on without an event": (lambda engine: engine.on(handle), r"handle .*is not an event: .*@engine\.on\(event\)"),
    "handler and event swapped": (
        lambda engine: engine.add_event_handler(handle, E.STARTED),
        r"handle .*is not an event: the event comes first.*add_event_handler\(event, handler\)",
    ),
    "two events": (lambda engine: engine.on(E.STARTED, E.COMPLETED), r"on\(\) takes one event, .*join events with \|"),
    "a number as a filter": (
        lambda _: E.ITERATION_COMPLETED(100),
        "event_filter .*got 100: give every=100 or once=100",
    ),
    "an enum of events": (
        lambda engine: engine.register_events(ClipEvents),
        r"ClipEvents.*register_events\(\*events\)",
    ),
    "a list of events": (lambda engine: engine.register_events(["a_b"]), r"\['a_b'\].*register_events\(\*events\)"),
    "data and event swapped": (
        lambda engine: engine.nest(Engine(echo), [torch.tensor(1.0)], E.EPOCH_COMPLETED),
        "on must be an event, got a list: nest.*on=Events.EPOCH_COMPLETED, data=loader",
    ),
    "a loop without a name": (lambda _: Loop(Phase("ACT")), r"loop Phase\(\"ACT\"\): the name must be .* in capitals"),
    "a list as a body": (lambda _: Loop("EPOCH", [Phase("ACT")]), r"is not a state.*one by one, with a \* before it"),
    "a lambda as a state": (lambda _: Loop("EPOCH", lambda engine, batch: 1), r"wrap it: Phase\(name, function\)"),
    "a model by position": (
        lambda engine: Snapshot(engine, "x", MODEL),
        "n_saved .*give objects by name, .*model=model",
    ),
    "True as a file": (lambda engine: engine.resume(True), "resume must be a file or 'latest', got True"),
    "a number as a name": (lambda engine: attach(Accuracy(), engine, 3), "name must be a string, got 3: it is the key"),
    "an event as a transform": (
        lambda engine: attach(Accuracy(), engine, "accuracy", E.EPOCH_COMPLETED),
        r"output_transform must be a function, got .*give events by usage=Usage\(reset, update, compute\)",
    ),
    "None as a transform": (lambda engine: attach(Accuracy(), engine, "accuracy", None), "output_transform .*got None"),
    "a class of losses": (lambda _: Loss(nn.MSELoss), r"Loss: loss_fn must be a function .*such as nn\.MSELoss\(\)"),
    "a scheduler as a handler": (
        lambda engine: engine.add_event_handler(E.STARTED, torch.optim.lr_scheduler.StepLR(OPTIMIZER, 1)),
        r"StepLR is not: attach handlers\.LRScheduler\(scheduler\)",
    ),
    "a norm and parameters swapped": (
        lambda _: ClipGradNorm(1.0, MODEL.parameters()),
        r"ClipGradNorm: parameters must be tensors, got 1\.0: give model\.parameters\(\)",
    ),
}


@pytest.mark.parametrize("mistake", FIRST_HOUR)
def test_a_mistake_of_the_first_hour_is_an_error_with_the_fix(mistake):
    make, message = FIRST_HOUR[mistake]
    engine = trainer()
    with refused(engine, (TypeError, ValueError), message):
        make(engine)
