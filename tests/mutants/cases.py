"""Cases: loops, and runs in which every control call, fault, filter and kind of data has an effect."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import attrs

from camshaft import DATA, Engine, Loop, Phase, every
from camshaft.events import event
from camshaft.loop.states import CustomState, EventPoint, OpaqueStep
from camshaft.testing import (
    Batches,
    Call,
    Data,
    EveryNthTime,
    FireEvents,
    PlantedError,
    Scenario,
    Scripted,
    ScriptedRange,
    return_batch,
    transition_paths,
)

__all__ = ["Case", "families", "traced"]


@attrs.frozen(eq=False)
class Case:
    """One run, or several runs of one engine.

    Attributes:
        name: the name in the report.
        scenario: the scenario of the run.
        pattern: the pattern that a user would write to test the order of its events, or None.
        saved: the state dict from which the trainer resumes, or None.
        again: the limits of each further run after the first one.
    """

    name: str
    scenario: Scenario
    pattern: str | None = None
    saved: dict[str, Any] | None = None
    again: tuple[dict[str, int], ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def is_plain(self) -> bool:
        """True if it starts from the beginning and runs once. The reference can do only this."""
        return self.saved is None and not self.again

    def engine(self, loop: Loop, name: str) -> Engine:
        """Return an engine for a loop of the scenario."""
        engine = Engine(loop, name)
        if self.saved is not None and name == "trainer":
            engine.load_state_dict(self.saved)
        return engine

    def new_data(self) -> Any:
        """Return new data for the trainer."""
        data = self.scenario.data
        return eval(data.python(None), {"Batches": Batches}) if data is not None else None


class Outputs:
    """``Outputs(name, *none)``: a phase with a new output each time; None if the sum of the counters is in ``none``."""

    def __init__(self, name: str, *none: int) -> None:
        self.name, self.none = name, none

    def __call__(self, engine: Any, batch: Any) -> str | None:
        """Return the output."""
        counts = [getattr(engine.state, name) for name in engine.loop.counters]
        return None if sum(counts) in self.none else f"{self.name} at {counts}"

    def __repr__(self) -> str:
        return f"Outputs({', '.join(map(repr, (self.name, *self.none)))})"


class CallingCondition(Scripted):
    """``CallingCondition(call, n, *answers)``: a scripted condition that makes a control call with its n-th answer."""

    def __call__(self, engine: Any) -> bool:
        """Return the next answer."""
        call, n, *answers = self.arguments
        self.calls += 1
        if self.calls == n:
            eval(f"engine.{call}", {"engine": engine})
        return bool(answers[min(self.calls, len(answers)) - 1])


class CallingElements(ScriptedRange):
    """``CallingElements(call, n, length)``: ``length`` elements, with a call before the n-th one or before the end."""

    def __call__(self, engine: Any) -> Iterator[int]:  # type: ignore[override]
        """Yield the elements."""
        call, n, length = self.arguments
        for number in range(length):
            if number + 1 == n:
                eval(f"engine.{call}", {"engine": engine})
            yield number
        if n > length:
            eval(f"engine.{call}", {"engine": engine})


# -- loops ------------------------------------------------------------------------------------------------------------

OPAQUE = Loop("EPOCH", Loop("ITERATION", OpaqueStep(return_batch), over=DATA))
CUSTOM_STATES = (CustomState("X", "x_started", "x_completed", "ITERATION"), CustomState("Y", "y", None, "ITERATION"))
STEP = OpaqueStep(FireEvents("x_started", "y", "x_completed"))
FIRING = Loop(
    "EPOCH", Loop("ITERATION", STEP, over=DATA), custom_states=CUSTOM_STATES
)  # its source is the same as that of OPAQUE
DECLARED = Loop(
    "EPOCH",
    Loop(
        "ITERATION",
        Phase("FORWARD", return_batch),
        Phase("BACKWARD", Outputs("gradients", 3)),
        Phase("OPTIM_STEP", Outputs("step", 8), every(2)),
        EventPoint("logged"),
        over=DATA,
    ),
)


def _folds(over: Any) -> Loop:
    """Return a loop with a loop FOLD around the epochs."""
    epoch = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD", return_batch), over=DATA), times=2)
    return Loop("FOLD", Phase("SPLIT", Outputs("parts", 8)), epoch, over=over)


FOLDS = _folds(ScriptedRange(2))


def _episodes(when: Any, until: Any, inner: Any = None, over: Any = None) -> Loop:
    """Return a loop without data."""
    timestep = Loop("TIMESTEP", Phase("ACT", Outputs("action", 7)), until=inner or EveryNthTime(2))
    episode = Loop("EPISODE", timestep, over=over or ScriptedRange(2, 1))
    return Loop(
        "ROLLOUT", Phase("RESET", Outputs("start")), episode, Phase("UPDATE", Outputs("update", 19), when), until=until
    )


EPISODES = _episodes(EveryNthTime(2), EveryNthTime(4))
PARTS = Loop("ROUND", Loop("PART", EventPoint("called"), times=2), OpaqueStep(Outputs("output")))
EVALUATION = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD", return_batch), over=DATA))


def _deep(levels: int) -> Loop:
    """Return a loop that is so deep that its source is two functions."""
    loop = Loop(f"L{levels}", Phase("LEAF", Outputs("leaf", 13)), times=2)
    for level in range(levels - 1, 1, -1):
        loop = Loop(f"L{level}", loop, times=1)
    return Loop("L1", loop)


DEEP = _deep(12)

# -- runs -------------------------------------------------------------------------------------------------------------

TWO = {"max_epochs": 2}
SAVED = {"epoch": 1, "iteration": 2, "max_epochs": 2, "max_iters": None, "epoch_length": 3, "position": 2}


def _opaque(name: str, pattern: str | None, *calls: Call, **fields: Any) -> Case:
    """Return a run of the standard loop: two epochs over three batches, unless ``fields`` say otherwise."""
    fields = {"loop": OPAQUE, "data": Data(3), "limits": TWO} | fields
    return Case(name, Scenario(calls=calls, **fields), pattern)


def data() -> Iterator[Case]:
    """Yield runs with different data and limits."""
    epoch = "EPOCH_STARTED (GET_BATCH_STARTED GET_BATCH_COMPLETED ITERATION){3} EPOCH_COMPLETED"
    again = epoch.replace("GET_BATCH_STARTED", "GET_BATCH_STARTED DATALOADER_STOP_ITERATION?")
    yield _opaque("two epochs", f"STARTED {epoch} {again} COMPLETED")
    yield _opaque(
        "data shorter than the epoch",
        "STARTED EPOCH[ITERATION{2} DATALOADER_STOP_ITERATION ITERATION] EPOCH[ITERATION DATALOADER_STOP_ITERATION "
        "ITERATION{2}] COMPLETED",
        data=Data(2),
        limits={"max_epochs": 2, "epoch_length": 3},
    )
    limits = {"max_epochs": 2, "epoch_length": 2}
    yield _opaque("data longer than the epoch", "STARTED EPOCH[ITERATION{2}]{2} COMPLETED", data=Data(5), limits=limits)
    learned = "EPOCH_STARTED (GET_BATCH_STARTED GET_BATCH_COMPLETED ITERATION){3} GET_BATCH_STARTED EPOCH_COMPLETED"
    yield _opaque("unknown length", f"STARTED {learned} {again} COMPLETED", data=Data(3, "unsized"))
    yield _opaque(
        "data that cannot be restarted",
        "STARTED EPOCH[ITERATION{2}] EPOCH_STARTED GET_BATCH_STARTED DATALOADER_STOP_ITERATION TERMINATE COMPLETED",
        data=Data(2, "once"),
        limits={"max_epochs": 3, "epoch_length": 2},
    )
    inside = "STARTED EPOCH[ITERATION{3}] EPOCH_STARTED ITERATION TERMINATE COMPLETED"
    yield _opaque("max_iters inside an epoch", inside, limits={"max_iters": 4})
    yield _opaque("max_iters at its end", "STARTED EPOCH[ITERATION{3}]{2} COMPLETED", limits={"max_iters": 6})
    started = "STARTED (EPOCH_STARTED (ITERATION_STARTED ITERATION_COMPLETED){2} EPOCH_COMPLETED){2} COMPLETED"
    yield _opaque("no data", started, data=None, limits=limits)
    yield _opaque("no data, max_iters", None, data=None, limits={"max_iters": 3, "epoch_length": 2})
    yield _opaque("empty data", "STARTED EPOCH_STARTED GET_BATCH_STARTED EXCEPTION_RAISED", data=Data(0, "unsized"))
    yield Case(
        "a run resumed in the middle of an epoch",
        Scenario(OPAQUE, Data(3)),
        "STARTED EPOCH[ITERATION] EPOCH[ITERATION{3}] COMPLETED",
        SAVED,
    )
    ended, between = {"iteration": 3, "position": 3}, {"iteration": 3, "position": None}
    yield Case("a run resumed at the end of an epoch", Scenario(OPAQUE, Data(3)), None, SAVED | ended)
    yield Case("a run resumed between epochs", Scenario(OPAQUE, Data(3)), None, SAVED | between)
    yield Case("a run resumed with shorter data", Scenario(OPAQUE, Data(1)), None, SAVED)
    last = {"epoch": 2, "iteration": 5}
    yield Case("a run resumed in the last epoch", Scenario(OPAQUE, Data(3)), None, SAVED | last)


def terminated() -> Iterator[Case]:
    """Yield runs in which the run, an epoch or an iteration ends early."""
    stops = "STARTED EPOCH_STARTED ITERATION{2} TERMINATE"
    yield _opaque("terminate at ITERATION_COMPLETED", f"{stops} COMPLETED", Call("iteration_completed", 2, "terminate"))
    yield _opaque("terminate without COMPLETED", stops, Call("iteration_completed", 2, "terminate", True))
    in_step = "STARTED EPOCH_STARTED ITERATION ITERATION_STARTED TERMINATE COMPLETED"
    yield _opaque("terminate in the step", in_step, Call("STEP", 2, "terminate"))
    yield _opaque("terminate at GET_BATCH_STARTED", stops, Call("get_batch_started", 3, "terminate", True))
    yield _opaque("terminate at GET_BATCH_COMPLETED", None, Call("get_batch_completed", 2, "terminate"))
    yield _opaque("terminate at STARTED", "STARTED TERMINATE COMPLETED", Call("started", 1, "terminate"))
    one = "STARTED EPOCH[ITERATION{3}] TERMINATE COMPLETED"
    yield _opaque("terminate at EPOCH_COMPLETED", one, Call("epoch_completed", 1, "terminate"))
    two = "STARTED EPOCH[ITERATION{3}]{2} COMPLETED"
    yield _opaque("terminate at the last EPOCH_COMPLETED", two, Call("epoch_completed", 2, "terminate"))
    late = (Call("terminate", 1, "terminate", True), Call("completed", 1, "terminate"))
    calls = (Call("iteration_completed", 2, "terminate"), *late)
    yield _opaque("terminate at TERMINATE and COMPLETED", f"{stops} COMPLETED", *calls)

    cut = "STARTED EPOCH_STARTED ITERATION ITERATION_STARTED TERMINATE_SINGLE_EPOCH"
    first = Call("iteration_started", 2, "terminate_epoch")
    skipping = attrs.evolve(first, value=True)
    yield _opaque("terminate_epoch", f"{cut} EPOCH_COMPLETED EPOCH[ITERATION{{3}}] COMPLETED", first)
    yield _opaque("terminate_epoch without EPOCH_COMPLETED", f"{cut} EPOCH[ITERATION{{3}}] COMPLETED", skipping)
    last = "STARTED EPOCH_STARTED ITERATION{3} TERMINATE_SINGLE_EPOCH EPOCH_COMPLETED EPOCH[ITERATION{3}] COMPLETED"
    yield _opaque("terminate_epoch at the end", last, Call("iteration_completed", 3, "terminate_epoch"))
    yield _opaque("terminate_epoch in the last step", None, Call("STEP", 3, "terminate_epoch", True))
    unsized = Data(3, "unsized")
    early, used_up = (Call("iteration_completed", n, "terminate_epoch") for n in (1, 2))
    yield _opaque("terminate_epoch with data of unknown length", None, early, data=unsized)
    once = {"data": Data(2, "once"), "limits": {"max_epochs": 2, "epoch_length": 2}}
    yield _opaque("terminate_epoch with data that cannot be restarted", None, early, **once)
    yield _opaque("terminate_epoch with data that is used up", None, used_up, **once)
    for at in ("terminate_single_epoch", "epoch_completed"):
        again = Call(at, 1, "terminate_epoch")
        yield _opaque(f"terminate_epoch again at {at.upper()}", None, first, again, limits={"max_epochs": 3})
    yield _opaque("terminate_epoch before the first epoch", None, Call("started", 1, "terminate_epoch"))

    skips = "STARTED EPOCH[ITERATION ITERATION_STARTED ITERATION_SKIPPED ITERATION] EPOCH[ITERATION{3}] COMPLETED"
    for at in ("iteration_started", "get_batch_completed"):
        yield _opaque(f"skip_iteration at {at.upper()}", skips, Call(at, 2, "skip_iteration"))
    yield _opaque("skip_iteration in the last iteration", None, Call("iteration_started", 3, "skip_iteration"))
    yield _opaque("skip_iteration elsewhere", None, Call("iteration_completed", 2, "skip_iteration"))


def paused() -> Iterator[Case]:
    """Yield runs that pause and resume, get new data, or get several calls at one event."""
    pauses = (
        "STARTED EPOCH_STARTED ITERATION ITERATION_STARTED INTERRUPT ITERATION_COMPLETED ITERATION EPOCH_COMPLETED "
        "EPOCH[ITERATION{3}] COMPLETED"
    )
    for at in ("iteration_started", "STEP"):
        yield _opaque(f"interrupt at {at.upper()}", pauses, Call(at, 2, "interrupt"))
    for at in ("started", "get_batch_started", "get_batch_completed", "epoch_completed", "completed"):
        yield _opaque(f"interrupt at {at.upper()}", None, Call(at, 1, "interrupt"))
    twice = (Call("iteration_completed", 1, "interrupt"), Call("epoch_completed", 1, "interrupt"))
    yield _opaque("interrupt twice, then left", None, *twice, resumes=1)
    first = Call("iteration_completed", 1, "interrupt")
    ends = "STARTED EPOCH_STARTED ITERATION INTERRUPT TERMINATE COMPLETED"
    yield _opaque("terminate at INTERRUPT", ends, first, Call("interrupt", 1, "terminate"))
    yield _opaque("terminate_epoch at INTERRUPT", None, first, Call("interrupt", 1, "terminate_epoch"))
    in_step = Call("STEP", 1, "interrupt")
    yield _opaque("new data at INTERRUPT", None, in_step, Call("interrupt", 1, "set_data", Data(2)))
    faulty = Call("interrupt", 1, "raise", PlantedError)
    yield _opaque("a fault at INTERRUPT", "STARTED EPOCH_STARTED ITERATION INTERRUPT EXCEPTION_RAISED", first, faulty)

    replaced = "STARTED EPOCH[ITERATION{3}] EPOCH[ITERATION DATALOADER_STOP_ITERATION ITERATION{2}] COMPLETED"
    yield _opaque("new data at GET_BATCH_COMPLETED", replaced, Call("get_batch_completed", 2, "set_data", Data(2)))
    yield _opaque("new data at GET_BATCH_STARTED", None, Call("get_batch_started", 3, "set_data", Data(5)))
    yield _opaque("new data at EPOCH_COMPLETED", None, Call("epoch_completed", 1, "set_data", Data(1)))
    once = {"data": Data(2, "once"), "limits": {"max_epochs": 2, "epoch_length": 3}}
    replacing = Call("dataloader_stop_iteration", 1, "set_data", Data(4))
    yield _opaque("new data after the old is exhausted", None, replacing, **once)
    empty = Call("epoch_completed", 1, "set_data", Data(0, "unsized"))
    yield _opaque("new data that is empty", None, empty, **(once | {"data": Data(2)}))
    both = (Call("epoch_completed", 1, "interrupt"), Call("epoch_completed", 1, "terminate_epoch"))
    yield _opaque("interrupt, then terminate_epoch at EPOCH_COMPLETED", None, *both)

    values = {"terminate": False, "terminate_epoch": False, "skip_iteration": None, "set_data": Data(4)}
    ranked = [Call("iteration_started", 2, what, value) for what, value in values.items()]
    ranked.append(Call("iteration_started", 2, "interrupt"))
    for higher, lower in pairwise(ranked):
        yield _opaque(f"{lower.what}, then {higher.what}", None, lower, higher)
        yield _opaque(f"{higher.what}, then {lower.what}", None, higher, lower)


def failing() -> Iterator[Case]:
    """Yield runs with faults."""
    fails = "STARTED EPOCH_STARTED ITERATION ITERATION_STARTED EXCEPTION_RAISED"
    fault = Call("STEP", 2, "raise", PlantedError)
    yield _opaque("a fault in the step", fails, fault)
    yield _opaque("a fault in a handler", fails, Call("iteration_started", 2, "raise", PlantedError))
    yield _opaque("Ctrl+C in the step", fails, attrs.evolve(fault, value=KeyboardInterrupt), swallow=True)
    yield _opaque("a fault that is swallowed", fails, fault, swallow=True)
    yield _opaque("a fault at COMPLETED", None, Call("completed", 1, "raise", PlantedError))
    second = Call("exception_raised", 1, "raise", PlantedError)
    yield _opaque("a fault at EXCEPTION_RAISED", fails, fault, second)
    yield _opaque("terminate at EXCEPTION_RAISED", fails, fault, Call("exception_raised", 1, "terminate"))


def handled() -> Iterator[Case]:
    """Yield runs with filtered handlers, custom events or nested engines."""
    filters = (
        event("iteration_completed", every=2),
        event("iteration_completed", once=3),
        event("iteration_started", after=1, every=2),
        event("iteration_started", before=3),
        event("iteration_started", priority=1),
        event("epoch_completed", every=2),
        event("get_batch_started"),
    )
    yield _opaque("filters and priorities", None, handlers=filters)
    skip = Call("iteration_started", 2, "skip_iteration")
    yield _opaque("filters, and a skipped iteration", None, skip, handlers=filters)
    fired = "ITERATION_STARTED X_STARTED Y X_COMPLETED ITERATION_COMPLETED"
    custom = (event("y", every=2), event("x_completed", priority=-1), event("x_completed"))
    firing = {"loop": FIRING, "handlers": custom}
    yield _opaque("custom events", f"STARTED (EPOCH[({fired}){{3}}]){{2}} COMPLETED", **firing)
    yield _opaque("terminate_epoch inside a custom state", None, Call("y", 2, "terminate_epoch"), **firing)
    yield _opaque("a fault inside a custom state", None, Call("y", 2, "raise", PlantedError), **firing)

    evaluation = Scenario(EVALUATION, Data(2))
    inner = "trainer_0[STARTED EPOCH[FORWARD{2}] COMPLETED]"
    at_end = (("epoch_completed",), evaluation)
    yield _opaque("an evaluator", f"STARTED (EPOCH {inner}){{2}} COMPLETED", nested=(at_end,))
    both = (("started", "epoch_completed"), evaluation)
    yield _opaque("an evaluator at two events", f"STARTED {inner} (EPOCH {inner}){{2}} COMPLETED", nested=(both,))
    yield _opaque("two evaluators", None, nested=(at_end, (("epoch_completed", "completed"), evaluation)))
    heard = attrs.evolve(evaluation, handlers=(event("forward_completed", every=2), event("iteration_completed")))
    yield _opaque("an evaluator with handlers", None, nested=((("epoch_completed",), heard),))
    for what, call in {
        "terminates its trainer": Call("iteration_completed", 1, "terminate_parent"),
        "terminates": Call("iteration_completed", 1, "terminate"),
        "fails": Call("FORWARD", 2, "raise", PlantedError),
        "pauses": Call("iteration_started", 2, "interrupt"),
        "skips": Call("iteration_started", 1, "skip_iteration"),
    }.items():
        calling = attrs.evolve(evaluation, calls=(call,))
        yield _opaque(f"an evaluator that {what}", None, nested=((("epoch_completed",), calling),))
    longer = attrs.evolve(evaluation, limits=TWO, calls=(Call("iteration_completed", 1, "terminate"),))
    yield _opaque("an evaluator that terminates with an epoch left", None, nested=((("epoch_completed",), longer),))
    failing = attrs.evolve(evaluation, calls=(Call("FORWARD", 2, "raise", PlantedError),), swallow=True)
    yield _opaque("an evaluator that swallows its fault", None, nested=((("epoch_completed",), failing),))
    same = ((("iteration_completed",), Scenario(FIRING, Data(1))),)
    yield _opaque("an evaluator with the same custom events", None, loop=FIRING, nested=same, data=Data(2))


def repeated() -> Iterator[Case]:
    """Yield further runs of one engine."""
    heard = {"handlers": (event("y", every=4), event("iteration_completed", every=4)), "loop": FIRING}
    for name, calls, fields in (
        ("after its end", (), {}),
        ("after terminate", (Call("iteration_completed", 2, "terminate"),), {}),
        ("after a fault", (Call("STEP", 2, "raise", PlantedError),), {"swallow": True}),
        (
            "after data that cannot be restarted",
            (),
            {"data": Data(2, "once"), "limits": {"max_epochs": 3, "epoch_length": 2}},
        ),
    ):
        first = _opaque(f"a run {name}", None, *calls, **heard, **fields)
        yield attrs.evolve(first, again=({},))
        yield attrs.evolve(first, name=f"a longer run {name}", again=({"max_epochs": 4},))


def declared() -> Iterator[Case]:
    """Yield runs of the standard loop with declared phases."""
    one, two = "ITERATION[FORWARD BACKWARD LOGGED]", "ITERATION[FORWARD BACKWARD OPTIM_STEP LOGGED]"
    yield Case("two epochs", Scenario(DECLARED, Data(4), TWO), f"STARTED EPOCH[({one} {two}){{2}}]{{2}} COMPLETED")
    yield Case("three batches", Scenario(DECLARED, Data(3), TWO))
    for at, what in {
        "FORWARD": "terminate",
        "OPTIM_STEP": "terminate_epoch",
        "backward_completed": "terminate_epoch",
        "optim_step_started": "interrupt",
        "logged": "interrupt",
        "forward_started": "terminate",
        "backward_started": "terminate",
    }.items():
        call = Call(at, 1, what, None if what == "interrupt" else at == "backward_started")
        yield Case(f"{what} at {at}", Scenario(DECLARED, Data(2), TWO, (call,)))
    for at in ("BACKWARD", "optim_step_completed"):
        fault = Call(at, 2, "raise", PlantedError)
        yield Case(f"a fault at {at}", Scenario(DECLARED, Data(2), {"max_epochs": 3}, (fault,)))
    skip = Call("iteration_started", 2, "skip_iteration")
    skips = f"STARTED EPOCH[{one} ITERATION_STARTED ITERATION_SKIPPED {one} {two}] EPOCH[({one} {two}){{2}}] COMPLETED"
    yield Case("skip_iteration", Scenario(DECLARED, Data(4), TWO, (skip,)), skips)
    new_data = Call("get_batch_started", 2, "set_data", Data(5))
    yield Case("new data", Scenario(DECLARED, Data(3), TWO, (new_data,)))
    yield Case("a run resumed in the middle of an epoch", Scenario(DECLARED, Data(3)), None, SAVED)
    ended = SAVED | {"iteration": 3, "position": 3}
    yield Case("a run resumed at the end of an epoch", Scenario(DECLARED, Data(3)), None, ended)


def folds() -> Iterator[Case]:
    """Yield runs of a loop with a loop around the epochs."""
    whole = "FOLD[SPLIT EPOCH[ITERATION{2}]{2}]"
    yield Case("two folds", Scenario(FOLDS, Data(2)), f"STARTED {whole}{{2}} COMPLETED")
    yield Case("one fold", Scenario(FOLDS, Data(2), {"max_epochs": 1}), f"STARTED {whole} COMPLETED")
    for limits in ({"max_iters": 5}, {"max_iters": 6}, {"epoch_length": 3}, {"epoch_length": 1}):
        words = ", ".join(f"{name}={value}" for name, value in limits.items())
        yield Case(words, Scenario(FOLDS, Data(2), limits))
    yield Case("no data", Scenario(FOLDS, None, {"epoch_length": 1}))
    yield Case("unknown length", Scenario(FOLDS, Data(2, "unsized")))
    for at, n, what, value in (
        ("epoch_completed", 1, "terminate_epoch", False),
        ("SPLIT", 1, "terminate_epoch", True),
        ("epoch_completed", 2, "terminate_epoch", False),
        ("FORWARD", 3, "terminate", False),
        ("fold_completed", 1, "terminate", True),
        ("epoch_started", 2, "interrupt", None),
        ("iteration_started", 3, "skip_iteration", None),
        ("get_batch_completed", 2, "set_data", Data(1)),
        ("get_batch_started", 2, "set_data", Data(3)),
        ("FORWARD", 3, "raise", PlantedError),
    ):
        yield Case(f"{what} at {at} {n}", Scenario(FOLDS, Data(2), {}, (Call(at, n, what, value),)))
    saved = {"fold": 0, "epoch": 0, "iteration": 0, "max_epochs": None, "max_iters": None, "epoch_length": 2}
    between = saved | {"fold": 1, "epoch": 2, "iteration": 4, "position": None}
    yield Case("a run resumed at the second fold", Scenario(FOLDS, Data(2)), None, between)
    first = saved | {"fold": 1, "epoch": 1, "iteration": 1, "position": 1, "passes": {"EPOCH": 1}}
    for name, changes in {
        "in the first epoch of a fold": {},
        "in the second epoch of a fold": {"epoch": 2, "iteration": 3, "passes": {"EPOCH": 2}},
        "at the end of an epoch": {"iteration": 2, "position": 2},
        "between two epochs": {"iteration": 2, "position": None},
        "after the last epoch of a fold": {"epoch": 2, "iteration": 4, "position": None, "passes": {"EPOCH": 2}},
        "at the start of the second fold": {
            "fold": 2,
            "epoch": 2,
            "iteration": 4,
            "position": None,
            "passes": {"EPOCH": 0},
        },
    }.items():
        yield Case(f"a run resumed {name}", Scenario(FOLDS, Data(2)), None, first | changes)
    for call in ("terminate()", "terminate(skip_completed=True)", "interrupt()"):
        for n in (1, 2, 3):
            yield Case(f"{call} before element {n}", Scenario(_folds(CallingElements(call, n, 2)), Data(2)))


def episodes() -> Iterator[Case]:
    """Yield runs of a loop without data."""
    yield Case(
        "unchanged",
        Scenario(EPISODES),
        "STARTED ROLLOUT[RESET EPISODE[TIMESTEP{2}]{2}] ROLLOUT[RESET EPISODE[TIMESTEP{2}] UPDATE] "
        "ROLLOUT[RESET EPISODE[TIMESTEP{2}]] ROLLOUT[RESET EPISODE[TIMESTEP{2}] UPDATE] COMPLETED",
    )
    yield Case("max_epochs", Scenario(EPISODES, None, {"max_epochs": 2}), "STARTED ROLLOUT{2} COMPLETED")
    for at, n, what, value in (
        ("ACT", 2, "terminate_epoch", False),
        ("ACT", 2, "terminate_epoch", True),
        ("update_completed", 1, "terminate_epoch", False),
        ("rollout_completed", 1, "terminate", False),
        ("episode_completed", 1, "terminate", True),
        ("timestep_completed", 2, "interrupt", None),
        ("ACT", 3, "interrupt", None),
        ("reset_completed", 2, "raise", PlantedError),
    ):
        name = f"{what} at {at} {n}{' without ROLLOUT_COMPLETED' * (value is True)}"
        yield Case(name, Scenario(EPISODES, calls=(Call(at, n, what, value),)))
    skips = tuple(Call("ACT", n, "terminate_epoch", True) for n in (1, 2, 3, 4))
    yield Case("terminate_epoch in every pass", Scenario(EPISODES, calls=skips))
    for call in ("terminate()", "terminate(skip_completed=True)", "interrupt()"):
        for n in (1, 2, 3):
            condition = CallingCondition(call, n, False, False, True)
            yield Case(f"{call} at call {n} of the condition", Scenario(_episodes(EveryNthTime(2), condition)))
    saved = {"rollout": 2, "episode": 4, "timestep": 8, "max_epochs": None, "max_iters": None, "position": None}
    for n in (1, 2):  # the condition is asked before the first pass of a resumed run
        yield Case(
            f"a run resumed with {n} answers", Scenario(_episodes(EveryNthTime(2), EveryNthTime(n))), None, saved
        )
    for call in ("terminate()", "terminate(skip_completed=True)", "interrupt()"):
        asked = CallingCondition(call, 1, False, True)
        yield Case(f"{call} as a run is resumed", Scenario(_episodes(EveryNthTime(2), asked)), None, saved)
    for call in ("terminate_epoch()", "terminate()", "interrupt()"):
        for n in (1, 2):
            inner = CallingCondition(call, n, False, True, True, True)
            yield Case(
                f"{call} at call {n} of the inner condition",
                Scenario(_episodes(EveryNthTime(2), EveryNthTime(3), inner)),
            )
            over = CallingElements(call, n, 2)
            yield Case(
                f"{call} before inner element {n}", Scenario(_episodes(EveryNthTime(2), EveryNthTime(3), None, over))
            )
    for n in (1, 2):
        for answer in (False, True):
            condition = CallingCondition("terminate_epoch(skip_epoch_completed=True)", n, answer, answer)
            name = f"terminate_epoch in call {n} of the last phase's condition, which returns {answer}"
            yield Case(name, Scenario(_episodes(condition, EveryNthTime(3))))


def parts() -> Iterator[Case]:
    """Yield runs of a loop that ends with an opaque step."""
    yield Case("two rounds", Scenario(PARTS, None, TWO), "STARTED ROUND[PART[CALLED]{2}]{2} COMPLETED")
    for at, what, value in (
        ("STEP", "terminate_epoch", False),
        ("STEP", "terminate_epoch", True),
        ("STEP", "terminate", False),
        ("part_started", "terminate", True),
        ("STEP", "interrupt", None),
        ("called", "interrupt", None),
        ("part_completed", "terminate_epoch", False),
        ("STEP", "raise", PlantedError),
    ):
        name = f"{what} at {at}{' without ROUND_COMPLETED' * (value is True)}"
        yield Case(name, Scenario(PARTS, None, TWO, (Call(at, 1, what, value),)))


def deep() -> Iterator[Case]:
    """Yield runs of the deep loop."""
    yield Case("unchanged", Scenario(DEEP), "STARTED L1[L2[L12{2}]] COMPLETED")
    for at, what, value in (
        ("LEAF", "terminate_epoch", False),
        ("leaf_completed", "interrupt", None),
        ("LEAF", "terminate", True),
        ("LEAF", "raise", PlantedError),
    ):
        yield Case(f"{what} at {at}", Scenario(DEEP, None, TWO, (Call(at, 1, what, value),)))


def _family(loop: Loop, *cases: Iterator[Case], with_paths: bool = True) -> tuple[Loop, tuple[Case, ...]]:
    paths = transition_paths(loop) if with_paths else []
    found = [Case(f"path {number}, {path}", path) for number, path in enumerate(paths, 1)]
    return loop, (*(case for some in cases for case in some), *found)


@cache
def families() -> dict[str, tuple[Loop, tuple[Case, ...]]]:
    """Return by name: a loop, and the cases in which mutants of it are judged."""
    return {
        "opaque": _family(OPAQUE, data(), terminated(), paused(), failing(), handled(), repeated()),
        "declared": _family(DECLARED, declared()),
        "folds": _family(FOLDS, folds()),
        "episodes": _family(EPISODES, episodes()),
        "parts": _family(PARTS, parts()),
        "deep": _family(DEEP, deep(), with_paths=False),
    }


# -- short runs for mutants of traces ---------------------------------------------------------------------------------


@cache
def traced() -> tuple[Case, ...]:
    """Return cases with short traces. In each one, something else ends, repeats or interrupts the run."""
    return tuple(_traced())


def _traced() -> Iterator[Case]:
    two = "EPOCH[ITERATION{2}]"
    yield _opaque("two epochs", f"STARTED {two}{{2}} COMPLETED", data=Data(2))
    short = "STARTED EPOCH[ITERATION DATALOADER_STOP_ITERATION ITERATION] COMPLETED"
    yield _opaque("short data", short, data=Data(1), limits={"epoch_length": 2})
    yield _opaque("unknown length", "STARTED EPOCH[ITERATION{2}] COMPLETED", data=Data(2, "unsized"), limits={})
    yield _opaque("no data", "STARTED EPOCH[ITERATION{2}] COMPLETED", data=None, limits={"epoch_length": 2})
    inside = "STARTED EPOCH[ITERATION{2}] EPOCH_STARTED ITERATION TERMINATE COMPLETED"
    yield _opaque("max_iters", inside, data=Data(2), limits={"max_iters": 3})
    one = {"data": Data(2), "limits": {}}
    cut = "STARTED EPOCH_STARTED ITERATION_STARTED TERMINATE"
    yield _opaque("terminate", cut, Call("STEP", 1, "terminate", True), **one)
    ended = "STARTED EPOCH_STARTED ITERATION TERMINATE_SINGLE_EPOCH EPOCH_COMPLETED EPOCH[ITERATION{2}] COMPLETED"
    yield _opaque("terminate_epoch", ended, Call("iteration_completed", 1, "terminate_epoch"), data=Data(2))
    skips = "STARTED EPOCH[ITERATION_STARTED ITERATION_SKIPPED ITERATION] COMPLETED"
    yield _opaque("skip_iteration", skips, Call("iteration_started", 1, "skip_iteration"), **one)
    pauses = "STARTED EPOCH_STARTED ITERATION_STARTED INTERRUPT ITERATION_COMPLETED ITERATION EPOCH_COMPLETED COMPLETED"
    yield _opaque("interrupt", pauses, Call("STEP", 1, "interrupt"), **one)
    fails = "STARTED EPOCH_STARTED ITERATION ITERATION_STARTED EXCEPTION_RAISED"
    yield _opaque("fault", fails, Call("STEP", 2, "raise", PlantedError), **one)
    fires = "STARTED EPOCH[ITERATION[X[Y]]] COMPLETED"
    yield _opaque("custom events", fires, loop=FIRING, data=Data(1), limits={})
    evaluation = Scenario(EVALUATION, Data(1))
    inner = "trainer_0[STARTED EPOCH[FORWARD] COMPLETED]"
    single = {"data": Data(1), "limits": {}}
    both = ((("started", "epoch_completed"), evaluation),)
    yield _opaque("evaluator", f"STARTED {inner} EPOCH {inner} COMPLETED", nested=both, **single)
    failing = attrs.evolve(evaluation, calls=(Call("FORWARD", 1, "raise", PlantedError),))
    for swallow in (False, True):
        scenario = attrs.evolve(failing, swallow=swallow)
        name = f"evaluator that fails{' and swallows it' * swallow}"
        yield _opaque(name, None, nested=((("epoch_completed",), scenario),), **single)
    saved = SAVED | {"iteration": 1, "epoch_length": 2, "position": 1}
    resumed = "STARTED EPOCH[ITERATION] EPOCH[ITERATION{2}] COMPLETED"
    yield Case("resumed in an epoch", Scenario(OPAQUE, Data(2)), resumed, saved)
    phases = "STARTED EPOCH[ITERATION[FORWARD BACKWARD LOGGED] ITERATION[FORWARD BACKWARD OPTIM_STEP LOGGED]] COMPLETED"
    yield Case("phases", Scenario(DECLARED, Data(2)), phases)
    yield Case("folds", Scenario(FOLDS, Data(1)), "STARTED FOLD[SPLIT EPOCH[ITERATION]{2}]{2} COMPLETED")
    limits = {"max_epochs": 1}
    yield Case("episodes", Scenario(EPISODES, None, limits), "STARTED ROLLOUT[RESET EPISODE{2}] COMPLETED")
