"""EngineStateMachine passes on the engine, and finds the faults of broken engines."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

import camshaft.engine.engine
from camshaft import Engine, EventOrderError, Events, Phase, every
from camshaft.control import Interrupt, Terminate
from camshaft.engine.dispatch import EngineEvent, _FilteredHandlers
from camshaft.engine.handler import Handler
from camshaft.engine.location import EngineLocation
from camshaft.engine.run import Run
from camshaft.engine.starting import RunStarter
from camshaft.testing import no_op, return_batch
from camshaft.testing.stateful import LOOPS, EngineStateMachine
from support.edits import mutate, replace

small = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))

TestEngine = EngineStateMachine.TestCase
TestEngine.settings = small


class Declared(EngineStateMachine):
    """A user's engine, with an additional rule and an additional invariant."""

    def make_engine(self) -> Engine:
        engine = Engine([Phase("FORWARD", return_batch), Phase("OPTIM_STEP", no_op, every(2))], "mine", strict=True)
        self.heard: list[int] = []
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: self.heard.append(engine.state.iteration))
        return engine

    def make_data(self) -> Any:
        return "ab"

    @precondition(lambda self: self.is_idle)
    @rule()
    def run_twice(self) -> None:
        self.close()
        self.run({"max_epochs": 1})
        if self.is_idle:
            self.run({"max_epochs": 2})

    @invariant()
    def the_output_is_a_batch(self) -> None:
        assert self.engine.state.output in (None, "a", "b")


class Counting(EngineStateMachine):
    """An engine without a twin: it terminates its run at the sixth start of its outermost loop since it was made."""

    def make_engine(self) -> Engine:
        engine, seen = Engine(self.loop), itertools.count()
        engine.add_event_handler(self.loop.started, lambda: engine.terminate() if next(seen) == 5 else None)
        return engine

    def make_twin(self) -> Engine | None:
        return None


@pytest.mark.parametrize("machine", [Declared, Counting])
def test_it_passes_on_engines_of_a_users_own(machine: type[EngineStateMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(small, max_examples=20))


def test_what_a_custom_engine_remembers_is_seen_by_its_twin() -> None:
    class Forgetful(Counting):
        def make_twin(self) -> Engine | None:
            return self.make_engine()

    with pytest.raises(AssertionError, match="a twin fires"):
        run_state_machine_as_test(Forgetful, settings=hunting)


# -- broken engines ---------------------------------------------------------------------------------------------------

hunting = settings(
    small,
    max_examples=400,
    phases=[HypothesisPhase.generate],
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
)

ONLY_HANDLERS = dict.fromkeys(
    ["plant", "call", "run_in_steps", "step", "leave_steps", "resume", "resume_with_other_data"]
)
"""The rules to remove from a machine that only runs engines and attaches handlers."""

Breaks = Callable[[pytest.MonkeyPatch], None]
BROKEN: dict[str, tuple[str, dict[str, Any], Breaks]] = {}


def broken(found: str, **narrowed: Any) -> Callable[[Breaks], Breaks]:
    """Register a way to break engines.

    Args:
        found: a regular expression of the message that the machine must raise.
        narrowed: attributes of the machine that make the search short.
    """

    def note(breaks: Breaks) -> Breaks:
        BROKEN[breaks.__name__.replace("_", " ")] = found, {"loop": LOOPS[0]} | narrowed, breaks
        return breaks

    return note


@broken("called were")
def a_removed_handler_is_still_called(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EngineEvent, "detach", lambda self, handler: None)


@broken("called were", events=["iteration_started"], **ONLY_HANDLERS)
def a_handler_that_was_removed_in_a_firing_is_called_in_it(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Handler, "remove", lambda self: None)


@broken("called were")
def a_handler_that_was_added_in_a_firing_is_called_in_it(patch: pytest.MonkeyPatch) -> None:
    arrange, live = EngineEvent._arrange, {}

    def arrange_in_place(self: EngineEvent) -> None:
        calls = live.setdefault(id(self), [])
        arrange(self)
        calls[:] = self.handlers
        self.handlers = calls

    patch.setattr(EngineEvent, "_arrange", arrange_in_place)


@broken("called were")
def removing_a_handler_removes_the_last_one(patch: pytest.MonkeyPatch) -> None:
    detach = EngineEvent.detach
    patch.setattr(EngineEvent, "detach", lambda self, handler: detach(self, self.attached[-1]))


@broken("called were")
def priorities_are_ignored(patch: pytest.MonkeyPatch) -> None:
    attach = EngineEvent.attach

    def attach_last(self: EngineEvent, handler: Handler) -> None:
        handler.priority = 0
        attach(self, handler)

    patch.setattr(EngineEvent, "attach", attach_last)


@broken("called were")
def filters_are_off_by_one(patch: pytest.MonkeyPatch) -> None:
    is_due = _FilteredHandlers._is_due
    patch.setattr(
        _FilteredHandlers, "_is_due", staticmethod(lambda handler, engine, count: is_due(handler, engine, count + 1))
    )


@broken("called were", events=["x_started"], loop=LOOPS[2])
def own_firings_are_counted_over_all_runs(patch: pytest.MonkeyPatch) -> None:
    begin_run = EngineEvent.begin_run
    patch.setattr(EngineEvent, "begin_run", lambda self, count: begin_run(self, None))


@broken("is illegal|is pass|the engine is in|stops with", events=["iteration_started"])
def interrupt_loses_an_event(patch: pytest.MonkeyPatch) -> None:
    interrupt = Run._interrupt

    def lose(self: Run, firing: EngineEvent, fired: bool) -> None:
        interrupt(self, firing, fired)
        next(self._generator, None)

    patch.setattr(Run, "_interrupt", lose)


@broken("interrupt was called, but")
def interrupt_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Engine, "interrupt", lambda self: None)


