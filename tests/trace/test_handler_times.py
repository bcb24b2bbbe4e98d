"""Times of handlers: measured only during recordings with handler_times=True, without changing any run."""

from __future__ import annotations

import contextlib
import functools
import gc
import time
import weakref
from collections import Counter

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import camshaft
from camshaft import Engine, EventOrderError, Events, HandlerTime, record
from camshaft.testing import Reporter, loops, scenarios
from support.steps import no_op


def log(engine):
    """Do nothing."""


def counts_of(trace):
    """Return how often each handler was called, by its name, in the order of the first calls."""
    return {(one.engine, one.event, one.handler): one.count for one in trace.handler_times}


def check_sums(trace):
    """Check what must be true of all measured times."""
    for one in trace.handler_times:
        assert one.count >= 1
        assert 0 <= one.maximum <= one.total <= one.count * one.maximum * (1 + 1e-9)
        assert one.mean == one.total / one.count


# -- what is measured --------------------------------------------------------------------------------------------------


def test_calls_are_counted_by_engine_event_and_handler():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=2), log)
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2, 3])
    evaluator.add_event_handler(Events.ITERATION_COMPLETED | Events.COMPLETED, log)
    trainer.add_event_handler(Events.STARTED, log)
    trainer.add_event_handler(Events.TERMINATE, log)
    with record(handler_times=True) as trace:
        trainer.run([1, 2, 3, 4], max_epochs=2)
    assert list(counts_of(trace).items()) == [
        (("trainer", "started", "log"), 1),
        (("trainer", "iteration_completed", "log"), 4),
        (("trainer", "epoch_completed", "run evaluator"), 2),
        (("evaluator", "iteration_completed", "log"), 6),
        (("evaluator", "completed", "log"), 2),
    ]
    check_sums(trace)
    assert all(type(one) is HandlerTime for one in trace.handler_times)


def test_a_handler_that_sleeps_takes_at_least_that_long():
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: time.sleep(0.02))
    with record(handler_times=True) as trace:
        engine.run([1, 2, 3])
    (slept,) = trace.handler_times
    assert slept.count == 3
    assert slept.total >= 3 * 0.02
    assert slept.mean >= 0.02
    assert slept.total / 3 <= slept.maximum <= slept.total
    check_sums(trace)


def test_a_nested_run_counts_under_the_handler_that_made_it():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: time.sleep(0.02))
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2])

    @trainer.on(Events.COMPLETED)
    def evaluate():
        evaluator.run([1])

    with record(handler_times=True) as trace:
        trainer.run([1])
    nested, inner, by_hand = trace.handler_times
    assert (nested.handler, inner.engine, by_hand.event) == ("run evaluator", "evaluator", "completed")
    assert (nested.count, inner.count, by_hand.count) == (1, 3, 1)
    assert nested.total >= 0.04
    assert by_hand.total >= 0.02
    assert inner.total <= nested.total + by_hand.total


def test_only_the_engines_that_are_recorded_are_measured():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2])
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, log)
    with record(trainer, handler_times=True) as outer:
        trainer.run([1])
    with record(evaluator, handler_times=True) as inner:
        trainer.run([1])
    assert counts_of(outer) == {("trainer", "epoch_completed", "run evaluator"): 1}
    assert counts_of(inner) == {("evaluator", "iteration_completed", "log"): 2}


def test_each_attachment_is_an_entry_of_its_own_over_all_runs():
    engine = Engine(no_op)
    for _ in range(2):
        engine.add_event_handler(Events.COMPLETED, log)
    with record(handler_times=True) as trace:
        engine.run([1])
        engine.run([1])
    assert [(one.handler, one.count) for one in trace.handler_times] == [("log", 2), ("log", 2)]


def test_events_fired_by_hand_or_again_are_measured():
    engine = Engine(lambda engine, batch: engine.fire_event("ping"))
    engine.register_events("ping")
    depth = 0

    @engine.on("ping")
    def again():
        nonlocal depth
        depth += 1
        if depth < 3:
            engine.fire_event("ping")

    engine.fire_event("ping")  # outside of any run, so no trace has it
    assert depth == 3
    with record(handler_times=True) as trace:
        depth = 0
        engine.run([1])
    (times,) = trace.handler_times
    assert (times.event, times.count) == ("ping", 3)
    assert trace.count("ping") == 3
    check_sums(trace)


