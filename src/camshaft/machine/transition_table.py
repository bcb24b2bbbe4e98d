"""The transitions of a loop: which event leads from which place to which, under which conditions.

A *place* is where the loop stands after an event, written as the path to it: ``EPOCH/ITERATION/BACKWARD`` inside a
state, ``EPOCH/ITERATION/after BACKWARD`` when it was left. Counters, limits and the free states that are entered make
up the *context* (the extended state of a statechart): guards read it and transitions change it.

This module knows nothing of the generated source. Both are derived from the loop separately, so that comparing them
means something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import attrs

from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, RUN, CustomState, EventPoint, Every, LoopItem, OpaqueStep, Path, Phase
from camshaft.loop.text import condition
from camshaft.machine.context import Context, Effect, Guard, function

__all__ = ["COMPLETED", "ENDS", "FAILED", "READY", "TERMINATED", "Transition", "TransitionTable", "place_of", "when"]

READY, STARTED, COMPLETED, TERMINATED, FAILED = "READY", "STARTED", "COMPLETED", "TERMINATED", "FAILED"
ENDS = {COMPLETED, TERMINATED, FAILED}


def place_of(path: Path, left: bool = False) -> str:
    """The name of the place inside the state at ``path``, or after it when it was ``left``."""
    return "/".join((*path[:-1], f"after {path[-1]}") if left else path)


@attrs.frozen(eq=False, slots=False)
class Transition:
    """A transition: at ``source``, ``event`` leads to ``dest`` if no guard denies it.

    ``guards_and_steps`` holds the guards in the order in which a run meets them, and between them the opaque steps that
    run on the way. ``guards`` has the conditions alone.
    """

    source: str
    event: str
    dest: str
    guards_and_steps: tuple[Guard | OpaqueStep, ...] = ()
    effects: tuple[Effect, ...] = ()
    is_control: bool = False
    guards: tuple[Guard, ...] = attrs.field(init=False)

    @guards.default
    def _conditions(self) -> tuple[Guard, ...]:
        return tuple(stage for stage in self.guards_and_steps if isinstance(stage, Guard))

    def denied_by(self, context: Context) -> Guard | None:
        """The first guard that does not hold, or None."""
        for guard in self.guards:
            if guard.test(context) is False:
                return guard
        return None

    @cached_property
    def apply(self) -> Callable[[Context], None]:
        """Does to a context what taking this transition does."""
        return function(self.effects or ["pass"])


Candidate = tuple[str, str, tuple[Any, ...], tuple[Effect, ...]]
"""An event that may come next: (event, dest, stages, effects)."""


class TransitionTable:
    """Builds the rows of a loop, from the end of each body to its start."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.transitions: list[Transition] = []
        self.paths: dict[str, Path] = {READY: (), STARTED: (), COMPLETED: (), TERMINATED: (), FAILED: ()}
        self.items: dict[str, LoopItem] = {}
        self.data_loop = loop.data_loop
        self._boundary()
        self.paths = {place: self.paths[place] for place in self._in_order()}

    # -- the loops ---------------------------------------------------------------------------------------------------

    def _boundary(self) -> None:
        loop = self.loop
        completed: Candidate = ("completed", COMPLETED, (), ())
        candidates = self._loop(loop, (loop.name,), [completed])
        self._add(READY, [("started", STARTED, (), (_reset(loop.name),))])
        self._add(STARTED, candidates)
        self._add(TERMINATED, [("completed", COMPLETED, (), ())])
        root = loop.name
        inside = {
            place for place, path in self.paths.items() if path[:1] == (root,) and place != place_of((root,), left=True)
        }
        inside = set() if loop.over is DATA else inside
        ended = place_of((root, "TERMINATED"))
        if inside:
            self.paths[ended] = (root,)
            skipped = Guard("skip_epoch_completed", _ask("skipped", loop), {loop.name: loop})
            completes: Candidate = (
                loop.completed,
                place_of((root,), left=True),
                (skipped.negated("not skip_epoch_completed"),),
                (),
            )
            self._add(ended, [completes, *_guarded(skipped, candidates)])
        self._custom_states([place for place in self.paths if place not in ENDS and place != READY])
        for custom in (custom for custom in loop.custom_states if custom.within == RUN):
            for end in (COMPLETED, TERMINATED, FAILED):  # its handlers are still part of the run
                self._custom_transitions(custom, end, end, end)
        inside = {place for place in self.paths if place.partition("/")[0] == root} if inside else inside
        clear_inner = _clear(custom.name for custom in loop.custom_states if custom.within != RUN)
        clear_all = _clear(custom.name for custom in loop.custom_states)
        for place in [*self.paths]:
            if place in (READY, FAILED):
                continue
            if place not in ENDS:
                self._control(place, "terminate", TERMINATED, *clear_all)
                self._control(place, "interrupt", place)
            if place in inside and place != ended and not place.startswith(f"{ended}/"):
                self._control(place, "terminate_single_epoch", ended, *clear_inner)
            self._control(place, "exception_raised", FAILED)

    def _loop(self, loop: Loop, path: Path, rest: list[Candidate]) -> list[Candidate]:
        """The ways into a loop, and past it when its passes are done; writes the rows inside it."""
        self._enter(loop, path)
        after = place_of(path, left=True)
        self.paths[after] = path
        children = [item.name for item in loop.body if isinstance(item, Loop)]
        count = (*_count(loop.name), *map(_reset, children), *self._reset_orders(loop.name))
        candidates: list[Candidate]
        if loop.over is DATA:
            candidates = self._data_loop(loop, path, rest, count)
        else:
            more, done = self.pass_guards(loop)
            candidates = [(loop.started, place_of(path), more, count), *_guarded(done, rest)]
        self._add(after, candidates)
        ends: Candidate = (loop.completed, after, (self.all_left_guard(loop.name),), ())
        self._add(place_of(path), self._body(loop, path, [ends]))
        if loop.over is DATA:
            self._add(
                place_of(path), [("iteration_skipped", after, (self.all_left_guard(loop.name),), ())], is_control=True
            )
        return candidates

    def _body(self, loop: Loop, path: Path, candidates: list[Candidate]) -> list[Candidate]:
        for item in reversed(loop.body):
            inner = (*path, item.name)
            if isinstance(item, OpaqueStep):
                candidates = [
                    (event, dest, (item, *guards_and_steps), effects)
                    for event, dest, guards_and_steps, effects in candidates
                ]
            elif isinstance(item, EventPoint):
                self._enter(item, inner)
                self._add(place_of(inner), candidates)
                candidates = [(item.event, place_of(inner), (), ())]
            elif isinstance(item, Phase):
                candidates = self._phase(item, inner, loop.name, candidates)
            elif isinstance(item, Loop):
                candidates = self._loop(item, inner, candidates)
        return candidates

    def _phase(self, phase: Phase, path: Path, around: str, rest: list[Candidate]) -> list[Candidate]:
        self._enter(phase, path)
        after = place_of(path, left=True)
        self.paths[after] = path
        self._add(place_of(path), [(phase.completed, after, (self.all_left_guard(phase.name),), ())])
        self._add(after, rest)
        holds = when(phase, around) if phase.when is not None else None
        guards = (holds,) if holds is not None else ()
        enter: Candidate = (phase.started, place_of(path), guards, self._reset_orders(phase.name))
        return [enter, *(_guarded(holds.negated(f"not {holds.text}"), rest) if holds is not None else [])]

    def _reset_orders(self, scope: str) -> tuple[Effect, ...]:
        """What begins the declared orders of a scope anew."""
        orders = dict.fromkeys(
            custom.order for custom in self.loop.custom_states if custom.within == scope and custom.order
        )
        return tuple(f"context.order_positions[{order!r}] = 0" for order in orders)

    def _data_loop(self, loop: Loop, path: Path, rest: list[Candidate], count: tuple[Effect, ...]) -> list[Candidate]:
        fetching, restarting = (*path[:-1], "GET_BATCH"), (*path[:-1], "GET_BATCH", "RESTART")
        fetched = place_of(fetching, left=True)
        self.paths |= {place_of(fetching): fetching, place_of(restarting): fetching, fetched: fetching}
        self.items[place_of(fetching)] = self.items[place_of(restarting)] = loop
        counter = loop.name.lower()
        more, done = self.pass_guards(loop)
        has_data = Guard("data", "context.has_data", is_settled=True)
        no_data = has_data.negated("no data")
        known = Guard("epoch_length known", "context.epoch_length is not None")
        some = Guard(f"{counter} > 0", _unless_none(_passes(loop), "passes > 0"))
        # a loop that camshaft does not run may look for a batch when the epoch has had its share
        is_full = f"(context.has_data is None and {more[0].holds} is False)"
        fetches = Guard(more[0].text, f"(None if context.has_data is None else {more[0].holds})")
        unknown = Guard("epoch_length unknown", f"(context.epoch_length is None or {is_full})")
        got = Guard("batch", f"(False if {is_full} else {_ask('batch', loop)})", {loop.name: loop}, is_settled=True)
        ran_out = got.negated("data ran out")
        enter: Candidate = (loop.started, place_of(path), (), count)
        completes: Candidate = ("get_batch_completed", fetched, (got,), ())
        learned = _guarded(some, _guarded(unknown, rest))
        learned = [
            (event, dest, guards_and_steps, (_learn_length(loop), *effects))
            for event, dest, guards_and_steps, effects in learned
        ]
        restarts: Candidate = ("dataloader_stop_iteration", place_of(restarting), (ran_out, known), ())
        self._add(place_of(fetching), [completes, restarts, *_guarded(ran_out, learned)])
        self._add(place_of(restarting), [completes])
        self._add(fetched, [enter])
        return [
            ("get_batch_started", place_of(fetching), (has_data, fetches, *more[1:]), ()),
            (loop.started, place_of(path), (no_data, *more), count),
            *_guarded(done, rest),
        ]

    # -- guards ------------------------------------------------------------------------------------------------------

    def pass_guards(self, loop: Loop) -> tuple[tuple[Guard, ...], Guard]:
        """What must hold for another pass of a loop of this table, and what is so when its passes are done."""
        return self._batches(loop) if loop.over is DATA else self._rounds(loop)

    def _rounds(self, loop: Loop) -> tuple[tuple[Guard, ...], Guard]:
        name, counter = loop.name, loop.name.lower()
        data, is_root = self.data_loop, loop is self.loop

        def within(context: Context) -> bool:
            if not is_root or name in context.resumed:
                return True
            if context.max_iters is not None:
                return data is None or context.counts.get(data.name, 0) < context.max_iters
            return context.max_epochs is None or context.counts.get(name, 0) < context.max_epochs

        def more(context: Context) -> bool | None:
            passes = context.passes.get(name)
            has_end = not is_root or loop.passes or context.max_epochs is not None or context.max_iters is not None
            goes_on: bool | None = True if has_end else None
            if loop.until is not None and passes != 0:  # asked after each pass, whatever the limits say
                goes_on = context.ask("more", loop)
            if not within(context):
                return False
            if loop.times is not None:
                return None if passes is None else passes < loop.times
            return context.ask("more", loop) if loop.over is not None else goes_on

        bound = loop.times if loop.times is not None else "max_epochs" if is_root and not loop.passes else None
        goes_on, is_done = (f"{counter} < {bound}", f"{counter} == {bound}") if bound is not None else _ends(loop)
        guard = Guard(goes_on, f"more_{counter}(context)", {f"more_{counter}": more})
        return (guard,), guard.negated(is_done)

    def _batches(self, loop: Loop) -> tuple[tuple[Guard, ...], Guard]:
        name, counter = loop.name, loop.name.lower()

        unknown = "(True if context.has_data else None)"  # with data, the next fetch tells
        short = _unless_none(_passes(loop), "passes < context.epoch_length")
        more = Guard(f"{counter} < epoch_length", f"({unknown} if context.epoch_length is None else {short})")
        within = f"(context.max_iters is None or {_count_of(name)} < context.max_iters)"
        return (more, Guard(f"{counter} < max_iters", within)), more.negated(f"{counter} == epoch_length")

    def all_left_guard(self, scope: str) -> Guard:
        """No free state of the scope is entered."""
        pairs = {custom.name for custom in self.loop.custom_states if custom.within == scope and custom.is_pair}
        return Guard(f"not in {' or '.join(sorted(pairs))}" if pairs else "", _none_entered(pairs))

    # -- free states and rows ----------------------------------------------------------------------------------------

    def _custom_states(self, places: list[str]) -> None:
        """From every place of its scope a free state can be entered; what may follow there may follow in it too."""
        if not self.loop.custom_states:
            return
        by_source: dict[str, list[Transition]] = {}
        for transition in self.transitions:
            by_source.setdefault(transition.source, []).append(transition)
        for place in places:
            customs = [custom for custom in self.loop.custom_states if self._is_within(place, custom.within)]
            inner = {custom.name: f"{place}/{custom.name}" for custom in customs}
            self.paths |= {name: (*self.paths[place], custom) for custom, name in inner.items()}
            for source in (place, *inner.values()):
                for custom in customs:
                    self._custom_transitions(custom, source, place, inner[custom.name])
                if source != place:
                    self.transitions += [
                        attrs.evolve(transition, source=source) for transition in by_source.get(place, ())
                    ]

    def _is_within(self, place: str, scope: str) -> bool:
        if scope == RUN:
            return True
        path = self.paths[place]
        return scope in path and not (path[-1] == scope and place == place_of(path, left=True))

    def _custom_transitions(self, custom: CustomState, source: str, host: str, inner: str) -> None:
        outside = Guard(f"not in {custom.name}", _none_entered({custom.name}))
        inside = outside.negated(f"in {custom.name}")
        for event in custom.events:
            guards_and_steps: tuple[Guard, ...] = ()
            effects: tuple[Effect, ...] = ()
            if custom.order:
                rank = custom.order.index(event)
                passed = custom.order[:rank]
                before = {
                    other.name for other in self.loop.custom_states if other.is_pair and other.completed in passed
                }
                guards_and_steps = (
                    Guard("declared order", _not_passed(custom.order, rank)),
                    Guard("declared order", _none_entered(before)),
                )
                effects = (f"context.order_positions[{custom.order!r}] = {rank + 1}",)
            if custom.is_pair:
                enters = event == custom.started
                guards_and_steps += (outside if enters else inside,)
                effects += (f"context.entered.{'add' if enters else 'discard'}({custom.name!r})",)
            dest = host if custom.is_pair and event == custom.completed else inner
            self.transitions.append(Transition(source, event, dest, guards_and_steps, effects))

    def _in_order(self) -> Iterator[str]:
        """All places, as a run comes by them."""
        names = [custom.name for custom in self.loop.custom_states]
        yield from (READY, STARTED)
        for place in self._in_order_of(self.loop, ()):
            if place in self.paths:
                yield place
                yield from (f"{place}/{name}" for name in names if f"{place}/{name}" in self.paths)
        yield from (f"{STARTED}/{name}" for name in names if f"{STARTED}/{name}" in self.paths)
        yield from (COMPLETED, TERMINATED, FAILED)

    def _in_order_of(self, item: LoopItem, around: Path) -> Iterator[str]:
        path = (*around, item.name)
        if isinstance(item, Loop) and item.over is DATA:
            fetching = (*around, "GET_BATCH")
            yield from (place_of(fetching), place_of((*fetching, "RESTART")), place_of(fetching, left=True))
        yield place_of(path)
        for child in item.body if isinstance(item, Loop) else ():
            yield from self._in_order_of(child, path)
        yield place_of(path, left=True)
        if not around:
            yield place_of((*path, "TERMINATED"))

    def _enter(self, item: LoopItem, path: Path) -> None:
        self.paths[place_of(path)] = path
        self.items[place_of(path)] = item

    def _add(self, source: str, candidates: list[Candidate], is_control: bool = False) -> None:
        for event, dest, guards_and_steps, effects in candidates:
            kept = tuple(stage for stage in guards_and_steps if isinstance(stage, OpaqueStep) or stage.text)
            self.transitions.append(Transition(source, event, dest, kept, effects, is_control))

    def _control(self, source: str, event: str, dest: str, *effects: Effect) -> None:
        self.transitions.append(Transition(source, event, dest, (), effects, is_control=True))