@broken("terminate was called, but")
def terminate_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Engine, "terminate", lambda self: None)


@broken("was called, but interrupt fired", events=["epoch_started"])
def interrupt_goes_before_everything(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Interrupt, "rank", Terminate.rank + 1)


@broken("terminate_epoch was called, but")
def terminate_epoch_terminates(patch: pytest.MonkeyPatch) -> None:
    terminate_epoch = Engine.terminate_epoch

    def terminate(self: Engine) -> None:
        terminate_epoch(self)
        self.terminate()

    patch.setattr(Engine, "terminate_epoch", terminate)


@broken("terminate_epoch was not refused")
def terminate_epoch_is_never_refused(patch: pytest.MonkeyPatch) -> None:
    terminate_epoch = Engine.terminate_epoch

    def forgive(self: Engine) -> None:
        with contextlib.suppress(RuntimeError):
            terminate_epoch(self)

    patch.setattr(Engine, "terminate_epoch", forgive)


@broken("skip_iteration was called, but")
def no_iteration_is_skipped(patch: pytest.MonkeyPatch) -> None:
    skip_iteration = Engine.skip_iteration

    def skip(self: Engine) -> None:
        skip_iteration(self)
        self.current_run.control = None

    patch.setattr(Engine, "skip_iteration", skip)


@broken("is pass|are done|was started with|the state counts|a twin fires")
def close_does_not_start_over(patch: pytest.MonkeyPatch) -> None:
    close = Engine.close

    def keep(self: Engine) -> None:
        state, has_started = self.state, self._starter.has_started
        epoch, iteration = state.epoch, state.iteration
        close(self)
        state.epoch, state.iteration, self._starter.has_started = epoch, iteration, has_started

    patch.setattr(Engine, "close", keep)


@broken("is pass|was not refused|the state counts", events=["epoch_started"])
def an_engine_that_was_terminated_starts_over(patch: pytest.MonkeyPatch) -> None:
    on_run_ended = Engine._on_run_ended
    patch.setattr(Engine, "_on_run_ended", lambda self, outcome, _: on_run_ended(self, outcome, outcome == "completed"))


@broken("is pass|was not refused|the state counts")
def an_engine_that_failed_starts_over(patch: pytest.MonkeyPatch) -> None:
    on_run_ended = Engine._on_run_ended

    def forget(self: Engine, outcome: str, finished: bool) -> None:
        on_run_ended(self, outcome, finished)
        self._starter.has_started = outcome != "failed"

    patch.setattr(Engine, "_on_run_ended", forget)


