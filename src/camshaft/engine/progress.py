"""The cursor: how far a run has come, how far it may go, and both written down.

Limits are judged here before a run begins, and the counters of a saved state before they are taken on: nothing is
changed until everything is known to fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import takewhile
from typing import Any

import attrs

from camshaft._checks import is_integer
from camshaft.engine.limits import LIMITS, Limits
from camshaft.engine.state import State
from camshaft.loop.loop import Loop
from camshaft.loop.states import EventPoint, Path

__all__ = ["RunPosition", "resume_points", "load_progress", "dump_progress"]


_is_count = partial(is_integer, least=0)


@attrs.frozen
class RunPosition:
    """Where a run stands, beside what its state counts.

    Attributes:
        in_epoch: batches that the present epoch has had; None between epochs.
        fetched: batches that the open iterator has given; None where only ``in_epoch`` tells.
        counts: how often the events that count their own firings have fired.
        where: the states around, outermost first.
    """

    in_epoch: int | None = None
    fetched: int | None = None
    counts: dict[str, int] = attrs.field(factory=dict)
    where: Path = ()


def dump_progress(state: State, loop: Loop, position: RunPosition, user_keys: list[str]) -> dict[str, Any]:
    """What :func:`load_progress` needs, as plain values.

    Args:
        position: where the run stands.
        user_keys: attributes of the state to save as well.
    """
    missing = [key for key in user_keys if not hasattr(state, key)]
    if missing:
        raise KeyError(f"state_dict_user_keys names {', '.join(missing)}, which the state does not have")
    saved = {name: getattr(state, name) for name in (*loop.counters, *LIMITS, *user_keys)}
    return saved | {
        "where": list(position.where),
        "position": position.in_epoch,
        "fetched": position.fetched,
        "event_counts": dict(position.counts),
    }


def load_progress(state: State, loop: Loop, saved: Mapping[str, Any], user_keys: list[str]) -> RunPosition:
    """Set the state to what was saved. Returns where the run stood.

    A dictionary with ``iteration`` or ``epoch`` alone, beside ``epoch_length`` and a limit, is accepted too.

    Raises:
        ValueError: keys are missing or contradict each other; nothing is changed then.
    """
    counter_loop_by_event, data_loop = loop.counters, loop.data_loop
    saved = dict(saved)
    if (
        data_loop is not None
        and len(counter_loop_by_event) == 2
        and (counter_loop_by_event[0] in saved) != (counter_loop_by_event[1] in saved)
    ):
        _complete(saved, *counter_loop_by_event)
    missing = [key for key in (*counter_loop_by_event, *user_keys) if key not in saved]
    if missing:
        raise ValueError(f"the state dict lacks {', '.join(missing)}; it has {', '.join(map(str, saved)) or 'nothing'}")
    limits = Limits(*(saved.get(name) for name in LIMITS))
    position, fetched, counts = saved.get("position"), saved.get("fetched"), saved.get("event_counts", {})
    unknown = set(saved) - {*counter_loop_by_event, *LIMITS, *user_keys, "where", "position", "fetched", "event_counts"}
    if unknown:
        raise ValueError(
            f"the state dict has {', '.join(sorted(map(str, unknown)))}, unknown to the loop {loop.name}; "
            f"add them to state_dict_user_keys"
        )
    for name in counter_loop_by_event:
        if not _is_count(saved[name]):
            raise ValueError(f"the state dict has {name}={saved[name]!r}, which must be an integer of 0 or more")
    _check_where(saved.get("where", ()), loop)
    if fetched is not None and not _is_count(fetched):
        raise ValueError(f"the state dict has fetched={fetched!r}, which must be an integer of 0 or more")
    if not isinstance(counts, Mapping) or not all(map(_is_count, counts.values())):
        raise ValueError(f"the state dict has event_counts={counts!r}, which must be integers of 0 or more, by event")
    _check_counts(saved, loop, position, limits)
    for name in (*counter_loop_by_event, *user_keys):
        setattr(state, name, saved[name])
    for name in LIMITS:
        setattr(state, name, getattr(limits, name))
    state.resumed = position is not None
    return RunPosition(position, fetched, dict(counts), tuple(saved.get("where", ())))


def _check_where(where: Any, loop: Loop) -> None:
    states = {"GET_BATCH", *(item.name for _, item in loop.walk()), *(custom.name for custom in loop.custom_states)}
    if not isinstance(where, (list, tuple)) or not states.issuperset(map(str, where)):
        place = " / ".join(map(str, where)) if isinstance(where, (list, tuple)) else where
        raise ValueError(
            f"the state dict was saved in {place!r}, where a run of the loop {loop.name} cannot stand: "
            f"load it into the loop that it was saved from"
        )


def _complete(saved: dict[str, Any], outer: str, inner: str) -> None:
    """Work out the counter that is not there from the one that is."""
    length = saved.get("epoch_length")
    if not isinstance(length, int) or length < 1:
        raise ValueError(f"the state dict has one of {outer} and {inner}: it needs epoch_length to tell the other")
    if outer in saved:
        saved[inner] = saved[outer] * length if _is_count(saved[outer]) else 0
    else:
        if not _is_count(saved[inner]):
            raise ValueError(f"the state dict has {inner}={saved[inner]!r}, which must be an integer of 0 or more")
        whole, position = divmod(saved[inner], length)
        saved["position"], saved[outer] = position or None, whole + (position > 0)


def _check_counts(saved: dict[str, Any], loop: Loop, position: Any, limits: Limits) -> None:
    """Refuse counters, limits and a position that cannot be of one run."""
    length, data_loop = limits.epoch_length, loop.data_loop
    if position is not None and (not _is_count(position) or (length is not None and position > length)):
        raise ValueError(f"the state dict has position={position!r}, outside an epoch of {length}")
    outer, inner = loop.name.lower(), data_loop.name.lower() if data_loop is not None else ""
    epochs, iters = saved[outer], saved[inner] if inner else 0
    contradicts = "the state dict contradicts itself"
    if position is not None and (epochs == 0 or iters < position):
        raise ValueError(f"{contradicts}: position={position}, but {outer}={epochs} and {inner}={iters}")
    if limits.max_epochs is not None and epochs > limits.max_epochs:
        raise ValueError(f"{contradicts}: {outer}={epochs}, but max_epochs={limits.max_epochs}")
    if limits.max_iters is not None and iters > limits.max_iters:
        raise ValueError(f"{contradicts}: {inner}={iters}, but max_iters={limits.max_iters}")
    if length is not None and data_loop in loop.body and iters > epochs * length:
        raise ValueError(f"{contradicts}: {inner}={iters}, but {outer}={epochs} and epoch_length={length}")
    if inner and epochs == 0 and iters:
        raise ValueError(f"{contradicts}: {inner}={iters}, but {outer}=0")
    if position is not None and not _can_go_on_inside(loop):
        raise ValueError(f"the loop {loop.name} cannot go on in the middle of a pass: save at {loop.completed.upper()}")


def _can_go_on_inside(loop: Loop) -> bool:
    """Whether a run can go on in the middle of a pass of the outermost loop: no state before would come again."""
    before = list(takewhile(lambda item: item is not loop.data_loop, loop.body))
    return len(before) < len(loop.body) and all(isinstance(item, EventPoint) for item in before)


def resume_points(loop: Loop) -> tuple[str, ...]:
    """The events behind whose handlers a run can be left and gone on with as if it had not been."""
    inner = loop.data_loop
    if inner is loop:
        return ("started", loop.completed, "iteration_skipped", "completed")
    if inner is not None and _can_go_on_inside(loop):
        return ("started", loop.started, inner.completed, "iteration_skipped", loop.completed, "completed")
    return ("started", loop.completed, "completed")
