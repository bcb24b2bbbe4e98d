"""Paths: the shortest runs that cover a machine. They are found by searching it; what plays them is the engine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Literal

import attrs

from camshaft import control
from camshaft.loop.loop import Loop
from camshaft.loop.states import Every, Phase
from camshaft.machine.context import Context
from camshaft.machine.machine import LoopMachine
from camshaft.machine.search import breadth_first
from camshaft.machine.transition_table import ENDS, READY, TERMINATED, Transition
from camshaft.testing.coverage import MachineCoverage
from camshaft.testing.faults import PlantedError
from camshaft.testing.scenario import Call, Data, Scenario, Scripted, ScriptedRange

__all__ = ["transition_paths"]

MOST = 30
"""How many contexts are searched for each place of the machine, for each choice of data and limits."""

AFTER_CALL = 3
"""How many transitions a control call or a fault can change: what comes later is reached without it."""

CALLS: dict[str, tuple[str, Any]] = {
    **{key: (made.call, False if made.option else None) for key, made in control.CALLS.items()},
    "exception_raised": ("raise", PlantedError),
}
"""What to do for the events that control calls and faults bring."""


def transition_paths(loop: Loop, cover: Literal["transitions", "pairs"] = "transitions") -> list[Scenario]:
    """Short runs that together take every transition of a loop's machine, or every pair of transitions in a row.

    For ``pytest.mark.parametrize("path", transition_paths(loop), ids=str)``: ``path.play(make)`` runs it, and
    ``path.expected`` has the events that it was made to fire, without those that a function of the loop fires by
    hand. A transition counts as in ``--event-coverage``: each of the loop itself once, the event of a free state
    once, and what a control call or a fault brings once, wherever it happens; as pairs, once after each transition.
    Conditions of the loop (``when=``, ``until=``, ``over=``) are replaced by ones that give the answers which the
    path needs; its other functions run as they are.

    What cannot be reached within two epochs, or the smallest common multiple of all ``every(n)``, is left out.

    The runs are the shortest to each transition by breadth-first search; of these a greedy set cover is kept
    (Chvatal, 1979, "A greedy heuristic for the set-covering problem").

    Args:
        loop: the loop.
        cover: ``"transitions"`` or ``"pairs"``.

    Raises:
        ValueError: ``cover`` is neither.
    """
    if cover not in ("transitions", "pairs"):
        raise ValueError(f"cover={cover!r}: give 'transitions' or 'pairs'")
    found: dict[Any, _Node] = {}
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
    """Data and limits to try, smaller ones first."""
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
    """How many passes of a loop it takes until every condition in it has held."""
    conditions = [
        item.when.n
        for path, item in loop.walk()
        if isinstance(item, Phase) and isinstance(item.when, Every) and path[-2] == around
    ]
    return min(math.lcm(1, *conditions), 12)


@attrs.define(eq=False)
class _Node:
    """A place that the search reached, and the transition by which it did.

    Attributes:
        search: the search.
        place, context: where it stands.
        position: how many batches the data has given since it was opened.
        before: the node before; None at the start.
        row: the transition that led here.
        answers: what the conditions on the way had to answer, in order: (question, state, answer).
        call: the control call, fault or event by hand that brought it.
        counted: as what the transition counts.
    """

    search: _Search
    place: str
    context: Context
    position: int = 0
    before: _Node | None = None
    transition: Transition | None = None
    answers: tuple[tuple[str, str, bool], ...] = ()
    call: Call | None = None
    counted: Any = None
    length: int = 0
    called_at: int | None = None

    @property
    def nodes(self) -> list[_Node]:
        """The way here, without the start."""
        path, node = [], self
        while node.before is not None:
            path.append(node)
            node = node.before
        return path[::-1]

    @property
    def events(self) -> list[str]:
        """What fires on the way here."""
        return [node.transition.event for node in self.nodes if node.transition is not None]

    @property
    def covered(self) -> set[Any]:
        """The targets that lie on the way here."""
        return {node.target for node in self.nodes}

    @property
    def target(self) -> Any:
        """What the search looks for: a transition, or a pair of them."""
        assert self.before is not None
        return (self.before.counted, self.counted) if self.search.is_for_pairs else self.counted

    @property
    def key(self) -> Any:
        """Nodes of the same key lead to the same places."""
        context = self.context
        event = self.transition.event if self.transition is not None else None
        pair = self.counted if self.search.is_for_pairs else None
        return self.place, event, context.key, context.epoch_length, self.position, self.called_at is None, pair

    def scenario(self) -> Scenario:
        """The run that goes this way."""
        nodes = self.nodes
        calls = [node.call for node in nodes if node.call is not None]
        if any(("skipped", self.search.loop.name, True) in node.answers for node in nodes):
            calls = [attrs.evolve(call, value=True) if call.what == "terminate_epoch" else call for call in calls]
        answers = [answer for node in nodes for answer in node.answers]
        loop = _scripted(self.search.loop, answers)
        return Scenario(
            loop, self.search.data, self.search.limits, tuple(calls), resumes=1, expected=tuple(self.events)
        )


_Chosen = dict[tuple[str, str], bool]
"""Answers, by question and state."""


class _Unknown(Exception):  # noqa: N818
    """A condition whose answer has to be chosen."""


class _Search:
    """A breadth-first search of one machine, for one choice of data and limits."""

    def __init__(self, loop: Loop, data: Data | None, limits: dict[str, int], is_for_pairs: bool) -> None:
        self.loop, self.data, self.limits, self.is_for_pairs = loop, data, limits, is_for_pairs
        self.machine = LoopMachine(loop)
        self.steps = MachineCoverage.of(loop).steps
        self.custom_states = {event for custom in loop.custom_states for event in custom.events}

    def targets(self, known: Collection[Any]) -> dict[Any, _Node]:
        """Each new target that can be reached, with the end of a shortest run through it."""
        found: dict[Any, _Node] = {}
        for node in self._generated():
            if node.target in found or node.target in known:
                continue
            end = self._end_from(node)
            if end is not None:
                found[node.target] = end
        return found

    def _end_from(self, node: _Node) -> _Node | None:
        """Where the run ends if it goes on from here with every condition that is asked as short as can be."""
        while node.place not in ENDS - {TERMINATED}:
            following = list(self._next(node, with_calls=False))
            if not following:  # a free state was entered that has to be left by hand
                return None
            node = min(following, key=lambda one: sum(answer for *_, answer in one.answers))
        return node

    def _context(self) -> Context:
        """What the engine starts with."""
        root, limits = self.loop, self.limits
        is_open = "max_iters" in limits or root.until is not None or root.over is not None
        epochs = limits.get("max_epochs", root.times or (None if is_open else 1))
        if root.times is not None and epochs is not None:
            epochs = min(epochs, root.times)
        has_length = self.data is not None and self.data.kind == "list"
        length = limits.get("epoch_length", self.data.n if has_length and self.data is not None else None)
        return Context(epochs, limits.get("max_iters"), length, self.data is not None)

    def _generated(self) -> Iterator[_Node]:
        """Every transition that is found, the nearest first; of those that lead to the same, one is gone on from."""
        start = _Node(self, READY, self._context())
        nodes = breadth_first(
            start,
            lambda node: self._next(node, with_calls=True),
            key=lambda node: node.key,
            limit=MOST * len(self.machine.table),
        )
        return islice(nodes, 1, None)

    def _next(self, node: _Node, with_calls: bool) -> Iterator[_Node]:
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
        if not found and node.place not in ENDS and self._has_had_its_share(node.context):
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

    def _has_had_its_share(self, context: Context) -> bool:
        """Whether max_iters is reached inside an epoch, which terminates the run."""
        data_loop, most = self.loop.data_loop, context.max_iters
        if data_loop is None or most is None or context.entered:
            return False
        return context.counts.get(data_loop.name, 0) >= most

    def _can_call(self, transition: Transition, last: str) -> bool:
        """Whether the call, made in a handler of the last event, has effect there."""
        if transition.event == "iteration_skipped":
            return self.loop.data_loop is not None and last == self.loop.data_loop.started
        if transition.event == "terminate_single_epoch":
            return last not in ("started", "terminate_single_epoch", self.loop.completed)
        return True

    def _take(self, node: _Node, transition: Transition, call: Call | None) -> Iterator[_Node]:
        """The nodes to which a transition leads: one for each way in which its conditions may let it through."""
        for answers in self._ways(node, transition, {}):
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

    def _ways(
        self, node: _Node, transition: Transition, chosen: dict[tuple[str, str], bool]
    ) -> Iterator[dict[tuple[str, str], bool]]:
        """The answers with which no guard denies a transition."""
        asked: list[tuple[str, str]] = []

        def ask(question: str, item: Any) -> bool:
            if question == "batch":
                return self.data is not None and node.position < self.data.n
            if (question, item.name) not in chosen:
                asked.append((question, item.name))
                raise _Unknown
            return chosen[question, item.name]

        node.context.ask = ask
        try:
            if transition.denied_by(node.context) is None:
                yield chosen
        except _Unknown:
            for answer in (True, False):
                yield from self._ways(node, transition, chosen | {asked[0]: answer})


def _scripted(item: Any, answers: list[tuple[str, str, bool]]) -> Any:
    """The same state with conditions that give these answers."""
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
        return made.evolve(over=ScriptedRange(*_turns(given)))
    return made


def _turns(answers: list[bool]) -> list[int]:
    """How many elements there are in each turn, from the answers to "is there another one?"."""
    turns, count = [], 0
    for answer in answers:
        count += answer
        if not answer:
            turns.append(count)
            count = 0
    return [*turns, count] if count or not turns else turns
