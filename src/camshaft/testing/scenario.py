"""Scenarios: everything that determines a run, as a value that can be played, compared and printed as Python."""

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
from camshaft.events import FilteredEvent, parts_of
from camshaft.loop.loop import Loop
from camshaft.loop.states import OpaqueStep, Phase
from camshaft.testing.callables import Batches, PrintableCallable
from camshaft.testing.faults import PlantedError, call_at
from camshaft.trace.recording import record
from camshaft.trace.trace import Trace

__all__ = ["Call", "CallAt", "Data", "Play", "Scenario"]


@attrs.frozen(repr=False)
class Data:
    """The data of a run: ``n`` batches. The batches are numbers, unless the scenario gives ``batches``.

    Args:
        n: the number of batches.
        kind: ``"list"``, ``"unsized"`` (without ``len()``) or ``"once"`` (an iterator, which cannot be restarted).
    """

    n: int
    kind: str = "list"

    def __repr__(self) -> str:
        return f"Data({self.n})" if self.kind == "list" else f"Data({self.n}, {self.kind!r})"

    def python(self, batches: str | None) -> str:
        """Return the Python expression for this data.

        Args:
            batches: the variable name of a sequence that provides the batches; None for numbers.
        """
        made = str([*range(self.n)]) if batches is None else f"[{batches}[i % len({batches})] for i in range({self.n})]"
        return {"list": "{}", "unsized": "Batches({})", "once": "iter({})"}[self.kind].format(made)


PhaseFunction = Callable[[Any, Any], Any]
"""The function of a phase or step: it takes the engine and the batch, and returns the output."""

# -- scenarios --------------------------------------------------------------------------------------------------------

CALLS = {
    **{
        call: f"{{0}}.{call}({f'{made.option}={{1}}' if made.option else '{1}' if made.event is None else ''})"
        for call, made in CONTROLS.items()
    },
    "fire_event": "{0}.fire_event({1})",
    "terminate_parent": "{0}.parent and {0}.parent.terminate()",
}
"""The Python expression of each call except ``"raise"``: ``{0}`` is the engine, ``{1}`` the value."""


@attrs.frozen(repr=False)
class Call:
    """A control call or a fault at a given moment.

    The moment is the n-th time that an event fires, or the n-th time that a state runs its function.

    Args:
        at: the key of the event, or the name of the state.
        n: the number of the time, from 1.
        what: ``"raise"``, or a key of :data:`CALLS`.
        value: the argument of the call: the exception class for ``"raise"``, a bool for the calls with an option such
            as ``skip_completed``, a :class:`Data` for ``"set_data"``, the event key for ``"fire_event"``.

    Raises:
        ValueError: ``what`` is unknown, ``n`` is no integer of 1 or more, or ``value`` is no exception class for
            ``"raise"``.
    """

    at: str
    n: int
    what: str
    value: Any = None

    def __attrs_post_init__(self) -> None:
        if self.what not in ("raise", *CALLS):
            known = ", ".join(map(repr, ("raise", *CALLS)))
            raise ValueError(f"what must be one of {known}, got {self.what!r}")
        check_integer("n", self.n)
        if self.what == "raise" and not (isinstance(self.value, type) and issubclass(self.value, BaseException)):
            raise ValueError(f"value must be an exception class if what is 'raise', got {self.value!r}")

    def __repr__(self) -> str:
        value = self.value.__name__ if self.what == "raise" else repr(self.value)
        return f"Call({self.at!r}, {self.n}, {self.what!r}{f', {value}' if self.value is not None else ''})"

    def act(self, engine: Any) -> None:
        """Make the call now.

        Raises:
            PlantedError: the engine refuses the call at this moment.
        """
        if self.what == "raise":
            raise self.value(f"planted at {self.at} {self.n}")
        try:
            eval(self.python("engine"), {"engine": engine, "Batches": Batches})
        except (RuntimeError, ValueError) as error:
            raise PlantedError(f"{self.what} at {self.at} {self.n} is not possible") from error

    def python(self, engine: str) -> str:
        """Return the Python expression of the call on the engine with this variable name."""
        value = self.value.python(None) if isinstance(self.value, Data) else repr(self.value)
        return CALLS[self.what].format(engine, value)


@attrs.define
class CallAt:
    """A function of a phase or step that makes a call at its n-th run, and then runs another function.

    Args:
        call: the call; ``call.n`` is the number of the run.
        then: the other function. It runs every time, and its return value is the output.
    """

    call: Call
    then: Callable[[Any, Any], Any]
    runs: int = attrs.field(default=0, init=False, eq=False)

    def __call__(self, engine: Any, batch: Any) -> Any:
        """Make the call if this is the n-th run, and return what the other function returns."""
        self.runs += 1
        if self.runs == self.call.n:
            self.call.act(engine)
        return self.then(engine, batch)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.call!r}, {getattr(self.then, '__qualname__', repr(self.then))})"


