"""Scenarios: all that decides a run of an engine, as a value that can be played, compared and printed as Python."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import attrs

from camshaft._checks import check_integer
from camshaft.control import CONTROLS
from camshaft.engine.engine import Engine
from camshaft.events import FilteredEvent
from camshaft.loop.loop import Loop
from camshaft.loop.states import OpaqueStep, Phase
from camshaft.testing.faults import PlantedError, call_at
from camshaft.trace.recording import record
from camshaft.trace.trace import Trace

__all__ = [
    "Batches",
    "Call",
    "CallAt",
    "Data",
    "EveryNthTime",
    "FireEvents",
    "Play",
    "Scenario",
    "Scripted",
    "ScriptedRange",
    "no_op",
    "return_batch",
]

# -- what random loops are made of: callables that can be printed as Python and compared ------------------------------


def no_op(engine: Any, batch: Any) -> None:
    """A phase that does nothing."""


def return_batch(engine: Any, batch: Any) -> Any:
    """A phase or step whose output is its batch."""
    return batch


class _Callable:
    """Shown and compared by what it was made with."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.asked = 0

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other)["arguments"] == self.arguments

    def __hash__(self) -> int:
        return hash((type(self), self.arguments))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.arguments))})"

    def fresh(self) -> Any:
        """The same, not asked yet."""
        return type(self)(*self.arguments)

    def in_turn(self) -> Any:
        """The next argument; the last one from then on."""
        self.asked += 1
        return self.arguments[min(self.asked, len(self.arguments)) - 1]


class FireEvents(_Callable):
    """``FireEvents(*events)``: an opaque step that fires events by hand. Its output is its batch."""

    def __call__(self, engine: Any, batch: Any) -> Any:
        """Fire them all."""
        for event in self.arguments:
            engine.fire_event(event)
        return batch


class EveryNthTime(_Callable):
    """``EveryNthTime(n)``: a condition that holds each n-th time it is asked."""

    def __call__(self, engine: Any) -> bool:
        """Ask it."""
        self.asked += 1
        return bool(self.asked % self.arguments[0] == 0)


class Scripted(_Callable):
    """``Scripted(*answers)``: a condition that gives these in turn, and the last one from then on."""

    def __call__(self, engine: Any) -> bool:
        """Ask it."""
        return bool(self.in_turn())


class ScriptedRange(_Callable):
    """``ScriptedRange(*lengths)``: the elements of a loop; so many in turn, and as many as the last from then on."""

    def __call__(self, engine: Any) -> range:
        """The elements of the next turn."""
        return range(self.in_turn())