def test_a_call_counts_when_it_is_over():
    engine = Engine(no_op)
    seen = []
    with record(handler_times=True) as trace:
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda: seen.append([one.count for one in trace.handler_times])
        )
        engine.run([1, 2, 3])
    assert seen == [[], [1], [2]]


def test_what_the_engine_does_itself_is_no_handler():
    engine = Engine(lambda engine, batch: engine.fire_event("a"), strict=True)
    engine.register_events("a", "b", order="declared")
    engine.add_event_handler("a", log)
    with record(handler_times=True) as trace:
        engine.run([1, 2])
    assert counts_of(trace) == {("engine", "a", "log"): 2}


class Saver:
    """A handler with a state."""

    def __call__(self, engine):
        """Called with the engine."""

    def save(self):
        """Called without it."""


class Eager:
    """A handler that is a class: calling it makes an instance."""

    def __init__(self, engine):
        pass


def make_logger():
    def logger(engine):
        """Do nothing, as a handler that another function made."""

    return logger


def with_tag(tag, engine):
    """Take more arguments than a handler is given."""


@functools.lru_cache
def cached():
    """Do nothing, as a handler that is not a plain function."""


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (log, "log"),
        (make_logger(), "make_logger.logger"),
        (Saver(), "Saver"),
        (Saver().save, "Saver.save"),
        (Eager, "Eager"),
        (functools.partial(with_tag, "tag"), "with_tag"),
        (functools.partial(functools.partial(with_tag), "tag"), "with_tag"),
        (functools.partial(Saver()), "Saver"),
        (cached, "cached"),
        ([].append, "list.append"),
    ],
)
def test_handlers_have_readable_names(handler, name):
    engine = Engine(no_op)
    engine.add_event_handler(Events.STARTED, handler)
    with record(handler_times=True) as trace:
        engine.run([1])
    assert counts_of(trace) == {("engine", "started", name): 1}


def test_a_class_inside_of_a_function_has_a_readable_name():
    class Inner:
        def __call__(self):
            """Called without the engine."""

        def method(self):
            """Called without the engine."""

    here = "test_a_class_inside_of_a_function_has_a_readable_name"
    engine = Engine(no_op)
    engine.add_event_handler(Events.STARTED, Inner())
    engine.add_event_handler(Events.STARTED, Inner().method)
    engine.add_event_handler(Events.STARTED, lambda: None)
    with record(handler_times=True) as trace:
        engine.run([1])
    assert [one.handler for one in trace.handler_times] == ["Inner", f"{here}.Inner.method", f"{here}.<lambda>"]


# -- what raises, comes and goes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration])
@pytest.mark.parametrize("event", [Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED(once=2)])
def test_a_handler_that_raises_is_counted_with_the_time_until_then(error, event):
    engine = Engine(no_op)

    @engine.on(event)
    def fail(engine):
        time.sleep(0.02)
        if engine.state.iteration == 2:
            raise error

    leaves = RuntimeError if error is StopIteration else error  # a StopIteration would end the generated loop silently

    @engine.on(Events.EXCEPTION_RAISED)
    def told(engine, raised):
        assert isinstance(raised, leaves)

    with record(handler_times=True) as trace, pytest.raises(leaves):
        engine.run([1, 2, 3])
    failed, heard = trace.handler_times
    assert failed.count == (2 if event is Events.ITERATION_COMPLETED else 1)
    assert failed.total >= failed.count * 0.02
    assert (heard.event, heard.count) == ("exception_raised", 1)
    assert engine.handlers(Events.EXCEPTION_RAISED)[0].call is told


