"""Random programs for both engines."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from camshaft import event
from camshaft.loop.loop import Loop
from camshaft.testing import Call, Data, PlantedError, Scenario
from support.ignite_differences import COUNTED, IN_ITERATION
from support.ignite_parity import CUSTOM, ORDERLY, Program, make_loop

ONCE_A_RUN = ("started", "completed", "terminate", "exception_raised", "interrupt", "terminate_single_epoch")
OFTEN = ("started", "epoch_started", "epoch_completed", "completed", *sorted(IN_ITERATION), "STEP")
PLACES = ("started", "epoch_started", "iteration_started", "iteration_completed", "epoch_completed", "completed")


def odd(engine: Any, count: int) -> bool:
    return count % 2 == 1


@st.composite
def calls(draw: st.DrawFn, fires: tuple[str, ...], is_nested: bool) -> Call:
    """Draw a control call or a fault, most often at a moment that every run reaches."""
    moment = draw(st.sampled_from(OFTEN) | st.sampled_from((*ONCE_A_RUN, *fires)))
    n = draw(st.integers(1, 1 if moment in ONCE_A_RUN else 3))
    kinds = [
        st.tuples(st.just("raise"), st.sampled_from([PlantedError, KeyboardInterrupt])),
        st.tuples(st.sampled_from(["terminate", "terminate_epoch"]), st.booleans()),
        st.tuples(st.just("interrupt"), st.none()),
        st.tuples(st.just("set_data"), st.builds(Data, st.integers(1, 4))),
    ]
    if is_nested:
        kinds.append(st.tuples(st.just("terminate_parent"), st.none()))
    return Call(moment, n, *draw(st.one_of(kinds)))


@st.composite
def handlers(draw: st.DrawFn, loop: Loop) -> Any:
    """Draw the event of a handler, most often one that can have a filter."""
    keys = [key for key in loop.event_keys if key != "iteration_skipped"]  # pytorch-ignite does not have it
    counted = [key for key in keys if key in COUNTED]
    key = draw(st.sampled_from(counted) | st.sampled_from(keys))
    filters: st.SearchStrategy[dict[str, Any]] = st.just({})
    if key in counted:
        counts, after = st.integers(1, 4), st.integers(0, 2)
        filters |= st.fixed_dictionaries({"every": st.integers(1, 3)}, optional={"after": after})
        filters |= st.fixed_dictionaries({"every": st.integers(2, 3), "after": after, "before": st.integers(5, 8)})
        filters |= st.fixed_dictionaries({"once": counts | st.lists(counts, min_size=1, max_size=2)})
        filters |= st.fixed_dictionaries({"before": st.integers(4, 6)}, optional={"after": after})
        filters |= st.just({"event_filter": odd})
    return event(key, **draw(filters))


@st.composite
def limits(draw: st.DrawFn, data: Data | None) -> dict[str, int]:
    drawn = {}
    if data is None or draw(st.booleans()):
        drawn["epoch_length"] = draw(st.integers(1, 5))
    kind = draw(st.sampled_from(["", "max_epochs", "max_epochs", "max_iters"]))
    if kind:
        drawn[kind] = draw(st.integers(1, 3 if kind == "max_epochs" else 8))
    return drawn


@st.composite
def scenarios(draw: st.DrawFn, fires: st.SearchStrategy[Any], depth: int, is_nested: bool = False) -> Scenario:
    fired = tuple(draw(fires))
    loop = make_loop(fired)
    kinds = ["list", "list", "unsized"] if is_nested else ["list", "list", "unsized", "once"]
    data = draw(st.none() | st.builds(Data, st.integers(1, 4), st.sampled_from(kinds)))
    drawn = draw(limits(data))
    nested: Any = ()
    if depth and draw(st.integers(0, 3)) == 0:
        places = st.lists(st.sampled_from(PLACES), min_size=1, max_size=2, unique=True).map(tuple)
        nested = [(draw(places), draw(scenarios(fires, depth - 1, True))) for _ in range(draw(st.integers(1, 2)))]
    made = draw(st.lists(calls(fired, is_nested), min_size=0 if is_nested else 1, max_size=1 if is_nested else 3))
    handled = draw(st.lists(handlers(loop), max_size=1 if is_nested else 3))
    swallow = draw(st.integers(0, 3)) == 0
    return Scenario(loop, data, drawn, tuple(made), tuple(handled), tuple(nested), swallow)


@st.composite
def programs(draw: st.DrawFn, fires: st.SearchStrategy[Any], depth: int = 1) -> Program:
    """Draw a run of an engine, and up to two further runs that start from the beginning or continue."""
    scenario = draw(scenarios(fires, depth))
    again = []
    kind = next((name for name in ("max_epochs", "max_iters") if name in scenario.limits), None)
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        drawn = {}
        if kind is not None and draw(st.booleans()):
            drawn[kind] = draw(st.integers(1, 12 if kind == "max_iters" else 5))
        data = scenario.data
        if data is None or draw(st.integers(0, 3)) == 0:
            drawn["epoch_length"] = scenario.limits.get("epoch_length", data.n if data else 1)
        again.append((data, drawn))
    return Program(scenario, tuple(again))


any_order = st.sampled_from(ORDERLY) | st.lists(st.sampled_from(CUSTOM), max_size=4)