def _guarded(guard: Guard, candidates: list[Candidate]) -> list[Candidate]:
    return [(event, dest, (guard, *guards_and_steps), effects) for event, dest, guards_and_steps, effects in candidates]


def _ends(loop: Loop) -> tuple[str, str]:
    """In words, that an inner loop goes on, and that it is done."""
    if loop.until is None:
        return "another element", "no element left"
    words = condition(loop).removeprefix("until ")
    return f"not {words}", words


def when(phase: Phase, around: str) -> Guard:
    """The condition of a phase in the loop named ``around``."""
    if isinstance(phase.when, Every):
        n = phase.when.n
        return Guard(f"{around.lower()} % {n} == 0", f"({_count_of(around)} % {n} == 0)")
    text = condition(phase).removeprefix("when ")
    return Guard(text, _ask("when", phase), {phase.name: phase}, is_settled=True)


# -- the text of conditions and effects -------------------------------------------------------------------------------


def _ask(question: str, item: LoopItem) -> str:
    return f"context.ask({question!r}, {item.name})"


def _count_of(name: str) -> str:
    return f"context.counts.get({name!r}, 0)"


def _passes(loop: Loop) -> str:
    return f"context.passes.get({loop.name!r})"


def _unless_none(passes: str, test: str) -> str:
    return f"(None if (passes := {passes}) is None else {test})"


def _none_entered(names: Iterable[str]) -> str:
    return f"(context.entered.isdisjoint({tuple(sorted(names))!r}) if context.knows_entered else None)"


def _not_passed(order: tuple[str, ...], rank: int) -> str:
    return f"(context.order_positions.get({order!r}, 0) <= {rank} if context.knows_entered else None)"


def _count(name: str) -> list[Effect]:
    return [
        f"if context.resumed and {name!r} in context.resumed: context.resumed.remove({name!r})",
        f"else: context.counts[{name!r}] = {_count_of(name)} + 1",
        f"passes = context.passes.get({name!r})",
        f"if passes is not None: context.passes[{name!r}] = passes + 1",
    ]


def _reset(name: str) -> Effect:
    return f"context.passes[{name!r}] = context.position.pop({name!r}, 0)"


def _clear(names: Iterable[str]) -> list[Effect]:
    gone = tuple(sorted(names))
    return [f"context.entered.difference_update({gone!r})"] if gone else []


def _learn_length(loop: Loop) -> Effect:
    return f"if context.epoch_length is None: context.epoch_length = {_passes(loop)}"