@pytest.mark.parametrize("event", [Events.EXCEPTION_RAISED, Events.EXCEPTION_RAISED(event_filter=lambda *_: True)])
@pytest.mark.parametrize("answer", [True, False, None, 1])
def test_handlers_of_exception_raised_get_the_exception_and_decide(event, answer):
    engine = Engine(lambda engine, batch: 1 / 0)
    got = []

    @engine.on(event)
    def take(engine, error):
        got.append(error)
        return answer

    swallowed = contextlib.nullcontext() if answer is True else pytest.raises(ZeroDivisionError)
    with record(handler_times=True) as trace, swallowed:
        engine.run([1])
    assert [type(error) for error in got] == [ZeroDivisionError]
    assert [(one.event, one.count) for one in trace.handler_times] == [("exception_raised", 1)]


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("event", [Events.ITERATION_COMPLETED, Events.EXCEPTION_RAISED])
def test_a_handler_removed_in_the_firing_does_not_count(filtered, event):
    engine = Engine(lambda engine, batch: 1 / 0 if event is Events.EXCEPTION_RAISED else None)
    ran = []
    when = event(event_filter=lambda *_: True) if filtered else event
    engine.add_event_handler(when, lambda *_: removable.remove())
    removable = engine.add_event_handler(when, lambda *_: ran.append("removed"))
    engine.add_event_handler(when, lambda *_: ran.append("last") or True)
    with record(handler_times=True) as trace:
        engine.run([1])
    assert ran == ["last"]
    assert [one.count for one in trace.handler_times] == [1, 1]


@pytest.mark.parametrize("event", [Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED(every=1)])
def test_a_handler_attached_midway_is_measured_from_then_on(event):
    engine = Engine(no_op)

    @engine.on(Events.ITERATION_COMPLETED(once=2))
    def attach(engine):
        engine.add_event_handler(event, log)

    with record(handler_times=True) as trace:
        engine.run([1, 2, 3, 4])
    assert [(one.handler.rpartition(".")[2], one.count) for one in trace.handler_times] == [("attach", 1), ("log", 2)]


def test_a_run_that_pauses_goes_on_being_measured():
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED, log)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: engine.interrupt())
    engine.add_event_handler(Events.INTERRUPT, log)
    with record(handler_times=True) as trace:
        engine.run([1, 2, 3])
        engine.run()
    assert [one.count for one in trace.handler_times] == [3, 1, 1]
    with record(handler_times=True) as stepped:
        for _ in engine.steps([1, 2, 3]):
            pass
        engine.run()
    assert [one.count for one in stepped.handler_times] == [3, 1, 1]


# -- when it is measured -----------------------------------------------------------------------------------------------


def test_without_the_option_nothing_is_measured():
    engine = Engine(no_op)
    seen = []
    engine.add_event_handler(Events.ITERATION_STARTED, log)

    @engine.on(Events.ITERATION_COMPLETED)
    def look(engine):
        seen.append([handler.call for handler in engine.handlers(Events.ITERATION_STARTED)])

    with record() as trace:
        engine.run([1])
    assert trace.handler_times == []
    assert seen == [[log]]


def test_when_the_recording_is_over_handlers_are_called_as_before():
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_STARTED, log)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), log)
    handlers = [*engine.handlers(Events.ITERATION_STARTED), *engine.handlers(Events.ITERATION_COMPLETED)]
    with record(handler_times=True) as trace:
        engine.run([1, 2])
        assert [handler.call for handler in handlers] == [log, log]
        steps = engine.steps([1, 2])
        next(steps)
        assert [handler.call for handler in handlers] == [log, log]
    before = counts_of(trace)
    assert list(steps)[-1] is Events.COMPLETED
    assert counts_of(trace) == before
    with pytest.raises(ZeroDivisionError), record(handler_times=True):
        engine.add_event_handler(Events.COMPLETED, lambda: 1 / 0)
        engine.run([1])
    assert [handler.call for handler in handlers] == [log, log]


