"""The transitions between the places of a loop that its declaration gives, with their guards and effects.

A *place* is a state of the flat machine. It is named by the path to a state of the loop: ``EPOCH/ITERATION/BACKWARD``
while the run is inside BACKWARD, ``EPOCH/ITERATION/after BACKWARD`` when it has left it. The *context* is the extended
state of the statechart: limits, counters, and the custom states that are entered. Guards read it, effects change it.

They are found without looking at the generated source. Tests compare the two, and a comparison means something only
between independent results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, EventPoint, Every, LoopItem, OpaqueStep, Path, Phase
from camshaft.loop.text import condition, passes_text
from camshaft.machine.context import Context, Effect, Guard
from camshaft.machine.expressions import (
    ask,
    count_of,
    count_pass,
    learn_length,
    none_entered,
    passes_of,
    reset_passes,
    unless_none,
)
from camshaft.machine.transition import COMPLETED, FAILED, READY, STARTED, TERMINATED, Transition, place_of

__all__ = ["DeclaredTransitions", "when"]


class Candidate(NamedTuple):
    """A transition whose source is still open. The fields are those of :class:`Transition`."""

    event: str
    dest: str
    guards_and_steps: tuple[Guard | OpaqueStep, ...] = ()
    effects: tuple[Effect, ...] = ()


class DeclaredTransitions:
    """The builder of all places and transitions of a loop.

    The states in a body are visited from the last to the first. When a state is visited, the candidates for the next
    event are already known. They become the transitions out of the place after the state. Entering the state is then
    the only candidate. If the state may be skipped (a phase with a condition, or a loop), entering it is an additional
    candidate: the later candidates remain, guarded by the condition for skipping it.

    Args:
        loop: the loop.

    Attributes:
        transitions: all transitions. Those of one source are in the order in which their guards are evaluated.
        paths: for each place, the names of the states around it, outermost first.
        items: for each place inside a declared state, that state.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.transitions: list[Transition] = []
        self.paths: dict[str, Path] = {READY: (), STARTED: (), COMPLETED: (), TERMINATED: (), FAILED: ()}
        self.items: dict[str, LoopItem] = {}
        self.data_loop = loop.data_loop
        self.terminated_pass: str | None = None
        self._run()
        self.paths = {place: self.paths[place] for place in self._in_order()}

    # -- states ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Add the whole run: from READY through the outermost loop to its ends."""
        loop, root = self.loop, (self.loop.name,)
        after_loop = place_of(root, left=True)
        completed = Candidate("completed", COMPLETED)
        candidates = self._loop(loop, root, [completed])
        self._add(READY, [Candidate("started", STARTED, (), (reset_passes(loop.name),))])
        self._add(STARTED, candidates)
        self._add(TERMINATED, [completed])
        terminated_pass = place_of((loop.name, "TERMINATED"))
        # terminate_epoch() ends a pass of the outermost loop, unless this loop takes the data: it then has no epochs
        if loop.over is not DATA:
            self.terminated_pass = terminated_pass
            self.paths[terminated_pass] = root
            skipped = Guard("skip_epoch_completed", ask("skipped", loop), {loop.name: loop})
            completes = Candidate(loop.completed, after_loop, (skipped.negated("not skip_epoch_completed"),))
            self._add(terminated_pass, [completes, *_guarded(skipped, candidates)])

    def _loop(self, loop: Loop, path: Path, after: list[Candidate]) -> list[Candidate]:
        """Add a loop and everything inside it.

        Args:
            loop: the loop.
            path: the path to it.
            after: the candidates when its passes are done.

        Returns:
            The candidates before the loop: those of its first pass, and those of ``after`` for a loop without a pass.
        """
        self._enter(loop, path)
        after_pass = place_of(path, left=True)
        self.paths[after_pass] = path
        inner_loops = [item.name for item in loop.body if isinstance(item, Loop)]
        begin_pass = (*count_pass(loop.name), *map(reset_passes, inner_loops), *self._reset_orders(loop.name))
        candidates: list[Candidate]
        if loop.over is DATA:
            candidates = self._data_loop(loop, path, after, begin_pass)
        else:
            another_pass, passes_done = self.pass_guards(loop)
            begin = Candidate(loop.started, place_of(path), another_pass, begin_pass)
            candidates = [begin, *_guarded(passes_done, after)]
        # the same decision is made before the first pass and after each pass
        self._add(after_pass, candidates)
        all_left = (self.all_left_guard(loop.name),)
        self._add(place_of(path), self._body(loop, path, [Candidate(loop.completed, after_pass, all_left)]))
        if loop.over is DATA:
            self._add(place_of(path), [Candidate("iteration_skipped", after_pass, all_left)], is_control=True)
        return candidates

    def _body(self, loop: Loop, path: Path, candidates: list[Candidate]) -> list[Candidate]:
        """Add the states in the body of a loop, the last one first.

        Args:
            loop: the loop.
            path: the path to it.
            candidates: the candidates after the last state.

        Returns:
            The candidates before the first state.
        """
        for item in reversed(loop.body):
            inner = (*path, item.name)
            if isinstance(item, OpaqueStep):
                # a step has no events and so no place of its own: it runs on the way to whatever event comes next
                candidates = [
                    candidate._replace(guards_and_steps=(item, *candidate.guards_and_steps)) for candidate in candidates
                ]
            elif isinstance(item, EventPoint):
                self._enter(item, inner)
                self._add(place_of(inner), candidates)
                candidates = [Candidate(item.event, place_of(inner))]
            elif isinstance(item, Phase):
                candidates = self._phase(item, inner, loop.name, candidates)
            elif isinstance(item, Loop):
                candidates = self._loop(item, inner, candidates)
        return candidates

    def _phase(self, phase: Phase, path: Path, enclosing_loop: str, after: list[Candidate]) -> list[Candidate]:
        """Add a phase. Return the candidates before it: its own, and those of ``after`` if it may be skipped."""
        self._enter(phase, path)
        after_phase = place_of(path, left=True)
        self.paths[after_phase] = path
        self._add(place_of(path), [Candidate(phase.completed, after_phase, (self.all_left_guard(phase.name),))])
        self._add(after_phase, after)
        reset_orders = self._reset_orders(phase.name)
        if phase.when is None:
            return [Candidate(phase.started, place_of(path), (), reset_orders)]
        condition_holds = when(phase, enclosing_loop)
        enter = Candidate(phase.started, place_of(path), (condition_holds,), reset_orders)
        return [enter, *_guarded(condition_holds.negated(f"not {condition_holds.text}"), after)]

    def _reset_orders(self, scope: str) -> tuple[Effect, ...]:
        """Return the effects that start the declared orders of a scope again."""
        orders = dict.fromkeys(
            custom.order for custom in self.loop.custom_states if custom.within == scope and custom.order
        )
        return tuple(f"context.order_positions[{order!r}] = 0" for order in orders)

    def _data_loop(
        self, loop: Loop, path: Path, after: list[Candidate], begin_pass: tuple[Effect, ...]
    ) -> list[Candidate]:
        """Add the places at which a batch is fetched. Return the candidates before the loop.

        The data may run out during a fetch. What follows depends on the length of the epoch. If it is known, the data
        is restarted and the same fetch continues. If it is unknown, the epoch ends and its length is now known.
        """
        fetching, restarting = (*path[:-1], "GET_BATCH"), (*path[:-1], "GET_BATCH", "RESTART")
        fetched = place_of(fetching, left=True)
        self.paths |= {place_of(fetching): fetching, place_of(restarting): fetching, fetched: fetching}
        self.items[place_of(fetching)] = self.items[place_of(restarting)] = loop
        another_pass, passes_done = self.pass_guards(loop)
        below_length, *other_limits = another_pass
        has_data = Guard("data", "context.has_data", is_settled=True)
        no_data = has_data.negated("no data")
        known = Guard("epoch_length known", "context.epoch_length is not None")
        not_first = Guard(f"{passes_text(self.loop, loop.name)} > 0", unless_none(passes_of(loop), "passes > 0"))
        # ``has_data`` is None for an engine of another library. Such an engine may try to fetch a batch even if the
        # epoch has all its batches. The fetch is then allowed, gets no batch, and the epoch ends.
        is_full = f"(context.has_data is None and {below_length.holds} is False)"
        may_fetch = Guard(below_length.text, f"(None if context.has_data is None else {below_length.holds})")
        unknown = Guard("epoch_length unknown", f"(context.epoch_length is None or {is_full})")
        got_batch = Guard(
            "batch", f"(False if {is_full} else {ask('batch', loop)})", {loop.name: loop}, is_settled=True
        )
        ran_out = got_batch.negated("data ran out")
        completes = Candidate("get_batch_completed", fetched, (got_batch,))
        restarts = Candidate("dataloader_stop_iteration", place_of(restarting), (ran_out, known))
        epoch_ends = [
            candidate._replace(effects=(learn_length(loop), *candidate.effects))
            for candidate in _guarded(not_first, _guarded(unknown, after))
        ]
        self._add(place_of(fetching), [completes, restarts, *_guarded(ran_out, epoch_ends)])
        self._add(place_of(restarting), [completes])
        self._add(fetched, [Candidate(loop.started, place_of(path), (), begin_pass)])
        return [
            Candidate("get_batch_started", place_of(fetching), (has_data, may_fetch, *other_limits)),
            Candidate(loop.started, place_of(path), (no_data, *another_pass), begin_pass),
            *_guarded(passes_done, after),
        ]

    # -- guards ------------------------------------------------------------------------------------------------------

    def pass_guards(self, loop: Loop) -> tuple[tuple[Guard, ...], Guard]:
        """Return the guards for another pass of a loop, and the guard for its end.

        Args:
            loop: the loop of this table, or a loop inside it.

        Returns:
            The guards for another pass, all of which must hold; and the single guard for the end of the loop.
        """
        return self._batch_guards(loop) if loop.over is DATA else self._round_guards(loop)

    def _round_guards(self, loop: Loop) -> tuple[tuple[Guard, ...], Guard]:
        name, counter = loop.name, loop.name.lower()
        data_loop, is_root = self.data_loop, loop is self.loop

        def is_within_limits(context: Context) -> bool:
            if not is_root or name in context.resumed:  # a pass that is resumed was within the limits when it began
                return True
            if context.max_iters is not None:
                return data_loop is None or context.counts.get(data_loop.name, 0) < context.max_iters
            return context.max_epochs is None or context.counts.get(name, 0) < context.max_epochs

        def has_another_pass(context: Context) -> bool | None:
            passes = context.passes.get(name)
            has_end = not is_root or loop.passes or context.max_epochs is not None or context.max_iters is not None
            answer: bool | None = True if has_end else None
            if loop.until is not None and passes != 0:
                # The run calls ``until`` after each pass even if a limit ends the loop. The question must therefore be
                # asked before the limits are checked, so that question and call stay in step.
                answer = context.ask("more", loop)
            if not is_within_limits(context):
                return False
            if loop.times is not None:
                return None if passes is None else passes < loop.times
            return context.ask("more", loop) if loop.over is not None else answer

        bound = loop.times if loop.times is not None else "max_epochs" if is_root and not loop.passes else None
        passes_done = passes_text(self.loop, name)
        another, done = (
            (f"{passes_done} < {bound}", f"{passes_done} == {bound}") if bound is not None else _pass_words(loop)
        )
        guard = Guard(another, f"more_{counter}(context)", {f"more_{counter}": has_another_pass})
        return (guard,), guard.negated(done)

    def _batch_guards(self, loop: Loop) -> tuple[tuple[Guard, ...], Guard]:
        name, counter = loop.name, loop.name.lower()
        passes_done = passes_text(self.loop, name)

        # while the length is unknown, every fetch is allowed: it finds out whether there is another batch
        if_unknown = "(True if context.has_data else None)"
        if_known = unless_none(passes_of(loop), "passes < context.epoch_length")
        below_length = Guard(
            f"{passes_done} < epoch_length", f"({if_unknown} if context.epoch_length is None else {if_known})"
        )
        below_limit = f"(context.max_iters is None or {count_of(name)} < context.max_iters)"
        return (
            (below_length, Guard(f"{counter} < max_iters", below_limit)),
            below_length.negated(f"{passes_done} == epoch_length"),
        )

    def all_left_guard(self, scope: str) -> Guard:
        """Return the guard "no custom state of this scope is entered", which the end of the scope needs."""
        pairs = {custom.name for custom in self.loop.custom_states if custom.within == scope and custom.is_pair}
        return Guard(f"not in {' or '.join(sorted(pairs))}" if pairs else "", none_entered(pairs))

    # -- places and transitions --------------------------------------------------------------------------------------

    def _in_order(self) -> Iterator[str]:
        """Yield all places in the order in which a run reaches them."""
        yield from (READY, STARTED)
        yield from (place for place in self._places_of(self.loop, ()) if place in self.paths)
        yield from (COMPLETED, TERMINATED, FAILED)

    def _places_of(self, item: LoopItem, parents: Path) -> Iterator[str]:
        path = (*parents, item.name)
        if isinstance(item, Loop) and item.over is DATA:
            fetching = (*parents, "GET_BATCH")
            yield from (place_of(fetching), place_of((*fetching, "RESTART")), place_of(fetching, left=True))
        yield place_of(path)
        for child in item.body if isinstance(item, Loop) else ():
            yield from self._places_of(child, path)
        yield place_of(path, left=True)
        if not parents:
            yield place_of((*path, "TERMINATED"))

    def _enter(self, item: LoopItem, path: Path) -> None:
        self.paths[place_of(path)] = path
        self.items[place_of(path)] = item

    def _add(self, source: str, candidates: list[Candidate], is_control: bool = False) -> None:
        for event, dest, guards_and_steps, effects in candidates:
            # a guard without text always holds: all_left_guard() of a scope without custom states
            kept = tuple(part for part in guards_and_steps if isinstance(part, OpaqueStep) or part.text)
            self.transitions.append(Transition(source, event, dest, kept, effects, is_control))


def _guarded(guard: Guard, candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates with a guard added in front of their own."""
    return [candidate._replace(guards_and_steps=(guard, *candidate.guards_and_steps)) for candidate in candidates]


def _pass_words(loop: Loop) -> tuple[str, str]:
    """Return the words for "there is another pass" and "the passes are done"."""
    if loop.until is None:
        return "another element", "no element left"
    words = condition(loop).removeprefix("until ")
    return f"not {words}", words


def when(phase: Phase, enclosing_loop: str) -> Guard:
    """Return the guard for entering a phase that has a condition.

    Args:
        phase: the phase.
        enclosing_loop: the name of the loop with the phase in its body.
    """
    if isinstance(phase.when, Every):
        n = phase.when.n
        return Guard(f"{enclosing_loop.lower()} % {n} == 0", f"({count_of(enclosing_loop)} % {n} == 0)")
    text = condition(phase).removeprefix("when ")
    return Guard(text, ask("when", phase), {phase.name: phase}, is_settled=True)
