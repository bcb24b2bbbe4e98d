"""Paths: the shortest runs that cover a machine, found by breadth-first search. Playing them runs an engine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterator
from itertools import islice
from typing import Any, Literal

import attrs

from camshaft import control
from camshaft.loop.loop import Loop
from camshaft.loop.states import Every, Phase
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine
from camshaft.machine.search import breadth_first
from camshaft.machine.transition import ENDS, READY, TERMINATED, Transition
from camshaft.testing.callables import Scripted, ScriptedRange
from camshaft.testing.coverage import Covered, MachineCoverage
from camshaft.testing.faults import PlantedError
from camshaft.testing.scenario import Call, Data, Scenario

__all__ = ["transition_paths"]

MOST = 30
"""The number of contexts that are searched per place of the machine, for each choice of data and limits."""

AFTER_CALL = 3
"""The number of transitions that are searched after a control call or a fault. Later ones are reached without it."""

CALLS: dict[str, tuple[str, Any]] = {
    **{key: (made.call, False if made.option else None) for key, made in control.CALLS.items()},
    "exception_raised": ("raise", PlantedError),
}
"""By event: the control call or fault that causes it, and the value of the :class:`Call`."""


def transition_paths(loop: Loop, cover: Literal["transitions", "pairs"] = "transitions") -> list[Scenario]:
    """Return short runs that together take every transition of a machine, or every pair of consecutive transitions.

    Use them with ``pytest.mark.parametrize("path", transition_paths(loop), ids=str)``. ``path.play(make)`` runs one.
    ``path.expected`` has the keys of the events that it must fire, without those that a function of the loop fires by
    hand.

    Transitions count as in ``--event-coverage``. A transition of the loop itself counts once. The event of a custom
    state, of a control call or of a fault counts once, wherever it fires. As part of a pair, it counts once after each
    transition.

    The conditions of the loop (``when=``, ``until=``, ``over=``) are replaced by scripted ones that give the answers
    of the path. The other functions of the loop run unchanged.

    A transition is left out if no run reaches it within two epochs, or within as many epochs as the least common
    multiple of all ``every(n)``, if that is more.

    Breadth-first search finds a shortest run to each transition. A greedy set cover selects the runs that are returned
    (Chvatal, 1979, "A greedy heuristic for the set-covering problem").

    Args:
        loop: the loop.
        cover: ``"transitions"`` or ``"pairs"``.

    Returns:
        A scenario for each run.

    Raises:
        ValueError: ``cover`` is neither.
    """
    if cover not in ("transitions", "pairs"):
        raise ValueError(f"cover must be 'transitions' or 'pairs', got {cover!r}")
    found: dict[Hashable, _Node] = {}
    for data, limits in _choices(loop):
        search = _Search(loop, data, limits, cover == "pairs")
        found |= search.targets(found.keys())
    chosen: list[_Node] = []
    missing = set(found)
    while missing:
        best = max(found.values(), key=lambda node: (len(node.covered & missing), -node.length))
        missing -= best.covered
        chosen.append(best)
    return [node.scenario() for node in chosen]


def _choices(loop: Loop) -> Iterator[tuple[Data | None, dict[str, int]]]:
    """Yield data and limits to search with, the smaller ones first."""
    if loop.data_loop is None:
        yield None, {}
        yield from ((None, {"max_epochs": epochs}) for epochs in {2, _common(loop, loop.name)})
        return
    batches, epochs = _common(loop, loop.data_loop.name), max(2, _common(loop, loop.name))
    for n in dict.fromkeys((1, 2, batches)):
        yield Data(n), {}
        yield Data(n), {"max_epochs": epochs}
    yield Data(1), {"epoch_length": 2}
    yield Data(2), {"max_iters": 1}
    yield Data(2, "unsized"), {"max_epochs": 2}
    yield None, {"epoch_length": batches}
    yield None, {"epoch_length": 2, "max_epochs": epochs}


def _common(loop: Loop, around: str) -> int:
    """Return the number of passes after which every ``every(n)`` directly in the loop ``around`` has been due.

    It is limited to 12, to keep the search short.
    """
    conditions = [
        item.when.n
        for path, item in loop.walk()
        if isinstance(item, Phase) and isinstance(item.when, Every) and path[-2] == around
    ]
    return min(math.lcm(1, *conditions), 12)


@attrs.define(eq=False)
class _Node:
    """A node of the search: a place of the machine, and the transition that leads there.

    Attributes:
        search: the search.
        place: the place.
        context: the counters and limits at the place.
        position: the number of batches taken since the data was opened.
        before: the previous node; None at the start.
        transition: the transition that leads here; None at the start.
        answers: the answers of conditions that the transition needs, in order: (question, state, answer).
        call: the control call, the fault or the event by hand that causes the transition, if any.
        counted: the transition as it is counted.
        length: the number of transitions from the start.
        called_at: the length at which a control call or a fault was made; None before that.
    """

    search: _Search
    place: str
    context: Context
    position: int = 0
    before: _Node | None = None
    transition: Transition | None = None
    answers: tuple[tuple[str, str, bool], ...] = ()
    call: Call | None = None
    counted: Covered | None = None
    length: int = 0
    called_at: int | None = None

    @property
    def nodes(self) -> list[_Node]:
        """The nodes of the path from the start to here, without the start."""
        path, node = [], self
        while node.before is not None:
            path.append(node)
            node = node.before
        return path[::-1]

    @property
    def events(self) -> list[str]:
        """The keys of the events of the path."""
        return [node.transition.event for node in self.nodes if node.transition is not None]

    @property
    def covered(self) -> set[Hashable]:
        """The targets that the path takes."""
        return {node.target for node in self.nodes}

    @property
    def target(self) -> Hashable:
        """The transition as it is counted, or the pair of it and the previous one."""
        assert self.before is not None
        return (self.before.counted, self.counted) if self.search.is_for_pairs else self.counted

    @property
    def key(self) -> Hashable:
        """The state of the search at this node. From nodes with equal keys, the same places can be reached."""
        context = self.context
        event = self.transition.event if self.transition is not None else None
        pair = self.counted if self.search.is_for_pairs else None
        return self.place, event, context.key, context.epoch_length, self.position, self.called_at is None, pair

    def scenario(self) -> Scenario:
        """Return the run that takes the path."""
        nodes = self.nodes
        calls = [node.call for node in nodes if node.call is not None]
        if any(("skipped", self.search.loop.name, True) in node.answers for node in nodes):
            calls = [attrs.evolve(call, value=True) if call.what == "terminate_epoch" else call for call in calls]
        answers = [answer for node in nodes for answer in node.answers]
        loop = _scripted(self.search.loop, answers)
        return Scenario(
            loop, self.search.data, self.search.limits, tuple(calls), resumes=1, expected=tuple(self.events)
        )


_Answers = dict[tuple[str, str], bool]
"""The answers of conditions, by question and state."""


class _Unknown(Exception):  # noqa: N818
    """Raised to leave a guard as soon as it needs an answer that has not been chosen."""


class _Search:
    """A breadth-first search of one machine, for one choice of data and limits."""

    def __init__(self, loop: Loop, data: Data | None, limits: dict[str, int], is_for_pairs: bool) -> None:
        self.loop, self.data, self.limits, self.is_for_pairs = loop, data, limits, is_for_pairs
        self.machine = LoopMachine(loop)
        self.steps = MachineCoverage.of(loop).steps
        self.custom_states = {event for custom in loop.custom_states for event in custom.events}

    def targets(self, known: Collection[Hashable]) -> dict[Hashable, _Node]:
        """Return the reachable targets that are not yet known, each with the last node of a shortest run through it."""
        found: dict[Hashable, _Node] = {}
        for node in self._generated():
            if node.target in found or node.target in known:
                continue
            end = self._end_from(node)
            if end is not None:
                found[node.target] = end
        return found

    def _end_from(self, node: _Node) -> _Node | None:
        """Return the last node of the shortest completion of a run from this node, or None if there is none."""
        while node.place not in ENDS - {TERMINATED}:
            following = list(self._next(node, with_calls=False))
            if not following:  # a custom state is active, and only a function of the user can leave it
                return None
            # an answer True means another pass: take as few of them as possible
            node = min(following, key=lambda each: sum(answer for *_, answer in each.answers))
        return node

    def _context(self) -> Context:
        """Return the context of the engine at the start of the run."""
        root, limits = self.loop, self.limits
        is_open = "max_iters" in limits or root.until is not None or root.over is not None
        epochs = limits.get("max_epochs", root.times or (None if is_open else 1))
        if root.times is not None and epochs is not None:
            epochs = min(epochs, root.times)
        has_length = self.data is not None and self.data.kind == "list"
        length = limits.get("epoch_length", self.data.n if has_length and self.data is not None else None)
        return Context(epochs, limits.get("max_iters"), length, self.data is not None)

    def _generated(self) -> Iterator[_Node]:
        """Yield a node for every transition found, the nearest first. Of nodes with equal keys, one is continued."""
        start = _Node(self, READY, self._context())
        nodes = breadth_first(
            start,
            lambda node: self._next(node, with_calls=True),
            key=lambda node: node.key,
            limit=MOST * len(self.machine.table),
        )
        return islice(nodes, 1, None)

    def _next(self, node: _Node, with_calls: bool) -> Iterator[_Node]:
        """Yield the nodes after a node: transitions of the loop, and with calls also those of calls and faults."""
        if with_calls and node.called_at is not None and node.length >= node.called_at + AFTER_CALL:
            return
        transitions = list(self.machine.table[node.place].values())
        own = [
            transition
            for transition in transitions
            if transition.event not in CALLS and transition.event not in self.custom_states
        ]
        found = [following for transition in own for following in self._take(node, transition, None)]
        yield from found
        if not found and node.place not in ENDS and self._has_reached_max_iters(node.context):
            yield from self._take(node, self.machine.table[node.place]["terminate"], None)
        last = node.transition.event if node.transition is not None else ""
        if not with_calls or last in ("", "interrupt", "exception_raised"):
            return
        n = Counter(node.events)[last]
        for transition in transitions:
            if transition.event in self.custom_states:
                yield from self._take(node, transition, Call(last, n, "fire_event", transition.event))
            elif transition.event in CALLS and node.called_at is None and self._can_call(transition, last):
                yield from self._take(node, transition, Call(last, n, *CALLS[transition.event]))

    def _has_reached_max_iters(self, context: Context) -> bool:
        """Return whether max_iters is reached inside an epoch. The run is terminated then."""
        data_loop, most = self.loop.data_loop, context.max_iters
        if data_loop is None or most is None or context.entered:
            return False
        return context.counts.get(data_loop.name, 0) >= most

    def _can_call(self, transition: Transition, last: str) -> bool:
        """Return whether the call of a transition has an effect in a handler of the last event."""
        if transition.event == "iteration_skipped":
            return self.loop.data_loop is not None and last == self.loop.data_loop.started
        if transition.event == "terminate_single_epoch":
            return last not in ("started", "terminate_single_epoch", self.loop.completed)
        return True

    def _take(self, node: _Node, transition: Transition, call: Call | None) -> Iterator[_Node]:
        """Yield the nodes that a transition leads to: one for each set of answers that allows it."""
        for answers in self._allowing_answers(node, transition, {}):
            context = node.context.copy()
            transition.apply(context)
            counted, _ = self.steps[transition.source, transition.event]
            is_control = call is not None and call.what != "fire_event"
            called_at = node.length + 1 if is_control else node.called_at
            position = node.position + (transition.event == "get_batch_completed")
            if transition.event in ("dataloader_stop_iteration", "terminate_single_epoch"):
                position = 0
            chosen = tuple((*question, answer) for question, answer in answers.items())
            yield _Node(
                self,
                transition.dest,
                context,
                position,
                node,
                transition,
                chosen,
                call,
                counted,
                node.length + 1,
                called_at,
            )

    def _allowing_answers(self, node: _Node, transition: Transition, chosen: _Answers) -> Iterator[_Answers]:
        """Yield the sets of answers with which no guard denies a transition.

        Args:
            node: the node before the transition.
            transition: the transition.
            chosen: the answers chosen so far.
        """
        missing: list[tuple[str, str]] = []

        def ask(question: str, item: Any) -> bool:
            if question == "batch":
                return self.data is not None and node.position < self.data.n
            if (question, item.name) not in chosen:
                missing.append((question, item.name))
                raise _Unknown
            return chosen[question, item.name]

        node.context.ask = ask
        try:
            if transition.denied_by(node.context) is None:
                yield chosen
        except _Unknown:
            for answer in (True, False):
                yield from self._allowing_answers(node, transition, chosen | {missing[0]: answer})


def _scripted(item: Any, answers: list[tuple[str, str, bool]]) -> Any:
    """Return a state with scripted conditions that give these answers."""
    given = [answer for question, name, answer in answers if name == item.name and question != "skipped"]
    if isinstance(item, Phase) and item.when is not None and not isinstance(item.when, Every):
        events = {"started": item.started, "completed": item.completed}
        return Phase(item.name, item.run, Scripted(*(given or [False])), **events)
    if not isinstance(item, Loop):
        return item
    made = item.evolve(body=tuple(_scripted(child, answers) for child in item.body))
    if made.until is not None:
        return made.evolve(until=Scripted(*([not answer for answer in given] or [True])))
    if made.passes == "over":
        return made.evolve(over=ScriptedRange(*_lengths(given)))
    return made


def _lengths(answers: list[bool]) -> list[int]:
    """Return the number of elements at each entry of a loop, from the answers to "is there another element?"."""
    lengths, count = [], 0
    for answer in answers:
        count += answer
        if not answer:
            lengths.append(count)
            count = 0
    return [*lengths, count] if count or not lengths else lengths
