"""A machine as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from camshaft.events import ANYWHERE, event_name
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, CustomState
from camshaft.machine.transition import COMPLETED, ENDS, FAILED, TERMINATED, Transition

__all__ = ["machine_text"]


def machine_text(loop: Loop, table: Mapping[str, Mapping[str, Transition]]) -> str:
    """Return all places and the transitions out of each, as lines of text.

    Args:
        loop: the loop.
        table: its transitions, by place and event.
    """
    return "\n".join(_machine_lines(loop, table))


def _machine_lines(loop: Loop, table: Mapping[str, Mapping[str, Transition]]) -> Iterator[str]:
    # Custom states and control calls add transitions to almost every place. Repeated at each place they would hide the
    # loop itself, so they are listed once, at the end. Places with equal transitions share their lines.
    custom_names = {custom.name for custom in loop.custom_states}
    listed_at_end = {event for custom in loop.custom_states for event in custom.events} | ANYWHERE
    places_by_lines: dict[tuple[str, ...], list[str]] = {}
    for place, transitions in table.items():
        if place in ENDS or ("/" in place and place.rpartition("/")[2] in custom_names):
            continue
        lines = tuple(
            _transition_text(transition) for transition in transitions.values() if transition.event not in listed_at_end
        )
        places_by_lines.setdefault(lines, []).append(place)
    for lines, places in places_by_lines.items():
        yield ", ".join(places)
        yield from lines
    scopes: dict[tuple[str, bool], list[CustomState]] = {}
    for custom in loop.custom_states:
        scopes.setdefault((custom.within, bool(custom.order)), []).append(custom)
    for (within, is_declared), customs in scopes.items():
        yield f"anywhere within {within}, in {'the declared' if is_declared else 'any'} order"
        for custom in customs:
            events = [event_name(event) for event in custom.events]
            yield "  " + (f" -> {custom.name} -> ".join(events) if custom.is_pair else f"{events[0]} -> {custom.name}")
    yield "anywhere in the run"
    yield f"  TERMINATE -> {TERMINATED}, then COMPLETED unless it is skipped -> {COMPLETED}"
    if loop.over is not DATA:
        yield f"  TERMINATE_SINGLE_EPOCH, within {loop.name} -> {loop.name}/TERMINATED,"
        yield f"      then {event_name(loop.completed)} unless it is skipped"
    yield "  INTERRUPT -> the same place, where the next run resumes"
    yield f"  EXCEPTION_RAISED -> {FAILED}"


def _transition_text(transition: Transition) -> str:
    guards = " and ".join(guard.text for guard in transition.guards)
    return f"  {event_name(transition.event)} -> {transition.dest}" + (f"\n      if {guards}" if guards else "")