def test_two_recorders_measure_the_same():
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: time.sleep(0.02))
    with record(handler_times=True) as outer, record() as silent, record(handler_times=True) as inner:
        engine.run([1, 2])
    assert silent.handler_times == []
    assert outer.handler_times == inner.handler_times
    assert outer.handler_times[0].count == 2


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("is_stepped", [False, True])
def test_of_two_recorders_either_may_end_first(first, is_stepped):
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED, log)
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), log)
    blocks = [record(handler_times=True), record(handler_times=True)]
    traces = [block.__enter__() for block in blocks]

    def part():
        if is_stepped:  # up to the next epoch
            next(event for event in steps if event is Events.EPOCH_COMPLETED)
        else:
            engine.run([1, 2])

    steps = engine.steps([1, 2], max_epochs=3) if is_stepped else iter(())
    part()
    blocks[first].__exit__(None, None, None)
    part()
    blocks[1 - first].__exit__(None, None, None)
    part()
    assert [one.count for one in traces[first].handler_times] == [2, 1]
    assert [one.count for one in traces[1 - first].handler_times] == [4, 2]
    with record(handler_times=True) as after:
        Engine(no_op).run([1])
    assert after.handler_times == []
    for trace in traces:
        assert trace.count(Events.ITERATION_COMPLETED) == trace.handler_times[0].count


def test_a_recorder_begun_in_a_handler_measures_from_there():
    trainer, evaluator = Engine(no_op, name="trainer"), Engine(no_op, name="evaluator")
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, log)
    inner = []

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate():
        with record(handler_times=True) as trace:
            evaluator.run([1, 2])
        inner.append(counts_of(trace))

    with record(handler_times=True) as outer:
        trainer.run([1], max_epochs=2)
    assert inner == [{("evaluator", "iteration_completed", "log"): 2}] * 2
    assert [one.count for one in outer.handler_times] == [2, 4]


def test_a_measured_engine_is_freed_at_once():
    engine = Engine(no_op)
    engine.add_event_handler(Events.ITERATION_COMPLETED, log)
    with record(handler_times=True) as trace:
        engine.run([1])
    gone = weakref.ref(engine)
    gc.disable()
    try:
        del engine
        assert gone() is None
    finally:
        gc.enable()
    assert len(trace.handler_times) == 1


def test_a_removed_handler_is_freed_during_the_recording():
    engine = Engine(no_op)
    gone = []

    @engine.on(Events.ITERATION_STARTED)
    def attach(engine):
        held = Saver()
        gone.append(weakref.ref(held))
        removable = engine.add_event_handler(Events.ITERATION_COMPLETED, held.save)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=engine.state.iteration), removable.remove)

    gc.disable()
    try:
        with record(handler_times=True) as trace:
            engine.run([1, 2, 3])
            assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()
    assert [one.count for one in trace.handler_times if one.handler == "Saver.save"] == [1, 1, 1]


def test_times_and_call_sites_are_recorded_together():
    engine = Engine(lambda engine, batch: engine.fire_event("ping"))
    engine.register_events("ping")
    engine.add_event_handler("ping", log)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: engine.state.output)
    with record(call_sites=True) as plain:
        engine.run([1])
    with record(call_sites=True, handler_times=True) as timed:
        engine.run([1])
    assert [event.site for event in timed] == [event.site for event in plain]
    assert len(timed.handler_times) == 2


def test_handlers_of_reported_loops_are_not_measured():
    report = Reporter(Engine(no_op).loop)
    with record(handler_times=True) as trace, report:
        report("started")
    assert len(trace) == 1
    assert trace.handler_times == []


def test_the_option_has_a_name():
    with pytest.raises(TypeError):
        record(True).__enter__()
    assert "HandlerTime" in camshaft.__all__


EVENTS = [
    Events.STARTED,
    Events.EPOCH_STARTED,
    Events.ITERATION_STARTED,
    Events.ITERATION_COMPLETED,
    Events.EPOCH_COMPLETED,
    Events.EXCEPTION_RAISED,
    Events.COMPLETED,
    "ping",
]
FILTERS = [
    {},
    {},
    {"every": 2},
    {"once": 2},
    {"after": 1},
    {"before": 3},
    {"every": 2, "after": 1},
    {"event_filter": lambda engine, count: count % 3 != 1},
]
ONCE = (Events.STARTED, Events.COMPLETED, Events.EXCEPTION_RAISED)


