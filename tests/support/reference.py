"""The reference: a second way to run a loop, by walking its machine.

It is slow and simple. It uses neither the generated source nor the engine that drives it.
``test_machine_and_generated_loop.py`` compares the results of both for the same program.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

from camshaft.engine.state import State
from camshaft.events import Filter, FilteredEvent, attachments
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, OpaqueStep, Phase
from camshaft.machine.machine import LoopMachine
from camshaft.machine.transition import Transition

RANK = {"terminate": 4, "terminate_epoch": 3, "skip": 2, "interrupt": 1}
EVENTS_OF_CALLS = {"terminate", "interrupt", "terminate_single_epoch", "exception_raised"}


EXECUTING: list[Reference] = []


class Paused(Exception):
    """The walk stopped at an interrupt."""


class Ended(Exception):
    """The walk reached an end."""


def is_due(filter: Filter | None, count: int) -> bool:
    if filter is None:
        return True
    if count == 0:  # nothing has been counted yet
        return filter.every is not None and filter.after is None and filter.before is None
    if filter.once is not None:
        return count in filter.once
    if (filter.after is not None and count <= filter.after) or (filter.before is not None and count >= filter.before):
        return False
    return (count if filter.after is None else count - filter.after - 1) % (filter.every or 1) == 0


class Reference:
    """A walk through the machine of a loop, with the methods of an engine that programs use."""

    def __init__(self, loop: Loop, name: str, log: list[Any]) -> None:
        self.loop = loop
        self.name = name
        self.machine = LoopMachine(loop)
        self.state = State()
        self.log = log
        self.handlers: dict[str, list[tuple[FilteredEvent, Callable[..., Any]]]] = {}
        self.fired: Counter[str] = Counter()
        self.custom_states = {event for custom in loop.custom_states for event in custom.events}
        self.control: tuple[str, Any] | None = None
        self.new_data: list[Any] = []
        self.last: str | None = None
        self.running = self.failed = self.paused = False
        self.parent: Reference | None = None
        self.loops = [item for _, item in loop.walk() if isinstance(item, Loop)]

    # -- methods of an engine ----------------------------------------------------------------------------------------

    def add_event_handler(self, event: Any, handler: Callable[..., Any]) -> None:
        for single in attachments(event):
            handlers = [*self.handlers.get(single.key, []), (single, handler)]
            self.handlers[single.key] = sorted(handlers, key=lambda one: -one[0].priority)

    def nest(self, engine: Reference, on: Any, data: Any, **limits: Any) -> None:
        self.add_event_handler(on, lambda *_: engine.run() if engine.paused else engine.run(data, **limits))

    @property
    def current_run(self) -> Reference | None:
        return self if self.paused else None

    def due(self, event: str) -> list[Callable[..., Any]]:
        """Return the handlers that an event must call now."""
        counts = {key: loop for loop in self.loops for key in (loop.started, loop.completed)}
        batch = ("get_batch_started", "get_batch_completed", "iteration_skipped")
        counts |= dict.fromkeys(batch, self.loop.data_loop) if self.loop.data_loop is not None else {}
        count = self.machine.model.context.counts[counts[event].name] if event in counts else self.fired[event]
        return [handler for single, handler in self.handlers.get(event, []) if is_due(single.filter, count)]

    def fire_event(self, event: str) -> None:
        self.fire(event, by_hand=True)

    @property
    def can_request(self) -> bool:
        return self.running and not self.failed and self.last not in ("terminate", "completed")

    def request(self, what: str, value: Any = None) -> None:
        if self.can_request and (self.control is None or RANK[what] > RANK[self.control[0]]):
            self.control = (what, value)

    def terminate(self, skip_completed: bool = False) -> None:
        self.request("terminate", skip_completed)

    def terminate_epoch(self, skip_epoch_completed: bool = False) -> None:
        if self.last == "started":
            raise RuntimeError("no epoch")
        if self.last not in (self.loop.completed, "terminate_single_epoch"):
            self.request("terminate_epoch", skip_epoch_completed)

    def skip_iteration(self) -> None:
        data_loop = self.loop.data_loop
        if data_loop is None or self.firing not in ("get_batch_completed", data_loop.started):
            raise RuntimeError("no iteration to skip")
        self.request("skip")

    def interrupt(self) -> None:
        self.request("interrupt")

    def set_data(self, data: Any) -> None:
        if not self.machine.model.context.has_data:
            raise RuntimeError("no data")
        if self.can_request:
            self.new_data = [data]

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self, data: Any = None, max_epochs: Any = None, max_iters: Any = None, epoch_length: Any = None) -> State:
        if not self.paused:
            self.begin(data, max_epochs, max_iters, epoch_length)
        self.paused, self.running = False, True
        self.parent = EXECUTING[-1] if EXECUTING else None
        EXECUTING.append(self)
        try:
            self.walk()
        except (Paused, Ended) as stop:
            self.paused = isinstance(stop, Paused)
        except BaseException as error:
            self.failed, self.control = True, None
            self.machine.model.trigger("exception_raised")
            self.record("exception_raised")
            answers = [handler(self, error) for handler in self.due("exception_raised")]
            if not (isinstance(error, Exception) and any(answer is True for answer in answers)):
                raise
        finally:
            EXECUTING.pop()
            self.parent = None
            self.running = self.failed = False
        return self.state

    def begin(self, data: Any, max_epochs: Any, max_iters: Any, epoch_length: Any) -> None:
        context, root = self.machine.model.context, self.loop
        self.machine.set_state("READY")
        self.fired.clear()
        open_ended = max_iters is not None or root.until is not None or root.over is not None
        default = root.times or (None if open_ended else 1)
        context.max_epochs = default if max_epochs is None else min(max_epochs, root.times or max_epochs)
        context.max_iters = max_iters
        length = len(data) if hasattr(data, "__len__") else None
        context.epoch_length = epoch_length if epoch_length is not None else length
        context.has_data = data is not None
        context.counts = {loop.name: 0 for loop in self.loops}
        context.ask = self.answer
        self.data, self.iterator, self.opened, self.produced_any = data, None, 0, False
        self.elements: dict[str, Any] = {}
        self.answers: dict[Any, Any] = {}
        self.next_transition: Transition | None = None
        self.firing: str | None = None
        self.last = None
        self.state.batch = self.state.output = None
        self.synchronize()

    def walk(self) -> None:
        while True:
            self.take_new_data()
            if self.control is not None and self.next_transition is None:
                self.apply_control(before=None)  # a handler of the last event made the call
            if self.next_transition is None:
                self.next_transition = self.choose()
            self.take_new_data()
            if self.control is not None and self.next_transition.event != "started":
                self.apply_control(before=self.next_transition)
                if self.next_transition is None:
                    continue
            transition, self.next_transition = self.next_transition, None
            self.fire(transition.event)
            if transition.dest == "COMPLETED":
                raise Ended

    def choose(self) -> Transition:
        """Run the function of the current place, and return the transition that the guards allow."""
        place = self.machine.model.state
        item = self.machine.items.get(place)
        self.answers = {}
        if isinstance(item, Phase):
            self.act(item)
        transitions = [
            transition
            for transition in self.machine.table[place].values()
            if transition.event not in EVENTS_OF_CALLS
            and transition.event not in self.custom_states
            and not transition.is_control
        ]
        allowed = [transition for transition in transitions if self.is_allowed(transition)]
        if len(allowed) == 1:
            return allowed[0]
        assert not allowed, f"several transitions are possible at {place}: {allowed}"
        context, data_loop = self.machine.model.context, self.loop.data_loop
        assert data_loop is not None
        if context.max_iters is not None and context.counts[data_loop.name] >= context.max_iters:
            return self.terminating()
        warnings.warn("the data cannot be restarted", stacklevel=1)
        return self.terminating()

    def terminating(self) -> Transition:
        return self.machine.table[self.machine.model.state]["terminate"]

    def is_allowed(self, transition: Transition) -> bool:
        for part in transition.guards_and_steps:
            if isinstance(part, OpaqueStep):
                if "step" not in self.answers:
                    self.answers["step"] = True
                    self.state.output = part.run(self, self.batch)
            elif not part.test(self.machine.model.context):
                return False
        return True

    @property
    def batch(self) -> Any:
        """Return what a phase gets: a batch inside the data, else the element of the loop around it that has any."""
        around = self.machine.paths[self.machine.model.state]
        loops = [loop for loop in self.loops if loop.name in around]  # the outermost first
        elements = [loop for loop in loops if loop.over is not None and loop.over is not DATA]
        if any(loop.over is DATA for loop in loops) or not elements:
            return self.state.batch
        return getattr(self.state, f"{elements[-1].name.lower()}_item")

    def act(self, phase: Phase) -> None:
        if phase.run is not None:
            output = phase.run(self, self.batch)
            if output is not None:
                self.state.output = output

    def answer(self, question: str, item: Any) -> bool:
        if (question, item.name) not in self.answers:
            self.answers[question, item.name] = getattr(self, f"answer_{question}")(item)
        return self.answers[question, item.name]

    def answer_skipped(self, loop: Loop) -> bool:
        return bool(self.skipped)

    def answer_when(self, phase: Phase) -> bool:
        return bool(phase.when(self))

    def answer_more(self, loop: Loop) -> bool:
        if loop.until is not None:
            return not loop.until(self)
        if self.machine.model.context.passes[loop.name] == 0:
            self.elements[loop.name] = iter(loop.over(self) if callable(loop.over) else loop.over)
        try:
            element = next(self.elements[loop.name])
        except StopIteration:
            return False
        setattr(self.state, f"{loop.name.lower()}_item", element)
        return True

    def answer_batch(self, loop: Loop) -> bool:
        context = self.machine.model.context
        done = context.counts[loop.name]
        if self.iterator is None:
            self.iterator, self.opened = iter(self.data), done
        try:
            self.state.batch = next(self.iterator)
            return True
        except StopIteration:
            if done == self.opened and not self.produced_any:
                raise ValueError("data is empty") from None
            if context.epoch_length is not None and done != self.opened:
                self.iterator = None
            self.produced_any = True
            return False

    # -- events and control ------------------------------------------------------------------------------------------

    def fire(self, event: str, by_hand: bool = False) -> None:
        if not self.machine.model.trigger(event):
            raise AssertionError(f"{event} is illegal in {self.machine.model.state}")
        self.synchronize()
        for loop in self.loops:
            forgets = loop is (self.loop.data_loop or self.loop)
            if forgets and event == ("get_batch_completed" if loop.over is DATA and self.has_data else loop.started):
                self.state.output = None
        outer, self.firing = self.firing, event
        if not by_hand:
            self.last = event
        self.record(event)
        for handler in self.due(event):
            handler(self)
        self.firing = outer

    @property
    def has_data(self) -> bool:
        return self.machine.model.context.has_data

    def record(self, event: str) -> None:
        self.fired[event] += 1
        self.log.append((self.name, event, tuple(self.machine.model.context.counts.items())))

    def take_new_data(self) -> None:
        if self.new_data:
            self.data, self.iterator, self.produced_any = self.new_data.pop(), None, False

    def apply_control(self, before: Transition | None) -> None:
        assert self.control is not None
        what, value = self.control
        data_loop, upcoming = self.loop.data_loop, before.event if before is not None else None
        entered = data_loop is not None and before is None and self.last == data_loop.started
        if what == "skip" and not entered:
            return
        self.control = None
        if what == "interrupt":
            self.fire("interrupt", by_hand=True)
            if self.control is not None and self.control[0] in ("terminate", "terminate_epoch"):
                self.apply_control(before)
                return
            self.control = None
            raise Paused
        if upcoming == "completed" or (before is None and self.last == "completed"):
            return
        if what == "skip":
            self.fire("iteration_skipped")
        elif what == "terminate":
            self.next_transition = None
            self.fire("terminate")
            if value:
                raise Ended
            self.next_transition = self.machine.table["TERMINATED"]["completed"]
        else:
            done = data_loop is not None and self.machine.model.context.counts[data_loop.name] > self.opened
            self.produced_any = self.produced_any or (self.iterator is not None and done)
            self.iterator = None
            self.next_transition, self.skipped = None, value
            self.fire("terminate_single_epoch")

    def synchronize(self) -> None:
        context, state = self.machine.model.context, self.state
        for name, count in context.counts.items():
            setattr(state, name.lower(), count)
        state.max_epochs, state.max_iters, state.epoch_length = (
            context.max_epochs,
            context.max_iters,
            context.epoch_length,
        )
