"""Hypothesis strategies: random loops, scenarios of their runs, and legal and illegal traces."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import note, reject
from hypothesis import strategies as st

from camshaft.control import CONTROLS
from camshaft.events import ONCE_A_RUN, event, event_name
from camshaft.exceptions import EventOrderError
from camshaft.loop.counting import counter_loop_by_event
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, CustomState, EventPoint, OpaqueStep, Phase, every
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine
from camshaft.machine.transition import COMPLETED, ENDS, FAILED, READY, TERMINATED, Transition
from camshaft.testing.callables import EveryNthTime, FireEvents, ScriptedRange, no_op, return_batch
from camshaft.testing.faults import PlantedError
from camshaft.testing.scenario import Call, Data, Scenario
from camshaft.trace.log import RunRecord
from camshaft.trace.trace import Trace

__all__ = ["illegal_traces", "loops", "scenarios", "traces"]

NAMES = [f"{letter}{number}" for number in ("", *range(2, 9)) for letter in "ABCDEFGH"]
CUSTOM_STATES = (
    CustomState("X", "x_started", "x_completed", "ITERATION"),
    CustomState("Y", "y", None, "ITERATION"),
    CustomState("Z", "z_started", "z_completed", "ITERATION"),
)
FIRED = [
    (),
    ("x_started", "x_completed"),
    ("x_started", "y", "x_completed"),
    ("y", "y"),
    ("x_started", "z_started", "x_completed", "z_completed"),
]

EVALUATION = Loop("EPOCH", Loop("ITERATION", OpaqueStep(return_batch), over=DATA))


# -- loops ------------------------------------------------------------------------------------------------------------

_conditions = st.none() | st.builds(every, st.integers(1, 3)) | st.builds(EveryNthTime, st.integers(2, 3))


@st.composite
def _bodies(draw: st.DrawFn, names: list[str], depth: int, min_size: int = 1) -> tuple[Any, ...]:
    """Draw phases, event points and inner loops, in any order."""
    body: list[Any] = []
    for _ in range(draw(st.integers(min_size, 3))):
        kind = draw(st.sampled_from(["phase", "phase", "point", "loop"] if depth else ["phase", "phase", "point"]))
        name = names.pop(0)
        if kind == "phase":
            body.append(Phase(name, draw(st.sampled_from([no_op, return_batch])), draw(_conditions)))
        elif kind == "point":
            body.append(EventPoint(name.lower()))
        else:
            body.append(Loop(name, *draw(_bodies(names, depth - 1)), **draw(_passes())))
    return tuple(body)


@st.composite
def _passes(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the argument of a loop that says how often it repeats."""
    n = draw(st.integers(1, 2))
    return draw(
        st.sampled_from(
            [{"times": n}, {"until": EveryNthTime(n)}, {"over": tuple(range(n))}, {"over": ScriptedRange(n)}]
        )
    )


@st.composite
def loops(draw: st.DrawFn) -> Loop:
    """Draw a valid loop: the standard loop with an opaque or a declared step, an extended one, or another shape.

    The functions of the loop do nothing, or return their batch. ``repr`` of the loop is the Python that declares it.
    """
    names = list(NAMES)
    shape = draw(st.sampled_from(["opaque", "closure", "declared", "extended", "folds", "other"]))
    if shape == "other":
        return Loop("EPISODE", *draw(_bodies(names, 2)), **draw(_passes() | st.just({})))
    if shape == "opaque":
        step = OpaqueStep(FireEvents(*draw(st.sampled_from(FIRED))))
        return Loop("EPOCH", Loop("ITERATION", step, over=DATA), custom_states=CUSTOM_STATES)
    if shape == "closure":
        phase = Phase(names.pop(0), FireEvents(*draw(st.sampled_from(FIRED))), draw(_conditions))
        body = [*draw(_bodies(names, 1, 0)), phase, *draw(_bodies(names, 0, 0))]
        inside = tuple(attrs.evolve(custom, within=phase.name) for custom in CUSTOM_STATES)
        return Loop("EPOCH", Loop("ITERATION", *body, over=DATA), custom_states=inside)
    iteration = Loop("ITERATION", *draw(_bodies(names, 1)), over=DATA)
    around = [] if shape == "declared" else [*draw(_bodies(names, 1, 0))]
    around.insert(draw(st.integers(0, len(around))), iteration)
    if shape == "folds":
        return Loop("FOLD", Loop("EPOCH", *around, times=2))
    return Loop("EPOCH", *around)