@attrs.frozen
class Plan:
    """The plan of a handler: its event, its filter, and an action at one of its calls."""

    event: object
    filter: dict
    priority: int
    at: int
    act: str
    target: int

    def attach(self, engine, number, plans, ran, attached):
        """Attach the handler; it notes each of its calls."""

        def handler(engine, *error):
            ran.append((number, engine.name, engine.state.iteration, len(error)))
            if sum(call[0] == number for call in ran) != self.at:
                return None
            return self.do(engine, plans, ran, attached)

        handler.__qualname__ = f"handler {number}"
        event = self.event if isinstance(self.event, str) else self.event(priority=self.priority)
        if self.filter and self.event not in (*ONCE, "ping"):
            event = self.event(**self.filter, priority=self.priority)
        attached[number] = engine.add_event_handler(event, handler)

    def do(self, engine, plans, ran, attached):
        """Perform the action of this plan."""
        if self.act == "remove":
            attached[self.target % len(attached)].remove()
        elif self.act == "attach":
            plan, number = plans[self.target % len(plans)], max(attached) + 1
            attrs.evolve(plan, act="nothing").attach(engine, number, plans, ran, attached)
        elif self.act == "raise":
            raise RuntimeError("planted")
        elif self.act == "ask":
            getattr(engine, ("terminate", "interrupt")[self.target % 2])()
        return self.act == "swallow"


plans = st.lists(
    st.builds(
        Plan,
        event=st.sampled_from(EVENTS),
        filter=st.sampled_from(FILTERS),
        priority=st.integers(-1, 1),
        at=st.integers(1, 4),
        act=st.sampled_from(["nothing", "nothing", "remove", "attach", "raise", "ask", "swallow"]),
        target=st.integers(0, 5),
    ),
    min_size=1,
    max_size=6,
)


def played(planned, recorders):
    """Run recorded engines with these handlers; return the calls in their order, and the end."""
    ran, attached = [], {}
    trainer = Engine(lambda engine, batch: engine.fire_event("ping"), name="trainer")
    evaluator = Engine(no_op, name="evaluator")
    trainer.register_events("ping")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2])
    for number, plan in enumerate(planned):
        engine = evaluator if plan.target == 5 and plan.event != "ping" else trainer
        plan.attach(engine, number, planned, ran, attached)
    ends = []
    with contextlib.ExitStack() as stack:
        traces = [stack.enter_context(record(**options)) for options in recorders]
        for _ in range(2):
            try:
                ends.append(trainer.run([1, 2, 3], max_epochs=2).iteration)
            except (RuntimeError, ValueError, EventOrderError) as error:
                ends.append(repr(error))
            trainer.close()
    return traces, ran, ends


def told(trace):
    """Return what a trace says about the order of events."""
    return [(event.engine, event.event, event.count, event.depth) for event in trace]


# -- whatever runs -----------------------------------------------------------------------------------------------------


@given(plans)
def test_counts_are_those_of_the_handlers_themselves(planned):
    (plain,), *expected = played(planned, [{}])
    (timed, silent, second), *found = played(planned, [{"handler_times": True}, {}, {"handler_times": True}])
    assert found == expected
    assert told(timed) == told(silent) == told(second) == told(plain)
    ran = expected[0]
    calls = {name: count for (_, _, name), count in counts_of(timed).items() if name.startswith("handler ")}
    assert calls == Counter(f"handler {number}" for number, *_ in ran)
    names = [one.handler for one in timed.handler_times if one.handler.startswith("handler ")]
    assert names == list(dict.fromkeys(f"handler {number}" for number, *_ in ran))
    runs = Counter(run.engine for run in timed.runs)
    nested = sum(one.count for one in timed.handler_times if one.handler == "run evaluator")
    assert nested >= runs["evaluator"]
    assert timed.handler_times == second.handler_times
    assert silent.handler_times == plain.handler_times == []
    check_sums(timed)


def seen_of(play):
    """Return everything that can be observed of a play."""
    return told(play.trace), type(play.error), str(play.error), play.is_paused, play.handler_calls, play.function_calls


@given(scenarios(loops(), max_calls=3, depth=2, evaluators=loops()))
def test_whatever_runs_runs_the_same_when_it_is_measured(scenario):
    plain = scenario.play()
    with record(handler_times=True) as trace:
        timed = scenario.play()
    assert seen_of(timed) == seen_of(plain)
    assert told(trace) == told(timed.trace)
    trace.assert_legal()
    check_sums(trace)