@attrs.frozen(repr=False)
class Scenario:
    """Everything that determines a run: loop, data, limits, handlers, nested engines, control calls and faults.

    Args:
        loop: the loop of the engine.
        data: the data; None for a loop without data, or for ``epoch_length`` iterations per epoch without data.
        limits: ``max_epochs``, ``max_iters``, ``epoch_length``, as for ``Engine.run``.
        calls: control calls and faults.
        handlers: the events that get a handler, with or without a filter.
        nested: pairs of event keys and a scenario. Its engine runs, nested, at these events.
        swallow: True to attach a handler of EXCEPTION_RAISED that returns True.
        resumes: how many times a paused run is resumed, at most.
        batches: the batches that the data repeats; None for numbers.
        expected: the keys of the events that the run fires, in order, if they are known.

    Raises:
        ValueError: a call names an event or state that the loop does not have.
    """

    loop: Loop
    data: Data | None = None
    limits: dict[str, int] = attrs.field(factory=dict)
    calls: tuple[Call, ...] = ()
    handlers: tuple[FilteredEvent, ...] = attrs.field(default=(), eq=parts_of)
    nested: tuple[tuple[tuple[str, ...], Scenario], ...] = ()
    swallow: bool = False
    resumes: int = 2
    batches: Sequence[Any] | None = attrs.field(default=None, repr=False)
    expected: tuple[str, ...] | None = attrs.field(default=None, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        places = {item.name for _, item in self.loop.walk() if getattr(item, "run", None) is not None}
        for call in self.calls:
            if call.at not in places and call.at not in self.loop.event_keys:
                what = f"neither an event of the loop {self.loop.name} nor a state of it with a function"
                raise ValueError(f"{call!r} cannot be made: {call.at} is {what}")

    def play(self, make: Callable[[Loop, str], Any] = Engine, *, recorded: bool = True) -> Play:
        """Run the scenario on a new engine.

        Args:
            make: a function that returns the engine for a loop and a name. The default is ``Engine`` itself.
            recorded: False to record no trace. The generated loop then skips events without handlers.

        Returns:
            What happened. ``error`` is a fault that the scenario planted; any other exception is raised.
        """
        play = Play(self)
        with record() if recorded else nullcontext(Trace()) as play.trace:
            play.run(make)
        return play

    def python(self) -> str:
        """Return a short Python program that does the same."""
        return "\n".join(_program(self)) + "\n"

    def __repr__(self) -> str:
        plain = Scenario(self.loop)
        fields = [(field.name, getattr(self, field.name)) for field in attrs.fields(Scenario)[1:] if field.repr]
        shown = [f"{name}={value!r}" for name, value in fields if value != getattr(plain, name)]
        return f"Scenario({', '.join([repr(self.loop), *shown])})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the scenario in Hypothesis and IPython as ``repr`` does."""
        printer.text(repr(self))

    def __str__(self) -> str:
        """Return the data, limits and calls in a few words: an id for tests of one loop."""
        parts = [repr(self.data)] if self.data is not None else []
        parts += [f"{name}={value}" for name, value in self.limits.items()]
        parts += [f"{call.what}{f' {call.value}' * (call.value is True)} at {call.at} {call.n}" for call in self.calls]
        return ", ".join(parts) or "as it is"

    @property
    def prepared(self) -> Loop:
        """A copy of the loop with unused conditions, whose states make the calls of the scenario."""
        calls = [call for call in self.calls if call.at not in self.loop.event_keys]

        def with_calls(name: str, run: PhaseFunction | None) -> PhaseFunction | None:
            for call in calls:
                run = CallAt(call, run) if call.at == name and run is not None else run
            return run

        prepared: Loop = _copy(self.loop, with_calls)
        return prepared


@attrs.define
class Play:
    """The result of playing a scenario.

    Attributes:
        scenario: the scenario.
        engine: the engine, after the run.
        trace: the recorded trace.
        handler_calls: every call of a handler: the engine's name, the handler's number, and the counters of the loop.
        function_calls: every call of a function of the loop: the engine's name, the state's name, and the batch.
        error: the planted fault that ``run()`` raised, or None.
        warned: the messages of the warnings.
    """

    scenario: Scenario
    engine: Any = None
    trace: Trace = attrs.field(factory=Trace)
    handler_calls: list[tuple[str, int, tuple[int, ...]]] = attrs.field(factory=list)
    function_calls: list[tuple[str, str, Any]] = attrs.field(factory=list)
    error: BaseException | None = None
    warned: list[str] = attrs.field(factory=list)

    @property
    def is_paused(self) -> bool:
        """True if the run was interrupted and not resumed to its end."""
        return getattr(self.engine, "current_run", None) is not None

    def run(self, make: Callable[[Loop, str], Any]) -> None:
        """Build the engine and run it, and resume it as often as the scenario says."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.engine = self.build(self.scenario, "trainer", make)
            try:
                self.engine.run(_new_data(self.scenario), **self.scenario.limits)
                for _ in range(self.scenario.resumes):
                    if self.is_paused:
                        self.engine.run()
            except BaseException as error:
                if not self._is_planned(error):
                    raise
                self.error = error
        self.warned = [str(warning.message) for warning in caught]

    def build(self, scenario: Scenario, name: str, make: Callable[[Loop, str], Any]) -> Any:
        """Return an engine with the handlers, calls and nested engines of a scenario.

        Args:
            scenario: the scenario, or one that is nested in it.
            name: the name of the engine.
            make: a function that returns an engine for a loop and a name.
        """

        def logged(state: str, run: PhaseFunction | None) -> PhaseFunction | None:
            return None if run is None else partial(self._log_function, name, state, run)

        engine = make(_copy(scenario.prepared, logged), name)
        for number, event in enumerate(scenario.handlers):
            log = partial(self._log_handler, name, number, scenario.loop.counters)
            engine.add_event_handler(event, lambda engine, *error, log=log: log(engine))
        for call in scenario.calls:
            if call.at in scenario.loop.event_keys:
                call_at(engine, call.at, partial(call.act, engine), n=call.n)
        for number, (keys, inner) in enumerate(scenario.nested):
            evaluator = self.build(inner, f"{name}_{number}", make)
            for key in keys:
                engine.nest(evaluator, key, _new_data(inner), **inner.limits)
        if scenario.swallow:
            engine.add_event_handler("exception_raised", lambda engine, error: True)
        return engine

    def _log_function(self, name: str, state: str, run: PhaseFunction, engine: Any, batch: Any) -> Any:
        self.function_calls.append((name, state, batch))
        return run(engine, batch)

    def _log_handler(self, name: str, number: int, counters: Sequence[str], engine: Any) -> None:
        self.handler_calls.append((name, number, tuple(getattr(engine.state, counter) for counter in counters)))

    def _is_planned(self, error: BaseException) -> bool:
        planted = tuple(call.value for call in _calls(self.scenario) if call.what == "raise")
        if isinstance(error, (PlantedError, *planted)):
            return True
        # an engine refuses data without batches, and cannot restart an iterator: the scenario causes both
        return isinstance(error, (ValueError, RuntimeError)) and _may_be_empty(self.scenario)


def _calls(scenario: Scenario) -> Iterator[Call]:
    yield from scenario.calls
    for _, inner in scenario.nested:
        yield from _calls(inner)


def _raised(scenario: Scenario) -> tuple[type[BaseException], ...]:
    """Return the exceptions that the printed program suppresses: those of faults, and those of refused calls."""
    raised = [call.value for call in _calls(scenario) if call.what == "raise"]
    wrong = [RuntimeError, ValueError] if any(call.what != "raise" for call in _calls(scenario)) else []
    return tuple(dict.fromkeys([*wrong, *raised]))


def _may_be_empty(scenario: Scenario) -> bool:
    """Return whether data of the scenario can be found without batches: at once, or when it is read a second time."""
    datas = [scenario.data, *(call.value for call in scenario.calls)]
    empty = any(isinstance(data, Data) and (data.n == 0 or data.kind == "once") for data in datas)
    return empty or any(_may_be_empty(inner) for _, inner in scenario.nested)


def _new_data(scenario: Scenario) -> Any:
    """Return the data of a scenario, or None."""
    if scenario.data is None:
        return None
    names = {"batches": scenario.batches, "Batches": Batches}
    return eval(scenario.data.python(None if scenario.batches is None else "batches"), names)


def _copy(item: Any, replace: Callable[[str, PhaseFunction | None], PhaseFunction | None]) -> Any:
    """Return a state with unused conditions, in which ``replace(name, function)`` has replaced every function."""
    if isinstance(item, OpaqueStep):
        return OpaqueStep(replace(item.name, item.run))
    if isinstance(item, Phase):
        events = {"started": item.started, "completed": item.completed}
        return Phase(item.name, replace(item.name, item.run), _fresh(item.when), **events)
    if isinstance(item, Loop):
        body = tuple(_copy(child, replace) for child in item.body)
        return item.evolve(body=body, over=_fresh(item.over), until=_fresh(item.until))
    return item


def _fresh(condition: Any) -> Any:
    return condition.fresh() if isinstance(condition, PrintableCallable) else condition


# -- as Python --------------------------------------------------------------------------------------------------------


def _program(scenario: Scenario) -> Iterator[str]:
    """Yield the lines of the program of a scenario."""
    body = [*_engine_lines(scenario, "trainer"), *_run_lines(scenario)]
    text = "\n".join(body)
    if "suppress(" in text:
        yield "from contextlib import suppress"
        yield ""
    for module in (__package__.partition(".")[0], __package__):  # users import from these two only
        used = [name for name in sys.modules[module].__all__ if re.search(rf"\b{name}\b", text)]
        if used:
            yield f"from {module} import {', '.join(used)}"
    yield ""
    yield from body


def _engine_lines(scenario: Scenario, name: str) -> Iterator[str]:
    yield f"{name} = Engine({scenario.prepared!r}, {name!r})"
    for event in scenario.handlers:
        yield f"{name}.add_event_handler({_event_expression(event)}, lambda *_: None)"
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


def _event_expression(event: FilteredEvent) -> str:
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