# -- scenarios --------------------------------------------------------------------------------------------------------


@st.composite
def scenarios(
    draw: st.DrawFn,
    loop: Loop | st.SearchStrategy[Loop],
    *,
    max_calls: int = 1,
    depth: int = 1,
    evaluators: st.SearchStrategy[Loop] | None = None,
    batches: Any = None,
) -> Scenario:
    """Draw everything that can happen to a run of a loop: see :class:`~camshaft.testing.Scenario`.

    If the test fails, Hypothesis prints the scenario and a Python program that does the same.

    Args:
        loop: the loop, or a strategy for loops.
        max_calls: the maximum number of control calls and faults per engine.
        depth: the maximum depth of nested evaluators; 0 for none.
        evaluators: a strategy for the loops of evaluators. The default is the standard loop with an opaque step.
        batches: a sequence of batches that the data repeats. The default are numbers.
    """
    inner = st.just(EVALUATION) if evaluators is None else evaluators
    scenario = draw(_scenarios(loop, max_calls, depth, inner, batches))
    note(scenario.python())
    return scenario


@st.composite
def _scenarios(
    draw: st.DrawFn,
    loop: Any,
    max_calls: int,
    depth: int,
    evaluators: st.SearchStrategy[Loop],
    batches: Any = None,
    is_nested: bool = False,
) -> Scenario:
    drawn: Loop = draw(loop) if isinstance(loop, st.SearchStrategy) else loop
    data, limits = None, {}
    if drawn.data_loop is not None:
        data = draw(_datas(is_nested) | st.none())
        if data is None or draw(st.booleans()):
            limits["epoch_length"] = draw(st.integers(1, 4))
        if draw(st.booleans()):
            limits["max_iters"] = draw(st.integers(1, 7))
    if "max_iters" not in limits and drawn.over is not DATA and draw(st.booleans()):
        limits["max_epochs"] = draw(st.integers(1, 3))
    calls = draw(st.lists(_calls(drawn), max_size=max_calls))
    handlers = draw(st.lists(_handlers(drawn), max_size=2))
    inner: list[Any] = []
    if depth and draw(st.booleans()):
        places = st.sampled_from([drawn.started, drawn.completed, "completed", "started"])
        events = st.lists(places, min_size=1, max_size=2, unique=True).map(tuple)
        deeper = _scenarios(evaluators, max_calls, depth - 1, evaluators, is_nested=True)
        inner = draw(st.lists(st.tuples(events, deeper), min_size=1, max_size=2))
    swallow = draw(st.booleans())
    return Scenario(drawn, data, limits, tuple(calls), tuple(handlers), tuple(inner), swallow, batches=batches)


def _datas(is_nested: bool) -> st.SearchStrategy[Data]:
    kinds = ["unsized"] if is_nested else ["unsized", "once"]  # a nested engine reads its data each time it runs
    return st.builds(Data, st.integers(1, 4)) | st.builds(Data, st.integers(1, 4), st.sampled_from(kinds))


@st.composite
def _calls(draw: st.DrawFn, loop: Loop) -> Call:
    """Draw a control call or a fault, at any event or in any function of the loop."""
    runs = [item.name for _, item in loop.walk() if isinstance(item, (Phase, OpaqueStep)) and item.run is not None]
    moment = draw(st.sampled_from([*loop.event_keys, *runs]))
    what, value = draw(
        st.one_of(
            st.tuples(st.just("raise"), st.sampled_from([PlantedError, KeyboardInterrupt])),
            st.tuples(st.sampled_from([call for call, made in CONTROLS.items() if made.option]), st.booleans()),
            st.tuples(st.sampled_from([*_PLAIN_CALLS, "terminate_parent"]), st.none()),
            st.tuples(st.just("set_data"), st.builds(Data, st.integers(1, 3))),
        )
    )
    return Call(moment, draw(st.integers(1, 4)), what, value)


_PLAIN_CALLS = [call for call, made in CONTROLS.items() if made.event is not None and made.option is None]
"""The names of control calls without arguments."""


@st.composite
def _handlers(draw: st.DrawFn, loop: Loop) -> Any:
    """Draw the event of a handler, with or without a filter."""
    key = draw(st.sampled_from(loop.event_keys))
    filters: st.SearchStrategy[dict[str, Any]] = st.just({})
    if key not in ONCE_A_RUN:
        filters |= st.fixed_dictionaries({"every": st.integers(1, 3)}) | st.fixed_dictionaries(
            {"once": st.integers(1, 4)}
        )
        filters |= st.fixed_dictionaries({"after": st.integers(0, 3), "every": st.integers(1, 2)})
    return event(key, priority=draw(st.integers(-1, 1)), **draw(filters))


