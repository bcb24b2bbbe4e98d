"""Random programs: a loop, data, limits, nested evaluators, and what happens at which moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
from hypothesis import strategies as st

from camshaft.loop import DATA, Free, Loop, Mark, Phase, Step, every

KEYBOARD, ERROR = "KeyboardInterrupt", "ValueError"


class Fault(ValueError):
    """What a program raises on purpose."""


@attrs.frozen
class Action:
    """Something that happens at the n-th time that a moment comes."""

    moment: tuple[str, str]  # ("event", key) or ("run", state)
    n: int
    what: str
    value: Any = None


@attrs.frozen
class Program:
    """All that decides a run of one engine."""

    loop: Any  # a nested tuple, made a Loop by build()
    data: tuple[str, int] | None
    limits: dict[str, int]
    actions: tuple[Action, ...] = ()
    swallow: Any = None
    nested: tuple[tuple[str, Program], ...] = ()
    shares: bool = False  # whether all that is nested is one evaluator, at several events
    runs: int = 3  # how often a paused run is gone on with


def make_data(data: tuple[str, int] | None) -> Any:
    """Batches of a kind: a list, an iterable without length, or a generator that cannot be restarted."""
    if data is None:
        return None
    kind, length = data
    if kind == "list":
        return list(range(length))
    return iter(range(length)) if kind == "generator" else _Unsized(length)


class _Unsized:
    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Any:
        return iter(range(self.length))


class World:
    """Counts the moments of one engine and does what the program says there."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.seen: Counter[tuple[str, str]] = Counter()
        self.calls: list[Any] = []

    def reach(self, engine: Any, kind: str, name: str) -> None:
        moment = (kind, name)
        self.seen[moment] += 1
        self.calls.append((moment, self.seen[moment], engine.state.batch))
        for action in self.program.actions:
            if action.moment == moment and action.n == self.seen[moment]:
                self.act(engine, action)

    def act(self, engine: Any, action: Action) -> None:
        what, value = action.what, action.value
        if what == "raise":
            raise (KeyboardInterrupt if value == KEYBOARD else Fault)(f"{action.moment} {action.n}")
        if what == "set_data":
            engine.set_data(make_data(value))
        elif what == "terminate":
            engine.terminate(skip_completed=value)
        elif what == "terminate_epoch":
            engine.terminate_epoch(skip_epoch_completed=value)
        elif what == "terminate_outer":
            if engine.parent is not None:
                engine.parent.terminate()
        else:
            getattr(engine, what)()

    def build(self, spec: Any) -> Any:
        """The loop of a nested tuple, with functions that report to this world."""
        kind, name, *rest = spec
        if kind == "phase":
            when, returns = rest
            condition = (
                every(when[1]) if when and when[0] == "every" else self.predicate(name, when[1]) if when else None
            )
            return Phase(name, self.function(name, returns), condition)
        if kind == "step":
            return Step(self.function(name, True, rest[0]))
        if kind == "mark":
            return Mark(name.lower())
        passes, body, *free = rest
        how: dict[str, Any] = {
            "data": lambda n: {"over": DATA},
            "times": lambda n: {"times": n},
            "until": lambda n: {"until": self.until(name, n)},
            "over": lambda n: {"over": list(range(n))},
            "call": lambda n: {"over": lambda engine: list(range(n))},
            "none": lambda n: {},
        }[passes[0]](passes[1])
        return Loop(name, *map(self.build, body), free=tuple(free[0]) if free else (), **how)

    def function(self, name: str, returns: bool, fires: tuple[str, ...] = ()) -> Callable[[Any, Any], Any]:
        def run(engine: Any, batch: Any) -> Any:
            self.reach(engine, "run", name)
            for event in fires:
                engine.fire_event(event)
            return (name, self.seen["run", name], batch) if returns else None

        return run

    def predicate(self, name: str, n: int) -> Callable[[Any], bool]:
        def when(engine: Any) -> bool:
            self.seen["when", name] += 1
            return bool(self.seen["when", name] % n)

        return when

    def until(self, name: str, n: int) -> Callable[[Any], bool]:
        def until(engine: Any) -> bool:
            self.seen["until", name] += 1
            return self.seen["until", name] % n == 0

        return until


# -- strategies -------------------------------------------------------------------------------------------------------

FREE_STEPS = [
    (),
    ("a_started", "a_completed"),
    ("a_started", "b", "a_completed"),
    ("b", "b"),
    ("a_started", "c_started", "a_completed", "c_completed"),
    ("c_completed", "never")[:0],
]
FREES = (
    Free("A", "a_started", "a_completed", "ITERATION"),
    Free("B", "b", None, "ITERATION"),
    Free("C", "c_started", "c_completed", "ITERATION"),
)

