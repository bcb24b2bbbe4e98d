"""The progress of a run as plain values: counters, limits and position, saved and loaded.

A saved state is checked completely before any of it is applied. A state that does not fit changes nothing.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import torch

from camshaft._checks import is_integer
from camshaft.engine.data import length_of
from camshaft.engine.limits import LIMITS, Limits
from camshaft.engine.state import State
from camshaft.loop.loop import Loop
from camshaft.loop.states import Path

__all__ = [
    "RunPosition",
    "dump_progress",
    "load_progress",
    "resume_event",
    "resume_points",
    "set_random_states",
]


_is_count = partial(is_integer, least=0)


@attrs.frozen
class RunPosition:
    """The position of a run, apart from the counters of its state.

    Attributes:
        in_epoch: the number of batches that the present epoch has had; None between epochs.
        fetched: the number of batches that the open iterator has given; None if it is the same as ``in_epoch``.
        counts: how often events have fired in this run, by key, for events whose filters count firings.
        where: the states that the run is in, the outermost first.
        passes: how many passes each loop around the data has begun within the present pass of the loop around it, by
            name, without the outermost loop. Loops that the run has not reached are left out. If ``in_epoch`` is None,
            the run stands between two passes of the last of these loops; without any, of the outermost one.
        is_after_pass: True if the run has ended a pass of the outermost loop, and has not begun another.
        batches: the number of batches in the data, as far as it is known.
        random_states: the states of the generators of Python, torch and NumPy that pytorch-ignite's
            ``DeterministicEngine`` has saved; None otherwise.
    """

    in_epoch: int | None = None
    fetched: int | None = None
    counts: dict[str, int] = attrs.field(factory=dict)
    where: Path = ()
    passes: dict[str, int] = attrs.field(factory=dict)
    is_after_pass: bool = False
    batches: int | None = None
    random_states: Sequence[Any] | None = None

    @property
    def is_after_data(self) -> bool:
        """True if the run stands between epochs, and the open iterator has given all batches of the data."""
        is_at_end = self.batches is not None and self.fetched is not None and self.fetched >= self.batches
        return self.in_epoch is None and is_at_end

    @property
    def is_inside(self) -> bool:
        """True if the run stands inside a pass of the outermost loop, or in the data that it takes itself."""
        return self.in_epoch is not None or bool(self.passes)


def dump_progress(state: State, loop: Loop, position: RunPosition, user_keys: list[str]) -> dict[str, Any]:
    """Return the progress of a run as plain values, for :func:`load_progress`.

    Args:
        state: the state of the engine.
        loop: the loop of the engine.
        position: the position of the run.
        user_keys: further attributes of the state to save.

    Raises:
        KeyError: the state lacks an attribute of ``user_keys``.
    """
    missing = [key for key in user_keys if not hasattr(state, key)]
    if missing:
        raise KeyError(f"state_dict_user_keys names {', '.join(missing)}, which the state does not have")
    saved = {name: getattr(state, name) for name in (*loop.counters, *LIMITS, *user_keys)}
    for name in ("max_epochs", "max_iters"):
        if saved[name] is None:
            del saved[name]
    return saved | {
        "epoch_length": state.known_length,
        "where": list(position.where),
        "position": position.in_epoch,
        "fetched": position.fetched,
        "event_counts": dict(position.counts),
        "passes": dict(position.passes),
        "batches": state.learned_length if (length := length_of(state.dataloader)) is None else length,
    }


def load_progress(state: State, loop: Loop, saved: Mapping[str, Any], user_keys: list[str]) -> RunPosition:
    """Set counters and limits of the state to the saved values.

    Args:
        state: the state of the engine.
        loop: the loop of the engine.
        saved: a result of :func:`dump_progress`. If it has only one of ``iteration`` and ``epoch``, the other is
            computed from ``epoch_length``.
        user_keys: further attributes of the state to load.

    Returns:
        The saved position of the run.

    Raises:
        ValueError: keys are missing or unknown, or values contradict each other. Nothing is changed then.
    """
    counters, saved = loop.counters, dict(saved)
    random_states = None if "rng_states" in user_keys else saved.pop("rng_states", None)
    if loop.data_loop is not None and len(counters) == 2 and (counters[0] in saved) != (counters[1] in saved):
        _complete(saved, *counters)
    missing = [key for key in (*counters, *user_keys) if key not in saved]
    if missing:
        raise ValueError(f"the state dict lacks {', '.join(missing)}; it has {', '.join(map(str, saved)) or 'nothing'}")
    limits = Limits(*(saved.get(name) for name in LIMITS))
    position, fetched, counts = saved.get("position"), saved.get("fetched"), saved.get("event_counts", {})
    about_position = {"where", "position", "fetched", "event_counts", "passes", "batches"}
    unknown = set(saved) - {*counters, *LIMITS, *user_keys, *about_position}
    if unknown:
        raise ValueError(
            f"the state dict has {', '.join(sorted(map(str, unknown)))}, unknown to the loop {loop.name}; "
            f"add them to state_dict_user_keys"
        )
    if random_states is not None and not (isinstance(random_states, (list, tuple)) and len(random_states) in (2, 3)):
        raise ValueError(
            f"the state dict has rng_states={random_states!r}: give those that a DeterministicEngine has saved, "
            f"the states of Python, torch and NumPy"
        )
    for name in counters:
        if not _is_count(saved[name]):
            raise ValueError(f"the state dict has {name}={saved[name]!r}, which must be an integer of 0 or more")
    _check_where(saved.get("where", ()), loop)
    if fetched is not None and not _is_count(fetched):
        raise ValueError(f"the state dict has fetched={fetched!r}, which must be an integer of 0 or more")
    if not isinstance(counts, Mapping) or not all(map(_is_count, counts.values())):
        raise ValueError(f"the state dict has event_counts={counts!r}, which must be integers of 0 or more, by event")
    passes = saved.get("passes", {})
    _check_passes(passes, position, loop)
    _check_counts(saved, loop, position, limits)
    for name in (*counters, *user_keys):
        setattr(state, name, saved[name])
    for name in LIMITS:
        setattr(state, name, getattr(limits, name))
    is_after_pass = position is None and not passes and saved[counters[0]] > 0
    where, batches = tuple(saved.get("where", ())), saved.get("batches")
    state.learned_length = batches
    loaded = RunPosition(position, fetched, dict(counts), where, dict(passes), is_after_pass, batches, random_states)
    state.resumed = loaded.is_inside
    return loaded


def set_random_states(states: Sequence[Any]) -> None:
    """Set the generators of Python, torch and NumPy to the states that a ``DeterministicEngine`` has saved."""
    python, of_torch, *of_numpy = states
    random.setstate(python)
    torch.set_rng_state(of_torch)
    if of_numpy:
        import numpy

        numpy.random.set_state(of_numpy[0])


def _check_where(where: Any, loop: Loop) -> None:
    """Refuse states that the loop does not have."""
    states = {"GET_BATCH", *(item.name for _, item in loop.walk()), *(custom.name for custom in loop.custom_states)}
    if not isinstance(where, (list, tuple)) or not states.issuperset(map(str, where)):
        place = " / ".join(map(str, where)) if isinstance(where, (list, tuple)) else where
        raise ValueError(
            f"the state dict was saved in {place!r}, where a run of the loop {loop.name} cannot stand: "
            f"load it into the loop that it was saved from"
        )


def _complete(saved: dict[str, Any], outer: str, inner: str) -> None:
    """Compute the missing one of two counters from the other and the length of an epoch."""
    length = saved.get("epoch_length")
    if not isinstance(length, int) or length < 1:
        raise ValueError(f"the state dict has one of {outer} and {inner}: it needs epoch_length, to compute the other")
    if outer in saved:
        saved[inner] = saved[outer] * length if _is_count(saved[outer]) else 0
    else:
        if not _is_count(saved[inner]):
            raise ValueError(f"the state dict has {inner}={saved[inner]!r}, which must be an integer of 0 or more")
        whole, position = divmod(saved[inner], length)
        saved["position"], saved[outer] = position or None, whole + (position > 0)


def _check_counts(saved: dict[str, Any], loop: Loop, position: Any, limits: Limits) -> None:
    """Refuse counters, limits and a position that no run of the loop can have together.

    Handlers may change limits and data in a run. So the counters need not fit the limits in what a run has saved. In a
    dictionary that was written by hand, they must.
    """
    length, data_loop = limits.epoch_length, loop.data_loop
    if position is not None and not _is_count(position):
        raise ValueError(f"the state dict has position={position!r}, which must be an integer of 0 or more")
    outer, inner = loop.name.lower(), data_loop.name.lower() if data_loop is not None else ""
    epochs, iters = saved[outer], saved[inner] if inner else 0
    contradicts = "the state dict contradicts itself"
    if position is not None and ((epochs == 0 and loop is not data_loop) or iters < position):
        raise ValueError(f"{contradicts}: position={position}, but {outer}={epochs} and {inner}={iters}")
    if inner and epochs == 0 and iters:
        raise ValueError(f"{contradicts}: {inner}={iters}, but {outer}=0")
    if "where" in saved:
        return
    if limits.max_epochs is not None and epochs > limits.max_epochs:
        raise ValueError(f"{contradicts}: {outer}={epochs}, but max_epochs={limits.max_epochs}")
    if limits.max_iters is not None and iters > limits.max_iters:
        raise ValueError(f"{contradicts}: {inner}={iters}, but max_iters={limits.max_iters}")
    # If loops lie between the outermost loop and the data, an epoch may have several times epoch_length iterations.
    if length is not None and data_loop in loop.body and iters > epochs * length:
        raise ValueError(f"{contradicts}: {inner}={iters}, but {outer}={epochs} and epoch_length={length}")


def _check_passes(passes: Any, position: Any, loop: Loop) -> None:
    """Refuse passes of other loops than those around the data."""
    inner = loop.data_path[1:-1]
    is_known = isinstance(passes, Mapping) and tuple(passes) == inner[: len(passes)]
    if not is_known or not all(map(_is_count, passes.values())):
        expected = ", ".join(inner) or "none"
        raise ValueError(f"the state dict has passes={passes!r}: give numbers of 0 or more for these loops: {expected}")
    if position is not None and (loop.data_loop is None or len(passes) < len(inner)):
        raise ValueError(
            f"the state dict has position={position!r}, but not the passes of all loops around the data: "
            f"save at {loop.completed.upper()}"
        )


def resume_event(loop: Loop, saved: Mapping[str, Any]) -> str:
    """Return the last event that a resumed run fires again, before it goes on where it was saved.

    Args:
        loop: the loop of the engine.
        saved: a result of :func:`dump_progress`.
    """
    around = loop.data_path[:-1]
    depth = len(around) if saved["position"] is not None else len(saved.get("passes", ()))
    last = loop.find(around[depth - 1]) if depth else None
    return last.started if isinstance(last, Loop) else "started"


def resume_points(loop: Loop) -> tuple[str, ...]:
    """Return the events after whose handlers a run can be stopped and later resumed exactly.

    These are the ends of iterations, and the starts and ends of passes of the loops around the data. In the middle of
    an iteration the batch and the results of its phases would be lacking. In a loop without data, nobody knows what a
    pass has done, so only the ends of passes of the outermost loop remain.
    """
    around = [item for name in loop.data_path[:-1] if isinstance(item := loop.find(name), Loop)]
    starts, ends = [item.started for item in around], [item.completed for item in reversed(around)]
    if loop.data_loop is None:
        return ("started", loop.completed, "completed")
    return ("started", *starts, loop.data_loop.completed, "iteration_skipped", *ends, "completed")