# -- traces -----------------------------------------------------------------------------------------------------------

LONGEST = 60
"""The number of events after which a random walk is terminated."""


@st.composite
def traces(draw: st.DrawFn, loop: Loop | st.SearchStrategy[Loop]) -> Trace:
    """Draw a legal trace of one run: a random walk through the machine of a loop. No engine runs.

    Args:
        loop: the loop, or a strategy for loops.
    """
    drawn: Loop = draw(loop) if isinstance(loop, st.SearchStrategy) else loop
    machine = LoopMachine(drawn)
    context = draw(_contexts(drawn))
    record = RunRecord("trainer", drawn, None, READY, context.copy())
    trace = Trace()
    trace.runs.append(record)
    counted = counter_loop_by_event(drawn)
    place = READY
    while place not in ENDS or (place == TERMINATED and draw(st.booleans())):
        transition = draw(_steps(machine, place, context, len(trace)))
        transition.apply(context)
        place = transition.dest
        trace.append(0, transition.event, context.counts.get(counted[transition.event], 0), float(len(trace)))
    record.outcome = {COMPLETED: "completed", TERMINATED: "terminated", FAILED: "failed"}[place]
    record.limits = {name: getattr(context, name) for name in ("max_epochs", "max_iters", "epoch_length")}
    trace.segments.append([0, 0, len(trace)])
    return trace


@st.composite
def _contexts(draw: st.DrawFn, loop: Loop) -> Context:
    """Draw the limits of a run, and whether it has data of known length, of unknown length, or none."""
    context = Context(max_epochs=draw(st.integers(1, 3)), has_data=loop.data_loop is not None)
    if loop.data_loop is not None:
        context.epoch_length = draw(st.integers(1, 3))
        if draw(st.booleans()):
            context.max_epochs, context.max_iters = None, draw(st.integers(1, 6))
        length = draw(st.sampled_from(["known", "unknown", "no data"]))
        context.has_data = length != "no data"
        context.epoch_length = None if length == "unknown" else context.epoch_length
    if loop.times is not None:
        context.max_epochs = loop.times
    return context


def _steps(machine: LoopMachine, place: str, context: Context, taken: int) -> st.SearchStrategy[Transition]:
    """Return a strategy for the next transition. Control calls and faults are rare; a long walk is terminated."""
    transitions = [
        transition
        for transition in machine.table[place].values()
        if transition.denied_by(context) is None and transition.event != "interrupt"
    ]
    own = [transition for transition in transitions if not transition.is_control]
    control = [transition for transition in transitions if transition.is_control]
    if taken > LONGEST and place not in ENDS:
        return st.just(next(transition for transition in control if transition.event == "terminate"))
    if own and control:
        return st.integers(0, 30).flatmap(lambda rare: st.sampled_from(control if rare == 30 else own))
    return st.sampled_from(own or control)


EDITS = ("lost", "doubled", "swapped with the next one", "moved")


@st.composite
def illegal_traces(draw: st.DrawFn, loop: Loop | st.SearchStrategy[Loop]) -> Trace:
    """Draw an illegal trace of one run that is one edit away from a legal one.

    One event is lost, doubled, swapped with the next one, or moved. If the edit leaves the trace legal, it is applied
    to the next event instead.

    Args:
        loop: the loop, or a strategy for loops.
    """
    legal = draw(traces(loop))
    edit = draw(st.sampled_from(EDITS))
    start = draw(st.integers(0, len(legal) - 1))
    distance = draw(st.integers(1, len(legal)))
    for index in [*range(start, len(legal)), *range(start)]:
        edited = _edited(legal, edit, index, distance)
        if not _is_legal(edited):
            note(f"event #{index + 1} {event_name(legal[index].event)} was {edit}")
            return edited
    return reject()


def _edited(trace: Trace, edit: str, index: int, distance: int) -> Trace:
    order = [*range(len(trace))]
    taken = order.pop(index)
    if edit == "doubled":
        order[index:index] = [taken, taken]
    elif edit == "swapped with the next one":
        order.insert(index + 1, taken)
    elif edit == "moved":
        order.insert((index + distance) % len(trace), taken)
    return trace.rearranged(order)


def _is_legal(trace: Trace) -> bool:
    try:
        trace.assert_legal()
    except EventOrderError:
        return False
    return True