class Batches:
    """Batches that can be iterated anew, but whose number is not known before."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


@attrs.frozen(repr=False)
class Data:
    """Some batches: numbers, unless the scenario has batches of its own.

    Args:
        n: how many.
        kind: ``"list"``, ``"unsized"`` (without a length) or ``"once"`` (an iterator, which cannot be restarted).
    """

    n: int
    kind: str = "list"

    def __repr__(self) -> str:
        return f"Data({self.n})" if self.kind == "list" else f"Data({self.n}, {self.kind!r})"

    def python(self, batches: str | None) -> str:
        """The expression that makes it, from a sequence of that name if there is one."""
        made = str([*range(self.n)]) if batches is None else f"[{batches}[i % len({batches})] for i in range({self.n})]"
        return {"list": "{}", "unsized": "Batches({})", "once": "iter({})"}[self.kind].format(made)


# -- scenarios --------------------------------------------------------------------------------------------------------

CALLS = {
    **{
        call: f"{{0}}.{call}({f'{made.option}={{1}}' if made.option else '{1}' if made.event is None else ''})"
        for call, made in CONTROLS.items()
    },
    "fire_event": "{0}.fire_event({1})",
    "terminate_parent": "{0}.parent and {0}.parent.terminate()",
}
"""What a call may do besides raising: the Python for it, of an engine and a value."""


@attrs.frozen(repr=False)
class Call:
    """A control call or a fault, at the n-th time that an event fires or a state runs its function.

    Args:
        at: the key of the event, or the name of the state.
        n: which time, from 1.
        what: ``"raise"``, or a key of :data:`CALLS`.
        value: its argument: the class of the exception, whether to skip the event that completes, the :class:`Data`,
            or the event.

    Raises:
        ValueError: it could never be made.
    """

    at: str
    n: int
    what: str
    value: Any = None

    def __attrs_post_init__(self) -> None:
        if self.what not in ("raise", *CALLS):
            known = ", ".join(map(repr, ("raise", *CALLS)))
            raise ValueError(f"what={self.what!r} is no call: give {known}")
        check_integer("n", self.n)
        if self.what == "raise" and not (isinstance(self.value, type) and issubclass(self.value, BaseException)):
            raise ValueError(f"value={self.value!r} is no exception: give the class of one")

    def __repr__(self) -> str:
        value = self.value.__name__ if self.what == "raise" else repr(self.value)
        return f"Call({self.at!r}, {self.n}, {self.what!r}{f', {value}' if self.value is not None else ''})"

    def act(self, engine: Any) -> None:
        """Do it now. A call that is wrong where it is made raises, as any fault does, a PlantedError."""
        if self.what == "raise":
            raise self.value(f"planted at {self.at} {self.n}")
        try:
            eval(self.python("engine"), {"engine": engine, "Batches": Batches})
        except (RuntimeError, ValueError) as error:
            raise PlantedError(f"{self.what} at {self.at} {self.n} cannot be done") from error

    def python(self, engine: str) -> str:
        """The expression that does it."""
        value = self.value.python(None) if isinstance(self.value, Data) else repr(self.value)
        return CALLS[self.what].format(engine, value)


@attrs.define
class CallAt:
    """A phase or step that makes a call at its n-th run, before what it does otherwise."""

    call: Call
    then: Callable[[Any, Any], Any]
    ran: int = attrs.field(default=0, init=False, eq=False)

    def __call__(self, engine: Any, batch: Any) -> Any:
        """Run it."""
        self.ran += 1
        if self.ran == self.call.n:
            self.call.act(engine)
        return self.then(engine, batch)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.call!r}, {getattr(self.then, '__qualname__', repr(self.then))})"


@attrs.frozen(repr=False)
class Scenario:
    """All that decides a run: the loop, its data and limits, who listens, what is nested, and what happens when.

    Args:
        loop: what runs.
        data: its batches; None for a loop without data, or for as many iterations as ``epoch_length`` says.
        limits: ``max_epochs``, ``max_iters``, ``epoch_length``, as for ``Engine.run``.
        calls: control calls and faults.
        handlers: events that a handler is attached to, filtered or not.
        nested: evaluators, each with the events at which it runs.
        swallow: whether a handler of EXCEPTION_RAISED returns True.
        resumes: how often a run that paused is gone on with.
        batches: what the data is made of, over and over; numbers if None.
        expected: the events that it was made to fire, in order, where that is known.

    Raises:
        ValueError: the loop has not the event or state at which a call is to be made.
    """

    loop: Loop
    data: Data | None = None
    limits: dict[str, int] = attrs.field(factory=dict)
    calls: tuple[Call, ...] = ()
    handlers: tuple[FilteredEvent, ...] = ()
    nested: tuple[tuple[tuple[str, ...], Scenario], ...] = ()
    swallow: bool = False
    resumes: int = 2
    batches: Sequence[Any] | None = attrs.field(default=None, repr=False)
    expected: tuple[str, ...] | None = attrs.field(default=None, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        places = {item.name for _, item in self.loop.walk() if getattr(item, "run", None) is not None}
        for call in self.calls:
            if call.at not in places and call.at not in self.loop.event_keys:
                what = f"{call.at} is no event of the loop {self.loop.name}, and no state of it that runs a function"
                raise ValueError(f"{call!r} can never be made: {what}")

    def play(self, make: Callable[[Loop, str], Any] = Engine, *, recorded: bool = True) -> Play:
        """Run it, on a new engine.

        Args:
            make: makes the engine, of a loop and a name; ``Engine`` itself unless given.
            recorded: whether to record the trace. Without it, events that no handler hears are not fired at all.

        Returns:
            What happened. Faults that the scenario plants are part of that; any other exception leaves.
        """
        play = Play(self)
        with record() if recorded else nullcontext(Trace()) as play.trace:
            play.run(make)
        return play

    def python(self) -> str:
        """The program that does the same, in a few lines."""
        return "\n".join(_program(self)) + "\n"

    def __repr__(self) -> str:
        plain = Scenario(self.loop)
        fields = [(field.name, getattr(self, field.name)) for field in attrs.fields(Scenario)[1:] if field.repr]
        shown = [f"{name}={value!r}" for name, value in fields if value != getattr(plain, name)]
        return f"Scenario({', '.join([repr(self.loop), *shown])})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The same where Hypothesis and IPython print it."""
        printer.text(repr(self))

    def __str__(self) -> str:
        """What tells it from other scenarios of the same loop, in a few words."""
        parts = [repr(self.data)] if self.data is not None else []
        parts += [f"{name}={value}" for name, value in self.limits.items()]
        parts += [f"{call.what}{f' {call.value}' * (call.value is True)} at {call.at} {call.n}" for call in self.calls]
        return ", ".join(parts) or "as it is"

    @property
    def prepared(self) -> Loop:
        """The loop with its conditions at their start, and the calls that states make put into them."""
        calls = [call for call in self.calls if call.at not in self.loop.event_keys]

        def runs(name: str, run: Any) -> Any:
            for call in calls:
                run = CallAt(call, run) if call.at == name and run is not None else run
            return run

        prepared: Loop = _rebuilt(self.loop, runs)
        return prepared


