"""The rules that a loop must follow. A loop that breaks one is refused when it is declared."""

from __future__ import annotations

import keyword
from collections.abc import Iterable

from camshaft._checks import check_integer
from camshaft.events import event_name
from camshaft.exceptions import LoopError
from camshaft.loop.states import (
    DATA,
    RESERVED,
    RUN,
    EventPoint,
    OpaqueStep,
    Phase,
    check_callable,
    check_events,
    check_name,
)
from camshaft.loop.tree import LoopTree

__all__ = ["check_loop"]

MAX_DEPTH = 40
"""How deep loops may be nested: each level costs the interpreter a few frames of its recursion limit."""

_STATE_FIELDS = {
    "EPOCH_LENGTH",
    "MAX_EPOCHS",
    "MAX_ITERS",
    "BATCH",
    "OUTPUT",
    "METRICS",
    "TIMES",
    "DATALOADER",
    "RESUMED",
}


def check_loop(loop: LoopTree) -> None:
    """Refuse a loop that cannot run.

    Raises:
        LoopError: the first rule that it breaks, with the loop, the state and the fix.
    """
    owner = f"loop {loop.name}"
    check_name("loop", loop.name)
    counter = loop.name.lower()
    if keyword.iskeyword(counter):
        raise LoopError(f"{owner}: its counter would be state.{counter}, a keyword of Python; choose another name")
    if loop.name in _STATE_FIELDS:
        raise LoopError(f"{owner}: its counter would be state.{counter}, which is taken; choose another name")
    check_events(owner, *loop.own_events)
    _check_passes(loop, owner)
    for item in loop.body:
        if not isinstance(item, (Phase, OpaqueStep, EventPoint, LoopTree)):
            hint = f"; wrap it: Phase({item.__name__.upper()!r}, {item.__name__})" if hasattr(item, "__name__") else ""
            raise LoopError(f"{owner}: {item!r} is no state; a body has Phase, Loop, Step and Mark{hint}")
        if isinstance(item, LoopTree) and item.over is None and item.times is None and item.until is None:
            raise LoopError(
                f"{owner}: there is no way out of the inner loop {item.name}; give it over=, times= or until="
            )
    _check_names(loop, owner)
    _check_choices(loop, owner)


def _check_passes(loop: LoopTree, owner: str) -> None:
    given = [name for name in ("over", "times", "until") if getattr(loop, name) is not None]
    if len(given) > 1:
        raise LoopError(f"{owner}: {' and '.join(given)} exclude each other; give one")
    if loop.times is not None:
        check_integer(f"{owner}: times", loop.times, hint="otherwise its body is unreachable", error=LoopError)
    check_callable(owner, "until", loop.until, "(engine) -> bool")
    if (
        loop.over is not None
        and loop.over is not DATA
        and not callable(loop.over)
        and not isinstance(loop.over, Iterable)
    ):
        raise LoopError(
            f"{owner}: over={loop.over!r} is not iterable; give DATA, an iterable, or a function (engine) -> iterable"
        )
    if not loop.body and loop.over is None and loop.times is None:
        raise LoopError(f"{owner}: it has no body and takes no data, a cycle that does nothing; give it a phase")


def _check_names(loop: LoopTree, owner: str) -> None:
    seen: set[str] = set()
    data_loops = []
    for path, item in loop.walk():
        if len(path) > MAX_DEPTH:
            raise LoopError(f"{owner}: {item.name} is nested {len(path)} deep; the limit is {MAX_DEPTH}")
        if item.name in RESERVED:
            raise LoopError(f"{owner}: {item.name} is the name of a built-in state; choose another")
        if item.name in seen:
            raise LoopError(f"{owner}: two states are named {item.name}; give one of them another name")
        seen.add(item.name)
        if isinstance(item, LoopTree) and item.over is DATA:
            data_loops.append(item.name)
    if len(data_loops) > 1:
        raise LoopError(
            f"{owner}: {' and '.join(data_loops)} both take the data of the run; "
            f"one can, the others need over= of their own"
        )
    scopes = {RUN} | {item.name for _, item in loop.walk() if isinstance(item, (LoopTree, Phase))}
    for custom in loop.custom_states:
        if custom.name in RESERVED:
            raise LoopError(
                f"{owner}: {custom.name} is the name of a built-in state; name the custom event differently"
            )
        if custom.name in seen:
            raise LoopError(f"{owner}: two states are named {custom.name}; name the custom event differently")
        seen.add(custom.name)
        if custom.within not in scopes:
            raise LoopError(
                f"{owner}: within={custom.within!r} is no loop or phase of it; it has {', '.join(sorted(scopes))}"
            )


def _check_choices(loop: LoopTree, owner: str) -> None:
    """No event may lead two ways out of one place: the events that may come next, gathered from the end."""
    following = {loop.completed}
    for item in reversed(loop.body):
        if isinstance(item, OpaqueStep):
            continue
        first = item.event if isinstance(item, EventPoint) else item.started
        always = isinstance(item, EventPoint) or (isinstance(item, Phase) and item.when is None)
        if always:
            following = set()
        if first in following:
            raise LoopError(
                f"{owner}: {event_name(first)} would lead two ways before {item.name}; give it events of its own"
            )
        following.add(first)