whens = st.none() | st.tuples(st.just("every"), st.integers(1, 3)) | st.tuples(st.just("predicate"), st.integers(2, 3))


@st.composite
def bodies(draw: Any, names: list[str], depth: int, can_be_empty: bool = False) -> list[Any]:
    """Phases, marks and inner loops, in any order."""
    body = []
    for _ in range(draw(st.integers(0 if can_be_empty else 1, 3))):
        kind = draw(st.sampled_from(["phase", "phase", "mark", "loop"] if depth else ["phase", "mark"]))
        name = names.pop()
        if kind == "phase":
            body.append(("phase", name, draw(whens), draw(st.booleans())))
        elif kind == "mark":
            body.append(("mark", name))
        else:
            passes = draw(st.tuples(st.sampled_from(["times", "until", "over", "call"]), st.integers(1, 2)))
            body.append(("loop", name, passes, draw(bodies(names, depth - 1))))
    return body


@st.composite
def loop_specs(draw: Any) -> Any:
    """Standard loops with an opaque or a declared step, extended ones, and ones of another shape."""
    names = [f"S{number}" for number in range(60)]
    shape = draw(st.sampled_from(["opaque", "declared", "extended", "folds", "own"]))
    if shape == "own":
        passes = draw(st.sampled_from([("none", 0), ("times", 2), ("until", 2), ("over", 2)]))
        return ("loop", "EPISODE", passes, draw(bodies(names, 2)))
    fires = draw(st.sampled_from(FREE_STEPS[:5])) if shape == "opaque" else ()
    step = [("step", "STEP", fires)] if shape == "opaque" else draw(bodies(names, 1))
    iteration = ("loop", "ITERATION", ("data", 0), step)
    around = draw(bodies(names, 1, can_be_empty=True)) if shape in ("extended", "folds") else []
    place = draw(st.integers(0, len(around)))
    body = [*around[:place], iteration, *around[place:]]
    free = [FREES] if shape == "opaque" else []
    if shape == "folds":
        return ("loop", "FOLD", ("none", 0), [("loop", "EPOCH", ("times", 2), body)])
    return ("loop", "EPOCH", ("none", 0), body, *free)


def moments(loop: Loop) -> list[tuple[str, str]]:
    """Every event and every action of a loop."""
    runs = [item.name for _, item in loop.walk() if isinstance(item, (Phase, Step))]
    return [("event", key) for key in loop.event_keys] + [("run", name) for name in runs]


datas = st.tuples(st.just("list"), st.integers(1, 4)) | st.tuples(
    st.sampled_from(["unsized", "generator"]), st.integers(0, 4)
)


@st.composite
def programs(draw: Any, depth: int = 1) -> Program:
    """A program that both engines can be given."""
    spec = draw(loop_specs())
    loop = World(Program(spec, None, {})).build(spec)
    data, limits = None, {}
    if loop.data_loop is not None:
        data = draw(datas | st.none())
        if data is None or draw(st.booleans()):
            limits["epoch_length"] = draw(st.integers(1, 4))
        if draw(st.booleans()):
            limits["max_iters"] = draw(st.integers(1, 7))
    if "max_iters" not in limits and draw(st.booleans()):
        limits["max_epochs"] = draw(st.integers(1, 3))
    here = moments(loop)
    actions = draw(st.lists(actions_at(here), max_size=3))
    nested = ()
    if depth and draw(st.booleans()):
        places = st.sampled_from([loop.started, loop.completed, "completed", "started"])
        nested = tuple(draw(st.lists(st.tuples(places, programs(depth - 1)), min_size=1, max_size=2)))
    swallow = draw(st.sampled_from([None, None, True, "raise"]))
    return Program(spec, data, limits, tuple(actions), swallow, nested, draw(st.booleans()))


def actions_at(here: list[tuple[str, str]]) -> Any:
    """One control call or fault at any moment."""
    calls = st.one_of(
        st.tuples(st.just("raise"), st.sampled_from([KEYBOARD, ERROR])),
        st.tuples(st.sampled_from(["terminate", "terminate_epoch"]), st.booleans()),
        st.tuples(st.sampled_from(["skip_iteration", "interrupt", "terminate_outer"]), st.none()),
        st.tuples(st.just("set_data"), st.tuples(st.just("list"), st.integers(1, 3))),
    )
    return st.builds(lambda moment, n, call: Action(moment, n, *call), st.sampled_from(here), st.integers(1, 4), calls)
