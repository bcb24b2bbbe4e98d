"""A machine as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from camshaft.events import ANYWHERE, event_name
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, Free
from camshaft.machine.transition_table import COMPLETED, ENDS, FAILED, TERMINATED, Row

__all__ = ["machine_text"]


def machine_text(loop: Loop, table: Mapping[str, Mapping[str, Row]]) -> str:
    """Return each place and the transitions out of it, as lines of text.

    Args:
        loop: the declaration.
        table: its transitions, by place and event.
    """
    return "\n".join(_machine_lines(loop, table))


def _machine_lines(loop: Loop, table: Mapping[str, Mapping[str, Row]]) -> Iterator[str]:
    """Show places with the same transitions together, and what is possible everywhere once, at the end."""
    names = {free.name for free in loop.free}
    aside = {event for free in loop.free for event in free.events} | ANYWHERE
    alike: dict[tuple[str, ...], list[str]] = {}
    for place, ways in table.items():
        if place in ENDS or ("/" in place and place.rpartition("/")[2] in names):
            continue
        rows = tuple(_describe_row(row) for row in ways.values() if row.event not in aside)
        alike.setdefault(rows, []).append(place)
    for rows, places in alike.items():
        yield ", ".join(places)
        yield from rows
    scopes: dict[tuple[str, bool], list[Free]] = {}
    for free in loop.free:
        scopes.setdefault((free.within, bool(free.order)), []).append(free)
    for (within, is_declared), frees in scopes.items():
        yield f"anywhere within {within}, in {'the declared' if is_declared else 'any'} order"
        for free in frees:
            events = [event_name(event) for event in free.events]
            yield "  " + (f" -> {free.name} -> ".join(events) if free.is_pair else f"{events[0]} -> {free.name}")
    yield "anywhere in the run"
    yield f"  TERMINATE -> {TERMINATED}, then COMPLETED unless it is skipped -> {COMPLETED}"
    if loop.over is not DATA:
        yield f"  TERMINATE_SINGLE_EPOCH, within {loop.name} -> {loop.name}/TERMINATED,"
        yield f"      then {event_name(loop.completed)} unless it is skipped"
    yield "  INTERRUPT -> the same place, where the next run goes on"
    yield f"  EXCEPTION_RAISED -> {FAILED}"


def _describe_row(row: Row) -> str:
    guards = " and ".join(guard.text for guard in row.guards)
    return f"  {event_name(row.event)} -> {row.dest}" + (f"\n      if {guards}" if guards else "")
