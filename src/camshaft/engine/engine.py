"""The engine: owns a loop, the handlers of its events, and its state.

What a loop is, how it is written out and run, who hears an event and where batches come from is the business of the
modules that this one brings together.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from camshaft._views import Picture, view
from camshaft.compiler.program import Program
from camshaft.compiler.writer import generate
from camshaft.control import Control, Interrupt, NewData, SkipIteration, Terminate, TerminateEpoch
from camshaft.engine.custom_events import CustomEvents, check_known
from camshaft.engine.data_fetcher import OpenData, check_data, open_data
from camshaft.engine.dispatch import EventDispatcher, RemovableEventHandle
from camshaft.engine.handler import Handler, adapt_signature, check_filter
from camshaft.engine.limits import Limits
from camshaft.engine.location import EngineLocation, format_path
from camshaft.engine.nesting import check_nested, nested_handler
from camshaft.engine.progress import dump_progress, load_progress
from camshaft.engine.resumable import Resumable
from camshaft.engine.run import Run
from camshaft.engine.starting import RunStarter, refuse_if_executing
from camshaft.engine.state import State
from camshaft.events import LAST_EVENTS, EventHandle, attachments, event_key, event_name
from camshaft.loop.counting import counter_attribute_by_event
from camshaft.loop.loop import Loop, as_loop
from camshaft.loop.registration import register
from camshaft.loop.states import DATA, Nested, Path
from camshaft.machine.machine import LoopMachine

__all__ = ["Engine"]


class Engine:
    """Runs a loop over data and fires its events.

    Args:
        process: what it runs: a step function ``(engine, batch) -> output``, a list of phases that make up the
            iteration, or a whole :class:`~camshaft.Loop`.
        name: how traces and errors call it.
        strict: check every event against the machine as it fires, and raise at the first illegal one.

    Attributes:
        state: the :class:`~camshaft.State`, the same object for the life of the engine.
        strict: see above; a change counts from the next run on.
        logger: a standard logger of the engine's name.
        state_dict_user_keys: names of attributes of the state that :meth:`state_dict` saves as well.
        snapshot: the :class:`~camshaft.Snapshot` that was made for it, or None.
        open_data: ``open_data(data, number) -> (iterator, passed)``, how reading begins, behind so many batches.

    Raises:
        TypeError: ``process`` is none of these.
        LoopError: the loop cannot run as declared.
    """

    def __init__(self, process: Any, name: str = "engine", *, strict: bool = False) -> None:
        loop = as_loop(process)
        if not isinstance(name, str):
            raise TypeError(f"name={name!r} is no string: it is how traces and errors call the engine")
        self.name = name
        self.strict = strict
        self.state = State()
        self.logger = logging.getLogger(f"camshaft.{name}")
        self.state_dict_user_keys: list[str] = []
        self.open_data: OpenData = open_data
        self.snapshot: Resumable | None = None
        # for the modules that run, record and print it, not for users:
        self._dispatcher = EventDispatcher()
        self._namespace: dict[str, Any] = {}
        self.current_run: Run | None = None
        self._run_number = 0
        self._starter = RunStarter()
        self._custom_events = CustomEvents()
        self._by_hand = self._custom_events.by_hand  # looked up at each fire_event()
        self._location = EngineLocation()
        self._machine: LoopMachine | None = None
        self._install_loop(loop.evolve(nested=()) if loop.nested else loop)
        for nested in loop.nested:
            self._nest(nested)

    def __del__(self) -> None:
        if getattr(self, "current_run", self) is None:  # made, and without a paused run, whose loop closes itself
            self._namespace.clear()  # it and its functions refer to each other: they would hold models and handlers

    def __repr__(self) -> str:
        return f"<Engine {self.name}, {self.current_run.status if self.current_run else 'idle'}, {self.place}>"

    # -- the loop ----------------------------------------------------------------------------------------------------

    @property
    def loop(self) -> Loop:
        """The declaration that it runs, with the states that registration put in."""
        return self._loop

    @property
    def machine(self) -> LoopMachine:
        """The loop as a ``transitions.Machine``: ask it what may follow what."""
        if self._machine is None:
            self._machine = LoopMachine(self._loop)
        return self._machine

    def source(self) -> str:
        """The Python that runs."""
        return self._program.source

    def diagram(self, level: str = "overview", *, handlers: bool = False, control: bool = False) -> Picture:
        """The picture of the loop; while the engine stands in a state, that is marked.

        Args:
            level: ``"overview"``: the states that were declared, long bodies folded; ``"full"``: every place and every
                transition of the machine.
            handlers: list the handlers at their events, in the order in which they are called.
            control: show what control calls and failures bring, instead of one edge for all of it.

        Raises:
            ValueError: there is no such level.
        """
        picture: Picture = view("engine_diagram")(self, level, control, handlers)
        return picture

    def _install_loop(self, loop: Loop) -> None:
        """Run this loop from now on; handlers stay attached."""
        program = generate(loop)
        if self.current_run is not None:
            if program is not self._program or loop.custom_states != self._loop.custom_states:
                raise RuntimeError(
                    f"{self.name} has a run that is not over: change its loop before run(), or after close()"
                )
            self._set_loop(loop)
            return
        self._set_loop(loop)
        self._program: Program = program
        self._namespace.clear()
        self._namespace = program.namespace(loop)
        for counter in loop.counters:
            if not hasattr(self.state, counter):
                setattr(self.state, counter, 0)
        self.state.count_by(loop.name.lower(), loop.data_loop.name.lower() if loop.data_loop else None)
        self._dispatcher.count_by(counter_attribute_by_event(loop))
        self._dispatcher.connect(program.names, program.under_any_handlers, self._namespace)

    def _set_loop(self, loop: Loop) -> None:
        self._loop, self._machine = loop, None
        self._custom_events.update(loop, self._dispatcher)

    # -- events ------------------------------------------------------------------------------------------------------

    def register_events(
        self,
        *events: EventHandle,
        after: str | None = None,
        before: str | None = None,
        within: str | None = None,
        order: str = "free",
        event_to_attr: dict[EventHandle, str] | None = None,
    ) -> None:
        """Put the states of custom events into the loop.

        ``X_STARTED`` and ``X_COMPLETED`` make the state X, any other event a state that is entered and left at once.
        An event that a phase of the loop fires already is only made known under another handle.

        Args:
            events: members of an EventEnum or Enum, or strings.
            after, before: the state beside which the engine fires the events itself, in the order given. Without
                either, your own code fires them.
            within: the loop that they belong to, ITERATION unless given; or a phase, whose function fires them; or
                ``"RUN"``.
            order: ``"free"``, or ``"declared"``: in the order given, each at most once a pass.
            event_to_attr: by event, the attribute of the state that filters on it count instead of its firings.

        Raises:
            TypeError: one of them is no event.
            ValueError: the value of a built-in event, or an order that is unknown.
            LoopError: there is no such place.
        """
        attributes = {event_key(event): attribute for event, attribute in (event_to_attr or {}).items()}
        keys = [event_key(event) for event in events]
        if strangers := sorted(set(attributes) - set(keys)):
            raise ValueError(
                f"event_to_attr names {event_name(strangers[0])}, which is not among the events registered with it"
            )
        loop = register(self._loop, events, after=after, before=before, within=within, order=order)
        if loop is not self._loop:
            self._install_loop(loop)
        for attribute in attributes.values():
            if not hasattr(self.state, attribute):
                setattr(self.state, attribute, 0)
        self._dispatcher.count_by(attributes)
        for event, key in zip(events, keys, strict=True):
            self._custom_events.add_handle(event, key)

    def has_registered_events(self, event: EventHandle) -> bool:
        """Whether this engine knows the event: built-in, of a phase, or registered."""
        known = self._loop.event_keys
        return all(single.key in known for single in attachments(event))

    def fire_event(self, event: EventHandle) -> None:
        """Fire a registered event that has no declared place.

        Raises:
            ValueError: it is not registered, or the engine fires it itself.
            EventOrderError: it is out of its declared order, or the engine is strict and it is illegal here.
        """
        try:
            engine_event = self._by_hand[event]
        except (KeyError, TypeError):
            engine_event = self._custom_events.find(self, event)
        if engine_event.handlers:
            self._location.dispatch(self, engine_event)

    # -- handlers ----------------------------------------------------------------------------------------------------

    def on(self, event: EventHandle, *args: Any, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorator that attaches a handler: see :meth:`add_event_handler`."""
        for single in attachments(event):
            check_known(self, single.key)

        def attach(handler: Callable[..., Any]) -> Callable[..., Any]:
            self.add_event_handler(event, handler, *args, **kwargs)
            return handler

        return attach

    def add_event_handler(
        self, event: EventHandle, handler: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RemovableEventHandle:
        """Attach a handler to an event, a filtered event, or a union of events.

        Args:
            event: when to call it.
            handler: called with the engine, if its signature accepts it, then ``args`` and ``kwargs``; at
                EXCEPTION_RAISED with the exception after the engine.

        Returns:
            What removes it again, also as a context manager.

        Raises:
            ValueError: the event is not registered, can never fire in this loop, or the filter cannot work on it.
            TypeError: the signature of the handler does not fit.
        """
        attached = []
        for single in attachments(event):  # all of it is checked before any of it is done
            key = single.key
            check_known(self, key)
            if single.filter is not None:
                check_filter(single.filter, key)
            attached.append(
                (key, Handler(handler, adapt_signature(handler, key, args, kwargs), single.filter, single.priority))
            )
        for key, made in attached:
            self._dispatcher.attach(key, made)
        return RemovableEventHandle(self._dispatcher, attached)

    def handlers(self, event: EventHandle) -> tuple[Handler, ...]:
        """What is attached to an event, in the order in which it runs."""
        key = event_key(event)
        check_known(self, key)
        return self._dispatcher.event(key).attached

    def has_event_handler(self, handler: Callable[..., Any], event: EventHandle | None = None) -> bool:
        """Whether ``handler`` is attached to ``event``, or without it to any event."""
        keys = self._loop.event_keys if event is None else [single.key for single in attachments(event)]
        return any(made.function == handler for key in keys for made in self.handlers(key))

    def remove_event_handler(self, handler: Callable[..., Any], event: EventHandle) -> None:
        """Detach a handler from an event.

        Raises:
            ValueError: it is not attached there.
        """
        found = []
        for key in (single.key for single in attachments(event)):
            here = [(key, made) for made in self.handlers(key) if made.function == handler]
            if not here:
                raise ValueError(f"{handler!r} is not attached to {event_name(key)} of {self.name}")
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
        """Run another engine at an event of this one, at its place among that event's handlers.

        Args:
            engine: the inner engine; the loop of this one knows about it from now on.
            on: the event, filtered or not, or a union.
            data, max_epochs, max_iters, epoch_length: as for the :meth:`run` of the inner engine.

        Raises:
            ValueError: the event is not registered, or the engine would run inside itself.
        """
        if not isinstance(engine, Engine):
            raise TypeError(f"{engine!r} is no Engine: nest(evaluator, on=Events.EPOCH_COMPLETED, data=loader)")
        added = [Nested(engine, single, data, max_epochs, max_iters, epoch_length) for single in attachments(on)]
        for nested in added:
            self._check_nested(nested)
        for nested in added:
            self._nest(nested)

    def _nest(self, nested: Nested) -> None:
        self._check_nested(nested)
        self.add_event_handler(nested.on, nested_handler(nested))
        self._install_loop(self._loop.evolve(nested=(*self._loop.nested, nested)))

    def _check_nested(self, nested: Nested) -> None:
        check_known(self, nested.on.key)
        check_nested(self, nested)

    # -- where it stands ---------------------------------------------------------------------------------------------

    @property
    def parent(self) -> Engine | None:
        """The engine inside a transition of which this one executes right now, or None."""
        parent = self.current_run.parent if self.current_run is not None else None
        return parent if isinstance(parent, Engine) else None

    @property
    def where(self) -> Path:
        """The states in which it stands, outermost first; empty when no run is under way."""
        return self._location.states(self)

    @property
    def place(self) -> str:
        """Where it stands, in words: ``EPOCH 2 / ITERATION 57 / BACKWARD``."""
        return self._location.place(self)

    def format_path(self, path: Path) -> str:
        """A path of states in words, with the counts of its loops."""
        return format_path(self.state, self._loop, path)

    @property
    def position(self) -> int:
        """Batches that the present epoch has had, the present one included; 0 when no run is under way."""
        return self.current_run.fetcher.position if self.current_run is not None else 0

    @property
    def last_event_name(self) -> EventHandle | None:
        """The event that fired last, as :meth:`event_object` gives it; None before any did."""
        key = self._location.last_event_key(self)
        return self.event_object(key) if key is not None else None

    def event_object(self, key: str) -> EventHandle:
        """The handle of an event: the member of ``Events``, the one it was registered with, or else its key."""
        return self._custom_events.handles.get(key, key)

    # -- control -----------------------------------------------------------------------------------------------------

    def terminate(self, *, skip_completed: bool = False) -> None:
        """End the run: TERMINATE fires, then COMPLETED unless it is skipped. Without a run it does nothing."""
        self._request(Terminate(skip_completed))

    def terminate_epoch(self, *, skip_epoch_completed: bool = False) -> None:
        """End the present pass of the outermost loop: TERMINATE_SINGLE_EPOCH fires, then its completion unless skipped.

        The next pass starts with fresh data.

        Raises:
            RuntimeError: no epoch has begun, or the outermost loop takes the data itself.
        """
        if self._loop.over is DATA:
            raise RuntimeError(
                f"{self.name} cannot terminate an epoch: its loop {self._loop.name} has none; call terminate()"
            )
        line = self._location.line(self)
        if line is None or line.last == "started":
            raise RuntimeError(f"{self.name} cannot terminate an epoch: none has begun; call it from EPOCH_STARTED on")
        if line.last not in (self._loop.completed, "terminate_single_epoch"):
            self._request(TerminateEpoch(skip_epoch_completed))

    def skip_iteration(self) -> None:
        """Leave out what this iteration would do: ITERATION_SKIPPED replaces its phases and ITERATION_COMPLETED.

        Raises:
            RuntimeError: called elsewhere than at GET_BATCH_COMPLETED or ITERATION_STARTED.
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
        """Pause: INTERRUPT fires and ``run()`` returns; the next ``run()`` goes on at that very point."""
        self._request(Interrupt())

    def set_data(self, data: Any) -> None:
        """Take the next batch from other data.

        Raises:
            TypeError, ValueError: no batch can come from it.
            RuntimeError: there is no run that takes data.
        """
        check_data(data)
        if self.current_run is None or not self.current_run.fetcher.has_data:
            raise RuntimeError(f"{self.name} has no run that takes data: give it to run()")
        self._request(NewData(data))

    def _request(self, control: Control) -> None:
        if self.current_run is not None:
            self.current_run.request(control)

    @property
    def should_terminate(self) -> bool:
        """Whether ``terminate()`` was called and has not taken effect yet."""
        return self.current_run is not None and isinstance(self.current_run.control, Terminate)

    @property
    def should_terminate_single_epoch(self) -> bool:
        """Whether ``terminate_epoch()`` was called and has not taken effect yet."""
        return self.current_run is not None and isinstance(self.current_run.control, TerminateEpoch)

    @property
    def should_interrupt(self) -> bool:
        """Whether ``interrupt()`` was called and has not taken effect yet."""
        return self.current_run is not None and isinstance(self.current_run.control, Interrupt)

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
        """Run the loop, or go on with a run that is not done.

        Args:
            data: an iterable of batches; None for a loop that takes none, or with ``epoch_length``.
            max_epochs: passes of the outermost loop; 1 unless given.
            max_iters: passes of the loop that takes data, instead of ``max_epochs``.
            epoch_length: batches in an epoch; the length of the data unless given. Where that is unknown, the first
                epoch ends with the data and its length is kept.
            resume: a file, or ``"latest"``: call :meth:`resume` with it first.

        Returns:
            The state.

        Raises:
            RuntimeError: it is running already.
            TypeError, ValueError: data or limits that cannot work.
            BaseException: what left the step or a handler, with a note that says where the loop was.
        """
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
        """Run one transition at a time: yields each event, as :meth:`event_object` gives it, after its handlers.

        The engine stands still in between: look at ``where``, ``state``, ``machine``. Leaving the iteration early
        pauses the run; ``run()`` or ``steps()`` go on with it. Arguments and errors are those of :meth:`run`.
        """
        return map(
            self.event_object,
            self._starter.start_or_resume(self, data, Limits(max_epochs, max_iters, epoch_length)).go(stepping=True),
        )

    def close(self) -> None:
        """Drop a paused or unfinished run and what it opened: the next ``run()`` starts anew.

        Raises:
            RuntimeError: a transition of it executes right now.
        """
        if self.current_run is not None:
            refuse_if_executing(self, "end it from inside with terminate()")
        for counter in self._loop.counters:
            setattr(self.state, counter, 0)
        self._starter.saved, self._starter.has_started, self.state.resumed = None, False, False
        if self.snapshot is not None:
            self.snapshot.forget()
        if self.current_run is not None:
            self.current_run.discard()

    def _on_run_ended(self, outcome: str, finished: bool) -> None:
        """Take note that the run is over, and whether it did all that it was asked to."""
        self.current_run, self._starter.finished = None, finished
        self._location.last_event = LAST_EVENTS[outcome]

    # -- saving ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands, counters, limits, position in the data, ``state_dict_user_keys``, as plain values.

        Raises:
            KeyError: a user key is no attribute of the state.
        """
        return dump_progress(self.state, self._loop, self._starter.position(self), self.state_dict_user_keys)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state at the next :meth:`run`: at the iteration after the saved one.

        In the middle of an epoch, STARTED and EPOCH_STARTED fire again, without counting; ``state.resumed`` is True
        meanwhile, and the batches that the epoch has had are read again and passed over.

        Args:
            state_dict: what :meth:`state_dict` gave; or ``epoch`` or ``iteration`` with ``epoch_length`` and a limit.

        Raises:
            RuntimeError: a run is under way.
            ValueError: keys are missing, unknown, or contradict each other. Nothing is changed then.
        """
        if self.current_run is not None:
            raise RuntimeError(f"{self.name} has a run that is not over: load before run(), or after close()")
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"{state_dict!r} is no state dict: give what state_dict() returned")
        self._starter.saved = load_progress(self.state, self._loop, state_dict, self.state_dict_user_keys)
        self._starter.has_started, self._starter.finished = True, False

    def resume(self, path: str | os.PathLike[str] = "latest") -> os.PathLike[str] | None:
        """Have the next run go on from a file of its :class:`~camshaft.Snapshot`, as if it had not been left.

        All states are loaded now, and once more before the first batch is fetched: what handlers of STARTED, and in
        the middle of an epoch of EPOCH_STARTED, do to set up, while ``state.resumed`` is True, leaves no trace.

        Args:
            path: the file; or ``"latest"``, the newest in the folder. A damaged one is passed over with a warning.

        Returns:
            The file; None where there is none yet, and the next run starts from the beginning.

        Raises:
            RuntimeError: no Snapshot was made for the engine, or a run is under way.
            StorageError: the file is not there, is damaged, or could run code.
            ValueError: it is no snapshot, of another version, or of other objects.
        """
        if self.snapshot is None:
            raise RuntimeError(f"{self.name} has nothing to resume with: make a Snapshot({self.name}, model=...) first")
        return self.snapshot.resume(path)
