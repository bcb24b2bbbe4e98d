"""Cases: loops, and runs of them in which every control call, fault, filter and shape of data has effect."""

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
    """One run.

    Attributes:
        name: in the report.
        scenario: what is run.
        pattern: what somebody who tests the order of its events would write.
        saved: the state dict that the trainer goes on from.
        again: the limits of each further run of it, once it is over.
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
        """Whether it begins at the start and runs once, as the reference does."""
        return self.saved is None and not self.again

    def engine(self, loop: Loop, name: str) -> Engine:
        """An engine of the scenario."""
        engine = Engine(loop, name)
        if self.saved is not None and name == "trainer":
            engine.load_state_dict(self.saved)
        return engine

    def new_data(self) -> Any:
        """The data of the trainer, not read yet."""
        data = self.scenario.data
        return eval(data.python(None), {"Batches": Batches}) if data is not None else None


class Gives:
    """``Gives(name, *none)``: a phase that gives something else each time; nothing where the counters add up to so."""

    def __init__(self, name: str, *none: int) -> None:
        self.name, self.none = name, none

    def __call__(self, engine: Any, batch: Any) -> str | None:
        """Run it."""
        counts = [getattr(engine.state, name) for name in engine.loop.counters]
        return None if sum(counts) in self.none else f"{self.name} at {counts}"

    def __repr__(self) -> str:
        return f"Gives({', '.join(map(repr, (self.name, *self.none)))})"


class Asks(Scripted):
    """``Asks(call, n, *answers)``: a condition that gives these answers in turn, and makes a call with the n-th."""

    def __call__(self, engine: Any) -> bool:
        """Ask it."""
        call, n, *answers = self.arguments
        self.calls += 1
        if self.calls == n:
            eval(f"engine.{call}", {"engine": engine})
        return bool(answers[min(self.calls, len(answers)) - 1])


class Yields(ScriptedRange):
    """``Yields(call, n, length)``: so many elements, and a call before the n-th of them, or before their end."""

    def __call__(self, engine: Any) -> Iterator[int]:  # type: ignore[override]
        """The elements."""
        call, n, length = self.arguments
        for number in range(length):
            if number + 1 == n:
                eval(f"engine.{call}", {"engine": engine})
            yield number
        if n > length:
            eval(f"engine.{call}", {"engine": engine})


# -- loops ------------------------------------------------------------------------------------------------------------

OPAQUE = Loop("EPOCH", Loop("ITERATION", OpaqueStep(return_batch), over=DATA))
FREES = (CustomState("X", "x_started", "x_completed", "ITERATION"), CustomState("Y", "y", None, "ITERATION"))
STEP = OpaqueStep(FireEvents("x_started", "y", "x_completed"))
FIRING = Loop("EPOCH", Loop("ITERATION", STEP, over=DATA), custom_states=FREES)  # its source is that of OPAQUE
DECLARED = Loop(
    "EPOCH",
    Loop(
        "ITERATION",
        Phase("FORWARD", return_batch),
        Phase("BACKWARD", Gives("gradients", 3)),
        Phase("OPTIM_STEP", Gives("step", 8), every(2)),
        EventPoint("logged"),
        over=DATA,
    ),
)


def _folds(over: Any) -> Loop:
    """A loop around the epochs."""
    epoch = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD", return_batch), over=DATA), times=2)
    return Loop("FOLD", Phase("SPLIT", Gives("parts", 8)), epoch, over=over)


FOLDS = _folds(ScriptedRange(2))


def _episodes(when: Any, until: Any, inner: Any = None, over: Any = None) -> Loop:
    """A loop without data."""
    timestep = Loop("TIMESTEP", Phase("ACT", Gives("action", 7)), until=inner or EveryNthTime(2))
    episode = Loop("EPISODE", timestep, over=over or ScriptedRange(2, 1))
    return Loop(
        "ROLLOUT", Phase("RESET", Gives("start")), episode, Phase("UPDATE", Gives("update", 19), when), until=until
    )


EPISODES = _episodes(EveryNthTime(2), EveryNthTime(4))
PARTS = Loop("ROUND", Loop("PART", EventPoint("called"), times=2), OpaqueStep(Gives("output")))
EVALUATION = Loop("EPOCH", Loop("ITERATION", Phase("FORWARD", return_batch), over=DATA))


def _deep(levels: int) -> Loop:
    """A loop so deep that it is written out as two functions."""
    loop = Loop(f"L{levels}", Phase("LEAF", Gives("leaf", 13)), times=2)
    for level in range(levels - 1, 1, -1):
        loop = Loop(f"L{level}", loop, times=1)
    return Loop("L1", loop)


DEEP = _deep(12)

# -- runs of them -----------------------------------------------------------------------------------------------------

TWO = {"max_epochs": 2}
SAVED = {"epoch": 1, "iteration": 2, "max_epochs": 2, "max_iters": None, "epoch_length": 3, "position": 2}


def _opaque(name: str, pattern: str | None, *calls: Call, **fields: Any) -> Case:
    """A run of the standard loop: two epochs over three batches, unless said otherwise."""
    fields = {"loop": OPAQUE, "data": Data(3), "limits": TWO} | fields
    return Case(name, Scenario(calls=calls, **fields), pattern)


def data() -> Iterator[Case]:
    """Shapes of data and limits."""
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
        "a run that goes on in the middle of an epoch",
        Scenario(OPAQUE, Data(3)),
        "STARTED EPOCH[ITERATION] EPOCH[ITERATION{3}] COMPLETED",
        SAVED,
    )
    ended, between = {"iteration": 3, "position": 3}, {"iteration": 3, "position": None}
    yield Case("a run that goes on at the end of an epoch", Scenario(OPAQUE, Data(3)), None, SAVED | ended)
    yield Case("a run that goes on between epochs", Scenario(OPAQUE, Data(3)), None, SAVED | between)
    yield Case("a run that goes on with shorter data", Scenario(OPAQUE, Data(1)), None, SAVED)
    last = {"epoch": 2, "iteration": 5}
    yield Case("a run that goes on in the last epoch", Scenario(OPAQUE, Data(3)), None, SAVED | last)


def terminated() -> Iterator[Case]:
    """The run, the epoch or the iteration ends early."""
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
    yield _opaque("terminate_epoch before one began", None, Call("started", 1, "terminate_epoch"))

    skips = "STARTED EPOCH[ITERATION ITERATION_STARTED ITERATION_SKIPPED ITERATION] EPOCH[ITERATION{3}] COMPLETED"
    for at in ("iteration_started", "get_batch_completed"):
        yield _opaque(f"skip_iteration at {at.upper()}", skips, Call(at, 2, "skip_iteration"))
    yield _opaque("skip_iteration in the last iteration", None, Call("iteration_started", 3, "skip_iteration"))
    yield _opaque("skip_iteration elsewhere", None, Call("iteration_completed", 2, "skip_iteration"))


def paused() -> Iterator[Case]:
    """The run pauses and goes on; it gets other data; several things are asked for at once."""
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
    given = Call("dataloader_stop_iteration", 1, "set_data", Data(4))
    yield _opaque("new data when the old ran out", None, given, **once)
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
    """Faults."""
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
    """Handlers with filters, custom events, nested engines."""
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
    """Runs of an engine that has run before."""
    heard = {"handlers": (event("y", every=4), event("iteration_completed", every=4)), "loop": FIRING}
    for name, calls, fields in (
        ("after its end", (), {}),
        ("after terminate", (Call("iteration_completed", 2, "terminate"),), {}),
        ("after a fault", (Call("STEP", 2, "raise", PlantedError),), {"swallow": True}),
        ("after data that gave out", (), {"data": Data(2, "once"), "limits": {"max_epochs": 3, "epoch_length": 2}}),
    ):
        first = _opaque(f"a run {name}", None, *calls, **heard, **fields)
        yield attrs.evolve(first, again=({},))
        yield attrs.evolve(first, name=f"a longer run {name}", again=({"max_epochs": 4},))


def declared() -> Iterator[Case]:
    """Runs of the standard loop with declared phases."""
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
    yield Case("a run that goes on in the middle of an epoch", Scenario(DECLARED, Data(3)), None, SAVED)
    ended = SAVED | {"iteration": 3, "position": 3}
    yield Case("a run that goes on at the end of an epoch", Scenario(DECLARED, Data(3)), None, ended)


def folds() -> Iterator[Case]:
    """Runs of a loop around the epochs."""
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
    yield Case("a run that goes on with the second fold", Scenario(FOLDS, Data(2)), None, between)
    for call in ("terminate()", "terminate(skip_completed=True)", "interrupt()"):
        for n in (1, 2, 3):
            yield Case(f"{call} before element {n}", Scenario(_folds(Yields(call, n, 2)), Data(2)))


def episodes() -> Iterator[Case]:
    """Runs of a loop without data."""
    yield Case(
        "as it is",
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
            asks = Asks(call, n, False, False, True)
            yield Case(f"{call} when the condition is asked {n}", Scenario(_episodes(EveryNthTime(2), asks)))
    for call in ("terminate_epoch()", "terminate()", "interrupt()"):
        for n in (1, 2):
            inner = Asks(call, n, False, True, True, True)
            yield Case(
                f"{call} when the inner condition is asked {n}",
                Scenario(_episodes(EveryNthTime(2), EveryNthTime(3), inner)),
            )
            over = Yields(call, n, 2)
            yield Case(
                f"{call} before inner element {n}", Scenario(_episodes(EveryNthTime(2), EveryNthTime(3), None, over))
            )
    for n in (1, 2):
        for answer in (False, True):
            asks = Asks("terminate_epoch(skip_epoch_completed=True)", n, answer, answer)
            name = f"terminate_epoch in the condition of the last phase, asked {n}, answered {answer}"
            yield Case(name, Scenario(_episodes(asks, EveryNthTime(3))))


def parts() -> Iterator[Case]:
    """Runs of a loop that ends with an opaque step."""
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
    """Runs of the deep loop."""
    yield Case("as it is", Scenario(DEEP), "STARTED L1[L2[L12{2}]] COMPLETED")
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
    """By name: a loop, and the cases in which changes of it are judged."""
    return {
        "opaque": _family(OPAQUE, data(), terminated(), paused(), failing(), handled(), repeated()),
        "declared": _family(DECLARED, declared()),
        "folds": _family(FOLDS, folds()),
        "episodes": _family(EPISODES, episodes()),
        "parts": _family(PARTS, parts()),
        "deep": _family(DEEP, deep(), with_paths=False),
    }


# -- short runs, whose traces are changed -----------------------------------------------------------------------------


@cache
def traced() -> tuple[Case, ...]:
    """Cases with short traces, in each of which something else ends, repeats or interrupts the run."""
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
    goes_on = "STARTED EPOCH[ITERATION] EPOCH[ITERATION{2}] COMPLETED"
    yield Case("going on in an epoch", Scenario(OPAQUE, Data(2)), goes_on, saved)
    phases = "STARTED EPOCH[ITERATION[FORWARD BACKWARD LOGGED] ITERATION[FORWARD BACKWARD OPTIM_STEP LOGGED]] COMPLETED"
    yield Case("phases", Scenario(DECLARED, Data(2)), phases)
    yield Case("folds", Scenario(FOLDS, Data(1)), "STARTED FOLD[SPLIT EPOCH[ITERATION]{2}]{2} COMPLETED")
    limits = {"max_epochs": 1}
    yield Case("episodes", Scenario(EPISODES, None, limits), "STARTED ROLLOUT[RESET EPISODE{2}] COMPLETED")