@broken("is pass")
def a_counter_is_counted_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(camshaft.engine.engine, "generate", mutate(replace("state.iteration += 1", "state.iteration += 2")))


@broken("other data was not refused")
def a_paused_engine_takes_other_data(patch: pytest.MonkeyPatch) -> None:
    continue_paused = RunStarter._continue_paused
    patch.setattr(
        RunStarter,
        "_continue_paused",
        lambda self, engine, run, data, limits: continue_paused(self, engine, run, None, limits),
    )


@broken("is illegal|a twin fires", events=["iteration_completed"])
def a_pause_ends_the_epoch(patch: pytest.MonkeyPatch) -> None:
    continue_paused = RunStarter._continue_paused

    def restart(self: RunStarter, engine: Engine, run: Run, data: Any, limits: Any) -> Run:
        run.fetcher.restart()
        return continue_paused(self, engine, run, data, limits)

    patch.setattr(RunStarter, "_continue_paused", restart)


@broken("did not raise")
def an_error_does_not_leave(patch: pytest.MonkeyPatch) -> None:
    fail = Run._fail
    patch.setattr(Run, "_fail", lambda self, error: fail(self, error) or True)


@broken("lack 'in trainer")
def an_error_does_not_say_where(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(EngineLocation, "take_place", lambda self, engine, error: ("somewhere", ""))


@broken("is illegal in FAILED")
def exception_raised_fires_twice(patch: pytest.MonkeyPatch) -> None:
    dispatch = EngineLocation.dispatch

    def dispatch_twice(self: EngineLocation, engine: Engine, event: EngineEvent, *error: BaseException) -> list[Any]:
        if error:
            dispatch(self, engine, event, *error)
        return dispatch(self, engine, event, *error)

    patch.setattr(EngineLocation, "dispatch", dispatch_twice)


@broken("a step returned")
def steps_are_handed_out_in_pairs(patch: pytest.MonkeyPatch) -> None:
    steps = Engine.steps
    patch.setattr(
        Engine, "steps", lambda self, data=None, **limits: itertools.islice(steps(self, data, **limits), 1, None, 2)
    )


@broken("idle in")
def where_is_never_empty(patch: pytest.MonkeyPatch) -> None:
    where = Engine.where
    patch.setattr(Engine, "where", property(lambda self: where.fget(self) or ("EPOCH",)))


@broken("close was not refused")
def an_engine_that_runs_can_be_closed(patch: pytest.MonkeyPatch) -> None:
    close = Engine.close

    def forgive(self: Engine) -> None:
        with contextlib.suppress(RuntimeError):
            close(self)

    patch.setattr(Engine, "close", forgive)


@pytest.mark.parametrize("name", BROKEN)
def test_it_finds_that(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, narrowed, breaks = BROKEN[name]
    breaks(monkeypatch)
    machine = type("Narrowed", (EngineStateMachine,), narrowed)
    with pytest.raises((AssertionError, EventOrderError, ValueError), match=found):
        run_state_machine_as_test(machine, settings=hunting)


def test_a_failure_is_shown_as_the_few_rules_that_bring_it(monkeypatch: pytest.MonkeyPatch) -> None:
    a_removed_handler_is_still_called(monkeypatch)
    narrowed = ONLY_HANDLERS | {"loop": LOOPS[0], "events": ["epoch_started"], "make_data": lambda self: [1]}
    machine = type("Narrowed", (EngineStateMachine,), narrowed)
    shrinking = settings(hunting, stateful_step_count=10, phases=[HypothesisPhase.generate, HypothesisPhase.shrink])
    with pytest.raises(AssertionError, match="called were .* instead of") as caught:
        run_state_machine_as_test(machine, settings=shrinking)
    lines = "\n".join(caught.value.__notes__).splitlines()
    shown = [line for line in lines if line.startswith(("state", "handlers")) and line != "state.check()"]
    assert shown == [
        "state = Narrowed()",
        "state.create(source=data(...))",
        "handlers_0 = state.add_handler(on=('epoch_started', {}), when=None)",
        "state.remove_handler(handler=handlers_0, when=None)",
        "state.run(limits={})",
        "state.teardown()",
    ]
