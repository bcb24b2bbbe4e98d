"""The engine: owns a loop, the handlers of its events, and a state.

It delegates to the modules of this package: ``starting`` and ``run`` execute the loop, ``dispatch`` calls handlers, and
``data_fetcher`` fetches batches.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from camshaft._checks import is_integer
from camshaft._views import Picture, view
from camshaft.compiler.program import Program
from camshaft.compiler.writer import generate
from camshaft.control import Control, Interrupt, SkipIteration, Terminate, TerminateEpoch
from camshaft.engine.attachment import StatefulHandler
from camshaft.engine.custom_events import CustomEvents, check_known
from camshaft.engine.data import check_data
from camshaft.engine.data_fetcher import OpenData, open_data
from camshaft.engine.dispatch import EventDispatcher, RemovableEventHandle
from camshaft.engine.handler import Handler, check_filter
from camshaft.engine.limits import Limits
from camshaft.engine.location import EngineLocation, format_path
from camshaft.engine.nesting import NestedRun, check_nested
from camshaft.engine.progress import dump_progress, load_progress
from camshaft.engine.resumable import Resumable
from camshaft.engine.run import Run
from camshaft.engine.run_log import caller_outside
from camshaft.engine.starting import RunStarter, refuse_if_executing
from camshaft.engine.state import State
from camshaft.events import (
    LAST_EVENTS,
    CallableEvent,
    EventHandle,
    FilteredEvent,
    HandlerEvents,
    attachments,
    event_key,
    event_name,
)
from camshaft.loop.counting import attribute_by_event, counter_attribute_by_event
from camshaft.loop.loop import Loop, as_loop
from camshaft.loop.registration import register
from camshaft.loop.states import DATA, LoopItem, Nested, Path
from camshaft.machine.transition_table import TransitionTable

if TYPE_CHECKING:
    from camshaft.machine.machine import LoopMachine

__all__ = ["Engine"]


class Engine:
    """An engine that runs a loop over data, fires the events of the loop, and calls their handlers.

    Args:
        process_function: a step function ``(engine, batch) -> output``, a list of phases that make up an iteration, or
            a whole :class:`~camshaft.Loop`.
        name: the name of the engine in traces and error messages.
        strict: check every event against the machine as it fires, and raise an error at the first illegal one.

    Attributes:
        name: see above.
        state: the :class:`~camshaft.State`. It stays the same object until you assign another one, which is possible
            without an unfinished run only. The next run then starts from the beginning.
        strict: see above. A change takes effect at the next run.
        logger: the standard logger ``camshaft.<name>``.
        state_dict_user_keys: names of further attributes of the state to save in :meth:`state_dict`.
        snapshot: the :class:`~camshaft.Snapshot` of this engine, or None.
        open_data: the function that opens the data: see :data:`~camshaft.engine.data_fetcher.OpenData`.
        end_reason: why the last run ended before its limits: the reason given to :meth:`terminate`, and the place;
            None otherwise.
        current_run: the run that is executing or paused, or None. Read :attr:`where` or :attr:`place` instead.

    Raises:
        TypeError: ``process_function`` is of another type, or ``name`` is not a string.
        LoopError: the loop cannot run as declared.

    Example:
        >>> trainer = Engine(lambda engine, batch: 2 * batch, name="trainer")
        >>> @trainer.on("iteration_completed")
        ... def show(engine):
        ...     print(engine.state.iteration, engine.state.output)
        >>> state = trainer.run([1, 2], max_epochs=2)
        1 2
        2 4
        3 2
        4 4
        >>> state.epoch
        2
    """

    def __init__(
        self,
        process_function: Callable[..., Any] | Sequence[LoopItem] | Loop,
        name: str = "engine",
        *,
        strict: bool = False,
    ) -> None:
        loop = as_loop(process_function)
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {name!r}: traces and errors show it")
        self.name = name
        self.strict = strict
        self.state = State()
        self.logger = logging.getLogger(f"camshaft.{name}")
        self.state_dict_user_keys: list[str] = []
        self.open_data: OpenData = open_data
        self.snapshot: Resumable | None = None
        self.end_reason: str | None = None
        # private to camshaft: the modules that run, record and draw engines use these
        self._asked_to_terminate: bool | str = False
        self._asked_to_end_epoch: bool | str = False
        self._dispatcher = EventDispatcher()
        self.current_run: Run | None = None
        self._run_number = 0
        self._starter = RunStarter()
        self._custom_events = CustomEvents()
        self._by_hand = self._custom_events.by_hand  # one attribute lookup less in each fire_event()
        self._location = EngineLocation()
        self._machine: LoopMachine | None = None
        self._known_transitions: TransitionTable | None = None
        self._install_loop(loop.evolve(nested=()) if loop.nested else loop)
        for nested in loop.nested:
            self._nest(nested)

    if not TYPE_CHECKING:  # otherwise type checkers would accept every name

        def __setattr__(self, name: str, value: Any) -> None:
            # not a property: reading the state would cost more, in every handler and step
            if name == "state" and "state" in self.__dict__:
                self._change_state(value)
            object.__setattr__(self, name, value)

    def _change_state(self, state: State) -> None:
        """Prepare another state for this engine, whose next run starts from the beginning.

        Raises:
            TypeError: ``state`` is not a State of camshaft.
            RuntimeError: a run is executing or paused.
        """
        if not isinstance(state, State):
            raise TypeError(f"{self.name}.state must be a State of camshaft, got {state!r}: assign camshaft.State()")
        if state is self.state:
            return
        if self.current_run is not None:
            raise RuntimeError(
                f"{self.name} has a run that is not over: assign another state before run(), or after close()"
            )
        self._connect(state)
        self._start_anew()

    def _connect(self, state: State) -> None:
        """Give a state the counters of the loop, and tell it which attribute numbers each event."""
        loop, data_loop, counters = self._loop, self._loop.data_loop, self._dispatcher.counters
        state.count_by(
            loop.name.lower(),
            data_loop.name.lower() if data_loop else None,
            {*loop.counters, *counters.values()},
            partial(attribute_by_event, loop, dict(counters)),
        )

    def __del__(self) -> None:
        # Nothing is done if __init__ failed before current_run was set. A paused run still needs the namespace: its
        # generator executes its ``finally`` blocks when it is collected.
        if getattr(self, "current_run", self) is None:
            # The namespace and its functions refer to each other. Without this, models and handlers would stay in
            # memory until the garbage collector runs.
            self.__dict__.get("_namespace", {}).clear()

    def __copy__(self) -> Engine:
        raise TypeError(
            f"{self.name} cannot be copied with copy.copy(): both engines would share their handlers and their state; "
            f"use copy.deepcopy()"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what copy.deepcopy() and pickle copy: all but what is made of it."""
        if self.current_run is not None:
            raise RuntimeError(
                f"{self.name} has a run that is not over: copy or pickle the engine before run(), or after close()"
            )
        location = EngineLocation()
        location.last_event = self._location.last_event
        made = {"_program", "_namespace", "_machine", "_known_transitions"}
        return {name: value for name, value in self.__dict__.items() if name not in made} | {"_location": location}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _machine=None, _known_transitions=None)

    def __repr__(self) -> str:
        return f"<Engine {self.name}, {self.current_run.status if self.current_run else 'idle'}, {self.place}>"

    # -- the loop ----------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> Loop:
        """The declaration of the loop, including the states of registered events."""
        return self._loop

    @property
    def machine(self) -> LoopMachine:
        """The loop as a ``transitions.Machine``, to ask which event may follow which."""
        if self._machine is None:
            from camshaft.machine.machine import LoopMachine  # the package ``transitions`` is imported only if used

            self._machine = LoopMachine(self._loop)
        return self._machine

    @property
    def _transitions(self) -> TransitionTable:
        if self._known_transitions is None:
            self._known_transitions = TransitionTable(self._loop)
        return self._known_transitions

    def source(self) -> str:
        """Return the Python source of the loop, exactly as it runs."""
        return self._program.source

    def diagram(self, level: str = "overview", *, handlers: bool = False, control: bool = False) -> Picture:
        """Draw the loop. During a run or a pause, the current state is marked.

        Args:
            level: ``"overview"`` for the declared states, with long bodies folded; ``"full"`` for every place and every
                transition of the machine.
            handlers: list the handlers of each event, in the order of their calls.
            control: show the transitions of each control call and of failures, instead of one edge for all of them.

        Returns:
            The picture; its ``save()`` writes a file.

        Raises:
            ValueError: ``level`` is unknown.
        """
        picture: Picture = view("engine_diagram")(self, level, control, handlers)
        return picture

    def _install_loop(self, loop: Loop) -> None:
        """Replace the loop. Attached handlers stay attached."""
        program = generate(loop)
        if self.current_run is not None:
            # A run keeps the generated loop and the states that it began with: its trace is judged by them. A nested
            # engine changes neither, so it may be added during a run.
            if program is not self._program or loop.custom_states != self._loop.custom_states:
                raise RuntimeError(
                    f"{self.name} has a run that is not over: change its loop before run(), or after close()"
                )
            self._set_loop(loop)
            return
        self._set_loop(loop)
        self._program = program
        self.__dict__.pop("_namespace", {}).clear()
        self._dispatcher.count_by(counter_attribute_by_event(loop))
        self._connect(self.state)
        self._namespace = self._new_namespace()

    # A copy makes these two when they are needed: not before, because parts of its loop may not be copied yet.

    @cached_property
    def _program(self) -> Program:
        return generate(self._loop)

    @cached_property
    def _namespace(self) -> dict[str, Any]:
        return self._new_namespace()

    def _new_namespace(self) -> dict[str, Any]:
        namespace = self._program.namespace(self._loop)
        self._dispatcher.connect(self._program.names, self._program.under_any_handlers, namespace)
        return namespace

    def _set_loop(self, loop: Loop) -> None:
        self._loop, self._machine, self._known_transitions = loop, None, None
        self._custom_events.update(loop, self._dispatcher)

    # -- events ------------------------------------------------------------------------------------------------------

    def register_events(
        self,
        *event_names: EventHandle,
        after: str | None = None,
        before: str | None = None,
        within: str | None = None,
        order: str = "free",
        event_to_attr: dict[EventHandle, str] | None = None,
    ) -> None:
        """Register custom events: each becomes a state of the loop.

        ``X_STARTED`` and ``X_COMPLETED`` together become the state X. Any other event becomes a state that is entered
        and left at once. If a phase of the loop already fires an event of the same value, no state is added: the new
        handle then refers to that event.

        Args:
            event_names: members of an EventEnum or Enum, or strings.
            after: a state. The engine fires the events after it, in the order given.
            before: a state. The engine fires the events before it, in the order given. Without ``after`` and
                ``before``, your own code fires the events with :meth:`fire_event`.
            within: the loop in which the events fire, by default ITERATION; or a phase, if its function fires them; or
                ``"RUN"`` for events outside of all loops, which is the default of events that handlers fire.
            order: ``"free"``; or ``"declared"`` to allow the events in the order given only, each at most once a pass.
            event_to_attr: for an event, the attribute of the state that its filters count, and that
                ``state.get_event_attrib_value(event)`` returns. Your own code sets it; it begins with 0. By default
                filters count how often the event has fired.

        Raises:
            TypeError: one of ``event_names`` is not an event.
            ValueError: an event has the value of a built-in event or a name that cannot be used, ``order`` is
                unknown, or ``event_to_attr`` is not a dictionary, or names an event that is not registered in this
                call, or an attribute that is no count.
            LoopError: the loop has no state of the name given as ``after``, ``before`` or ``within``.
        """
        if event_to_attr is not None and not isinstance(event_to_attr, dict):
            raise ValueError(f"event_to_attr must be a dictionary from events to attributes, got {event_to_attr!r}")
        attributes = {event_key(event): attribute for event, attribute in (event_to_attr or {}).items()}
        keys = [event_key(event) for event in event_names]
        if after is before is within is None and all(isinstance(event, HandlerEvents) for event in event_names):
            within = "RUN"
        if unregistered := sorted(set(attributes) - set(keys)):
            raise ValueError(
                f"event_to_attr names {event_name(unregistered[0])}, which is not among the events of this call: "
                f"register it in the same call"
            )
        for attribute in attributes.values():
            count = getattr(self.state, attribute, 0)
            if not is_integer(count):
                raise ValueError(f"event_to_attr: state.{attribute} is no count, but {count!r}; name another attribute")
        loop = register(self._loop, event_names, after=after, before=before, within=within, order=order)
        if loop is not self._loop:
            self._install_loop(loop)
        self._dispatcher.count_by(attributes)
        self._connect(self.state)
        for event, key in zip(event_names, keys, strict=True):
            self._custom_events.add_handle(event, key)

    def has_registered_events(self, event: EventHandle) -> bool:
        """Return whether the event can fire in this engine: built-in, declared by a state, or registered."""
        known = self._loop.event_keys
        return all(single.key in known for single in attachments(event))

    def fire_event(self, event_name: EventHandle) -> None:
        """Fire a registered event: call its handlers that are due.

        Args:
            event_name: an event registered without ``after`` and ``before``.

        Raises:
            ValueError: the event is not registered, or the engine fires it itself.
            EventOrderError: the event is out of its declared order, or the engine is strict and it is illegal here.
            BaseException: an exception of a handler.
        """
        __tracebackhide__ = True
        try:
            engine_event = self._by_hand[event_name]
        except (KeyError, TypeError):
            engine_event = self._custom_events.find(self, event_name)
        if engine_event.handlers:
            self._location.dispatch(self, engine_event)

    # -- handlers ----------------------------------------------------------------------------------------------------

    def on(
        self, event_name: EventHandle, *args: Any, **kwargs: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that attaches its function as a handler of an event.

        Args and errors are those of :meth:`add_event_handler`.
        """
        for single in attachments(event_name):
            self._register_if_of_handler(single)
            check_known(self, single.key)
        if args and isinstance(args[0], CallableEvent):
            raise TypeError(f"on() takes one event, got {event_name!r} and {args[0]!r}: join events with |")

        def attach(handler: Callable[..., Any]) -> Callable[..., Any]:
            self.add_event_handler(event_name, handler, *args, **kwargs)
            return handler

        return attach

    def add_event_handler(
        self, event_name: EventHandle, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Attach a handler to an event, a filtered event, or a union of events.

        Args:
            event_name: an event such as ``Events.EPOCH_COMPLETED``, a filtered one such as
                ``Events.ITERATION_COMPLETED(every=100)``, or several joined by ``|``.
            handler: called with the engine, then ``args`` and ``kwargs``. The engine is left out if the signature does
                not accept it, and where it would replace a default: ``lambda i=i: print(i)`` prints ``i``. Only a
                default None is replaced, of a parameter that is named ``engine`` or annotated with an Engine; another
                parameter with the default None is an error, because it may be meant either way. A handler of
                EXCEPTION_RAISED gets the exception after the engine.
            args: further positional arguments of the handler.
            kwargs: keyword arguments of the handler.

        Returns:
            A handle that detaches the handler, by ``remove()`` or at the end of a ``with`` block.

        Raises:
            ValueError: the event is not registered, can never fire in this loop, or the filter cannot work on it; or
                the handler has a state and is attached already, such as an EarlyStopping of another engine.
            TypeError: the handler is not callable, as a ProgressBar, which has an ``attach()`` of its own; its
                signature does not fit, or does not tell whether it takes the engine; or a call would not run it, as
                with ``async def`` and generator functions.
        """
        attached, singles = [], attachments(event_name)
        # everything is checked first, so that an error leaves no handler attached
        for single in singles:
            key = single.key
            self._register_if_of_handler(single)
            check_known(self, key)
            if single.filter is not None:
                check_filter(single.filter, key)
            attached.append((key, Handler.attached(single, handler, args, kwargs)))
        if isinstance(handler, StatefulHandler):
            handler.check_attachment(self, singles, args, kwargs)
        for key, made in attached:
            self._dispatcher.attach(key, made)
        return RemovableEventHandle(self._dispatcher, attached)

    def _register_if_of_handler(self, single: FilteredEvent) -> None:
        if isinstance(single.event, HandlerEvents) and not self.has_registered_events(single.event):
            self.register_events(single.event, within="RUN")

    def handlers(self, event: EventHandle) -> tuple[Handler, ...]:
        """Return the handlers of an event, in the order of their calls.

        Raises:
            ValueError: the event is not registered.
        """
        key = event_key(event)
        check_known(self, key)
        return self._dispatcher.event(key).attached

    def has_event_handler(self, handler: Callable[..., Any], event_name: EventHandle | None = None) -> bool:
        """Return whether a handler is attached to an event; without ``event_name``, to any event of this engine."""
        keys = self._loop.event_keys if event_name is None else [single.key for single in attachments(event_name)]
        return any(made.function == handler for key in keys for made in self.handlers(key))

    def remove_event_handler(self, handler: Callable[..., Any], event_name: EventHandle) -> None:
        """Detach a handler from an event, or from all events of a union.

        Args:
            handler: the function given to :meth:`add_event_handler`.
            event_name: the event. A filter is ignored.

        Raises:
            ValueError: the handler is not attached to one of the events. No handler is removed then.
        """
        found = []
        for single in attachments(event_name):
            here = [(single.key, made) for made in self.handlers(single) if made.function == handler]
            if not here:
                raise ValueError(f"{handler!r} is not attached to {single.name} of {self.name}")
            found += here
        for key, made in found:
            self._dispatcher.detach(key, made)

    def nest(
        self,
        engine: Engine,
        on: EventHandle,
        data: Any = None,
        *,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> None:
        """Run another engine at an event of this one, in turn with the handlers of that event.

        The inner engine becomes a part of the loop, so that diagrams show it. At each such event it starts a new
        run, or continues a paused one.

        Args:
            engine: the inner engine.
            on: the event, the filtered event, or the union of events.
            data, max_epochs, max_iters, epoch_length: the arguments of :meth:`run` for the inner engine.

        Raises:
            TypeError: ``engine`` is not an Engine, or ``on`` is not an event.
            ValueError: the event is not registered, the engine would run inside itself, ``data`` can be read only once,
                or the limits do not fit the inner loop.
        """
        if not isinstance(engine, Engine):
            raise TypeError(
                f"engine must be an Engine, got {engine!r}: nest(evaluator, on=Events.EPOCH_COMPLETED, data=loader)"
            )
        try:
            events = attachments(on)
        except TypeError:
            raise TypeError(
                f"on must be an event, got a {type(on).__name__}: "
                f"nest(evaluator, on=Events.EPOCH_COMPLETED, data=loader)"
            ) from None
        added = [Nested(engine, single, data, max_epochs, max_iters, epoch_length) for single in events]
        for nested in added:
            self._check_nested(nested)
        for nested in added:
            self._nest(nested)

    def _nest(self, nested: Nested) -> None:
        self._check_nested(nested)
        self.add_event_handler(nested.on, NestedRun(nested))
        self._install_loop(self._loop.evolve(nested=(*self._loop.nested, nested)))

    def _check_nested(self, nested: Nested) -> None:
        check_known(self, nested.on.key)
        check_nested(self, nested)

    # -- location ----------------------------------------------------------------------------------------------------

    @property
    def parent(self) -> Engine | None:
        """The engine whose handler or step is running this engine right now, or None."""
        parent = self.current_run.parent if self.current_run is not None else None
        return parent if isinstance(parent, Engine) else None

    @property
    def where(self) -> Path:
        """The states that the engine is in, such as ``("EPOCH", "ITERATION", "BACKWARD")``; empty between runs."""
        return self._location.states(self)

    @property
    def place(self) -> str:
        """The states that the engine is in, in words: ``EPOCH 2 / ITERATION 57 / BACKWARD``."""
        return self._location.place(self)

    def format_path(self, path: Path) -> str:
        """Return a path of states in words, with the present counts of its loops."""
        return format_path(self.state, self._loop, path)

    @property
    def position(self) -> int:
        """The number of batches used in this epoch, including the present one; 0 between runs."""
        return self.current_run.fetcher.position if self.current_run is not None else 0

    @property
    def last_event_name(self) -> EventHandle | None:
        """The event that fired last, as :meth:`event_object` returns it; None before the first one."""
        key = self._location.last_event_key(self)
        return self.event_object(key) if key is not None else None

    def event_object(self, key: str) -> EventHandle:
        """Return the handle of an event: the member of ``Events``, the handle it was registered with, or its key."""
        return self._custom_events.handles.get(key, key)

    # -- control -----------------------------------------------------------------------------------------------------

    def terminate(self, skip_completed: bool = False, *, reason: str = "") -> None:
        """End the run: TERMINATE fires, then COMPLETED.

        Like every control call, it takes effect when the handlers of the present event, or the present phase, have
        finished. If the engine is not running, or the run is ending already, only :attr:`should_terminate` changes.

        Args:
            skip_completed: leave out COMPLETED.
            reason: why the run ends, for the log, progress bars and :attr:`end_reason`. By default, the line of code
                that calls this method.
        """
        skips = not isinstance(skip_completed, Engine) and bool(skip_completed)  # it may be attached as a handler
        self._asked_to_terminate = "skip_completed" if skips else True
        if self._request(Terminate(skips)):  # of several calls, the first one ends the run
            called = f"terminate() was called {caller_outside(sys._getframe(1))}".strip()
            self.end_reason = f"{reason or called}, in {self.place}"
            self.logger.info("the run is to end: %s", self.end_reason)

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        """End the present pass of the outermost loop: TERMINATE_SINGLE_EPOCH fires, then EPOCH_COMPLETED.

        The next epoch reads its data from the beginning.

        Args:
            skip_epoch_completed: leave out EPOCH_COMPLETED.

        Raises:
            RuntimeError: no epoch has begun, or the outermost loop takes the data itself.
        """
        if self._loop.over is DATA:
            raise RuntimeError(
                f"{self.name} cannot terminate an epoch: its loop {self._loop.name} has no epochs; call terminate()"
            )
        line = self._location.line(self)
        if line is None or line.last_event == "started":
            raise RuntimeError(f"{self.name} cannot terminate an epoch: none has begun; call it from EPOCH_STARTED on")
        if line.last_event not in (self._loop.completed, "terminate_single_epoch"):
            skips = not isinstance(skip_epoch_completed, Engine) and bool(skip_epoch_completed)
            self._asked_to_end_epoch = "skip_epoch_completed" if skips else True
            self._request(TerminateEpoch(skips))

    def skip_iteration(self) -> None:
        """Skip the phases of this iteration: ITERATION_SKIPPED fires instead of ITERATION_COMPLETED.

        The iteration is counted all the same.

        Raises:
            RuntimeError: not called in a handler of GET_BATCH_COMPLETED or ITERATION_STARTED.
        """
        line, data_loop = self._location.line(self), self._loop.data_loop
        entering = (
            data_loop is not None and line is not None and line.event in ("get_batch_completed", data_loop.started)
        )
        if not entering or self._location.is_outside_loop:
            raise RuntimeError(
                f"{self.name} cannot skip an iteration in {self.place}: "
                f"call it at GET_BATCH_COMPLETED or ITERATION_STARTED"
            )
        self._request(SkipIteration())

    def interrupt(self) -> None:
        """Pause the run: INTERRUPT fires and ``run()`` returns. The next ``run()`` continues at the same point."""
        self._request(Interrupt())

    def set_data(self, data: Any) -> None:
        """Fetch the next batch from other data. Assigning to ``state.dataloader`` does the same.

        The new data is taken together with any other control call of the same moment. Of several calls of this method,
        the last one counts.

        Args:
            data: an iterable of batches.

        Raises:
            TypeError: ``data`` is not iterable.
            ValueError: ``data`` is empty.
            RuntimeError: the engine has no run, or its run takes no data.
        """
        check_data(data)
        if self.current_run is None:
            raise RuntimeError(f"{self.name} has no run that takes data: give the data to run()")
        self.current_run.set_data(data)

    def _request(self, control: Control) -> bool:
        """Make a control call. Returns whether it is to take effect."""
        return self.current_run is not None and self.current_run.request(control)

    @property
    def should_terminate(self) -> bool | str:
        """Whether :meth:`terminate` was called since a run began: False, True, or ``"skip_completed"``.

        Assigning True calls it. Assigning False takes the call back, if it has not taken effect yet.
        """
        return self._asked_to_terminate

    @should_terminate.setter
    def should_terminate(self, value: bool | str) -> None:
        if value:
            called = f"should_terminate was set {caller_outside(sys._getframe(2))}".strip()  # 1 is __setattr__()
            self.terminate(value == "skip_completed", reason=called)
        else:
            self._withdraw(Terminate)
            self._asked_to_terminate, self.end_reason = False, None

    @property
    def should_terminate_single_epoch(self) -> bool | str:
        """Whether :meth:`terminate_epoch` was called in this epoch: False, True, or ``"skip_epoch_completed"``.

        Assigning True calls it. Assigning False takes the call back, if it has not taken effect yet.
        """
        is_pending = self.current_run is not None and isinstance(self.current_run.control, TerminateEpoch)
        is_ending = self.current_run is not None and self._location.last_event_key(self) == "terminate_single_epoch"
        return self._asked_to_end_epoch if is_pending or is_ending else False

    @should_terminate_single_epoch.setter
    def should_terminate_single_epoch(self, value: bool | str) -> None:
        if value:
            self.terminate_epoch(value == "skip_epoch_completed")
        else:
            self._withdraw(TerminateEpoch)

    @property
    def should_interrupt(self) -> bool:
        """True if :meth:`interrupt` was called and has not taken effect yet.

        Assigning True calls it. Assigning False takes the call back.
        """
        return self.current_run is not None and isinstance(self.current_run.control, Interrupt)

    @should_interrupt.setter
    def should_interrupt(self, value: bool) -> None:
        if value:
            self.interrupt()
        else:
            self._withdraw(Interrupt)

    def _withdraw(self, kind: type[Control]) -> None:
        if self.current_run is not None:
            self.current_run.withdraw(kind)

    # -- running -----------------------------------------------------------------------------------------------------

    def run(
        self,
        data: Any = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
        *,
        resume: str | os.PathLike[str] | None = None,
    ) -> State:
        """Run the loop, or continue a run that is paused or has not reached its limits.

        A paused run continues with its own data and limits, unless higher limits are given. After a run that reached
        its limits, higher limits continue it, and the same or no limits start a new run. After a failure or
        :meth:`terminate`, the run continues with the next epoch. To start over, call :meth:`close` first, or set the
        limit of the state to None, as in ``state.max_epochs = None``.

        Args:
            data: an iterable of batches. None for a loop that takes no data, to continue with the same data, or to get
                None as each of ``epoch_length`` batches.
            max_epochs: the number of passes of the outermost loop; 1 by default.
            max_iters: the number of passes of the loop that takes data, instead of ``max_epochs``.
            epoch_length: the number of batches in an epoch; by default the length of the data. If that is unknown, or
                wrong, the first epoch ends with the data, and its length is used from then on.
            resume: a file of a snapshot, or ``"latest"``: see :meth:`resume`.

        Returns:
            The state of the engine.

        Raises:
            RuntimeError: the engine is running already.
            TypeError: ``data`` is not iterable.
            ValueError: the limits contradict each other, the loop, or what the run has done already.
            StorageError: the run would start from the beginning, and the folder of the :class:`~camshaft.Snapshot` has
                files of an earlier run.
            BaseException: an exception of the step or of a handler, with a note that says where the loop was.
        """
        __tracebackhide__ = True
        if resume is not None:
            self.resume(resume)
        for _ in self._starter.start_or_resume(self, data, Limits(max_epochs, max_iters, epoch_length)).go(
            stepping=False
        ):
            pass
        return self.state

    def steps(
        self,
        data: Any = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        epoch_length: int | None = None,
    ) -> Iterator[EventHandle]:
        """Run one transition at a time: yield each event after its handlers have run.

        Between two events the engine is not running, and ``where``, ``state`` and ``machine`` can be read. If you stop
        iterating, the run is paused: :meth:`run` or another ``steps()`` continues it. Arguments and errors are those of
        :meth:`run`.

        Yields:
            Each event, as :meth:`event_object` returns it, whether it has handlers or not.
        """
        return map(
            self.event_object,
            self._starter.start_or_resume(self, data, Limits(max_epochs, max_iters, epoch_length)).go(stepping=True),
        )

    def close(self) -> None:
        """Discard a paused or unfinished run, and close its data. The next ``run()`` starts from the beginning.

        Raises:
            RuntimeError: the engine is running.
        """
        if self.current_run is not None:
            refuse_if_executing(self, "end it from inside with terminate()")
        for counter in self._loop.counters:
            setattr(self.state, counter, 0)
        self.state.resumed = False
        self._start_anew()
        if self.current_run is not None:
            self.current_run.discard()

    def _start_anew(self) -> None:
        """Make the next run start from the beginning."""
        self._starter.saved, self._starter.has_started = None, False
        if self.snapshot is not None:
            self.snapshot.forget()

    def _on_run_ended(self, outcome: str, finished: bool) -> None:
        """Record that the run has ended, how it ended, and whether it reached its limits."""
        self.current_run, self._starter.finished = None, finished
        self.state.note_metrics_of_run()
        self._location.last_event = LAST_EVENTS[outcome]

    # -- saving ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the progress of the run as plain values, for :meth:`load_state_dict`.

        Returns:
            The counters, the limits, the position in the data and in the loop, how often events have fired, and the
            attributes of the state that :attr:`state_dict_user_keys` names.

        Raises:
            KeyError: the state lacks an attribute of ``state_dict_user_keys``.
        """
        return dump_progress(self.state, self._loop, self._starter.position(self), self.state_dict_user_keys)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Make the next :meth:`run` continue with the iteration after the saved one.

        A run saved in the middle of an epoch fires STARTED and EPOCH_STARTED again, without counting the epoch again.
        ``state.resumed`` is True meanwhile. The batches of this epoch that were used before are read again and skipped.

        Args:
            state_dict: a result of :meth:`state_dict`. One of an engine of pytorch-ignite is accepted too: ``epoch`` or
                ``iteration``, ``epoch_length``, a limit, and the random states of a ``DeterministicEngine``.

        Raises:
            RuntimeError: a run is executing or paused.
            TypeError: ``state_dict`` is not a mapping.
            ValueError: keys are missing, unknown, or contradict each other. Nothing is changed then.
        """
        if self.current_run is not None:
            raise RuntimeError(f"{self.name} has a run that is not over: load before run(), or after close()")
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be a mapping, got {state_dict!r}: give a result of state_dict()")
        self._starter.saved = load_progress(self.state, self._loop, state_dict, self.state_dict_user_keys)
        self._starter.has_started, self._starter.finished = True, False

    def resume(self, path: str | os.PathLike[str] = "latest") -> FilePath | None:
        """Make the next :meth:`run` continue from a file of the engine's :class:`~camshaft.Snapshot`.

        The saved states are loaded now, and again before the first batch is fetched. So they also replace the changes
        made by handlers of STARTED, and of EPOCH_STARTED in the middle of an epoch. ``state.resumed`` is True while
        these handlers run.

        Args:
            path: the file, or ``"latest"`` for the newest one in the folder of the snapshot. A damaged file is skipped
                with a warning.

        Returns:
            The file, or None if there is none yet. The next run then starts from the beginning, and the log says so.

        Raises:
            TypeError: ``path`` is not a file name.
            RuntimeError: the engine has no Snapshot, or a run is executing or paused.
            StorageError: the file is missing, is damaged, or could run code.
            ValueError: the file is not a snapshot, or belongs to another version or to other objects.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"resume must be a file or 'latest', got {path!r}")
        if self.snapshot is None:
            raise RuntimeError(f"{self.name} has nothing to resume with: make a Snapshot({self.name}, model=...) first")
        return self.snapshot.resume(path)