@attrs.define
class Play:
    """What happened when a scenario was played.

    Attributes:
        scenario: what was played.
        engine: the engine, after the run.
        trace: what was recorded.
        heard: every call of a handler: the engine's name, the number of the handler, and the counters.
        worked: every run of a function of the loop: the engine's name, the state and the batch.
        error: the planted fault that left ``run()``, if one did.
        warned: the warnings.
    """

    scenario: Scenario
    engine: Any = None
    trace: Trace = attrs.field(factory=Trace)
    heard: list[tuple[str, int, tuple[int, ...]]] = attrs.field(factory=list)
    worked: list[tuple[str, str, Any]] = attrs.field(factory=list)
    error: BaseException | None = None
    warned: list[str] = attrs.field(factory=list)

    @property
    def is_paused(self) -> bool:
        """Whether it stands at an interrupt still."""
        return getattr(self.engine, "current_run", None) is not None

    def run(self, make: Callable[[Loop, str], Any]) -> None:
        """Play it."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.engine = self.build(self.scenario, "trainer", make)
            try:
                self.engine.run(_made(self.scenario), **self.scenario.limits)
                for _ in range(self.scenario.resumes):
                    if self.is_paused:
                        self.engine.run()
            except BaseException as error:
                if not self._is_planned(error):
                    raise
                self.error = error
        self.warned = [str(warning.message) for warning in caught]

    def build(self, scenario: Scenario, name: str, make: Callable[[Loop, str], Any]) -> Any:
        """An engine with all that the scenario says."""

        def working(state: str, run: Any) -> Any:
            return None if run is None else partial(self._work, name, state, run)

        engine = make(_rebuilt(scenario.prepared, working), name)
        for number, event in enumerate(scenario.handlers):
            hear = partial(self._hear, name, number, scenario.loop.counters)
            engine.add_event_handler(event, lambda engine, *error, hear=hear: hear(engine))
        for call in scenario.calls:
            if call.at in scenario.loop.event_keys:
                call_at(engine, call.at, partial(call.act, engine), n=call.n)
        for number, (keys, inner) in enumerate(scenario.nested):
            evaluator = self.build(inner, f"{name}_{number}", make)
            for key in keys:
                engine.nest(evaluator, key, _made(inner), **inner.limits)
        if scenario.swallow:
            engine.add_event_handler("exception_raised", lambda engine, error: True)
        return engine

    def _work(self, name: str, state: str, run: Callable[[Any, Any], Any], engine: Any, batch: Any) -> Any:
        self.worked.append((name, state, batch))
        return run(engine, batch)

    def _hear(self, name: str, number: int, loops: Sequence[str], engine: Any) -> None:
        self.heard.append((name, number, tuple(getattr(engine.state, loop) for loop in loops)))

    def _is_planned(self, error: BaseException) -> bool:
        planted = tuple(call.value for call in _calls(self.scenario) if call.what == "raise")
        if isinstance(error, (PlantedError, *planted)):
            return True
        return isinstance(error, (ValueError, RuntimeError)) and _may_be_empty(self.scenario)


def _calls(scenario: Scenario) -> Iterator[Call]:
    yield from scenario.calls
    for _, inner in scenario.nested:
        yield from _calls(inner)


def _raised(scenario: Scenario) -> tuple[type[BaseException], ...]:
    """What its faults may raise; a control call that is wrong where it is made is an error of these kinds."""
    raised = [call.value for call in _calls(scenario) if call.what == "raise"]
    wrong = [RuntimeError, ValueError] if any(call.what != "raise" for call in _calls(scenario)) else []
    return tuple(dict.fromkeys([*wrong, *raised]))


def _may_be_empty(scenario: Scenario) -> bool:
    datas = [scenario.data, *(call.value for call in scenario.calls)]
    empty = any(isinstance(data, Data) and (data.n == 0 or data.kind == "once") for data in datas)
    return empty or any(_may_be_empty(inner) for _, inner in scenario.nested)


def _made(scenario: Scenario) -> Any:
    if scenario.data is None:
        return None
    names = {"batches": scenario.batches, "Batches": Batches}
    return eval(scenario.data.python(None if scenario.batches is None else "batches"), names)


def _rebuilt(item: Any, runs: Callable[[str, Any], Any]) -> Any:
    """The same state with other functions, and with conditions that have not been asked yet."""
    if isinstance(item, OpaqueStep):
        return OpaqueStep(runs(item.name, item.run))
    if isinstance(item, Phase):
        events = {"started": item.started, "completed": item.completed}
        return Phase(item.name, runs(item.name, item.run), _fresh(item.when), **events)
    if isinstance(item, Loop):
        body = tuple(_rebuilt(child, runs) for child in item.body)
        return item.evolve(body=body, over=_fresh(item.over), until=_fresh(item.until))
    return item


def _fresh(condition: Any) -> Any:
    return condition.fresh() if isinstance(condition, _Callable) else condition


# -- as Python --------------------------------------------------------------------------------------------------------


def _program(scenario: Scenario) -> Iterator[str]:
    body = [*_engine_lines(scenario, "trainer"), *_run_lines(scenario)]
    text = "\n".join(body)
    if "suppress(" in text:
        yield "from contextlib import suppress"
        yield ""
    for module in (__package__.partition(".")[0], __package__):  # where a reader finds the names
        used = [name for name in sys.modules[module].__all__ if re.search(rf"\b{name}\b", text)]
        if used:
            yield f"from {module} import {', '.join(used)}"
    yield ""
    yield from body


def _engine_lines(scenario: Scenario, name: str) -> Iterator[str]:
    yield f"{name} = Engine({scenario.prepared!r}, {name!r})"
    for event in scenario.handlers:
        yield f"{name}.add_event_handler({_handle(event)}, lambda *_: None)"
    for call in scenario.calls:
        if call.at not in scenario.loop.event_keys:
            continue
        if call.what == "raise":
            yield f"raise_at({name}, {call.at!r}, n={call.n}, error={call.value.__name__})"
        else:
            yield f"call_at({name}, {call.at!r}, lambda: {call.python(name)}, n={call.n})"
    for number, (keys, inner) in enumerate(scenario.nested):
        yield from _engine_lines(inner, f"{name}_{number}")
        yield from (f"{name}.nest({name}_{number}, {key!r}, {_arguments(inner)})" for key in keys)
    if scenario.swallow:
        yield f'{name}.add_event_handler("exception_raised", lambda error: True)'


def _handle(event: FilteredEvent) -> str:
    filter = event.filter
    fields = {} if filter is None else attrs.asdict(filter, filter=lambda _, value: value is not None)
    fields |= {"priority": event.priority} if event.priority else {}
    options = "".join(f", {name}={value!r}" for name, value in fields.items())
    return f"event({event.key!r}{options})" if options else repr(event.key)


def _arguments(scenario: Scenario) -> str:
    batches = None if scenario.batches is None else "batches"
    data = "None" if scenario.data is None else scenario.data.python(batches)
    return ", ".join([data, *(f"{name}={value}" for name, value in scenario.limits.items())])


def _run_lines(scenario: Scenario) -> Iterator[str]:
    names = ", ".join(error.__name__ for error in _raised(scenario))
    if names:
        yield f"with record() as trace, suppress({names}):"
    else:
        yield "with record() as trace:"
    yield f"    trainer.run({_arguments(scenario)})"
    if any(call.what == "interrupt" for call in _calls(scenario)):
        yield f"    for _ in range({scenario.resumes}):"
        yield "        if trainer.current_run is not None:"
        yield "            trainer.run()"
    yield "trace.assert_legal()"
