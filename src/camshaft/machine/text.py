"""A machine as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from camshaft.events import ANYWHERE, event_name
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, CustomState
from camshaft.machine.transition_table import COMPLETED, ENDS, FAILED, TERMINATED, Transition

__all__ = ["machine_text"]


def machine_text(loop: Loop, table: Mapping[str, Mapping[str, Transition]]) -> str:
    """Return each place and the transitions out of it, as lines of text.

    Args:
        loop: the declaration.
        table: its transitions, by place and event.
    """
    return "\n".join(_machine_lines(loop, table))


def _machine_lines(loop: Loop, table: Mapping[str, Mapping[str, Transition]]) -> Iterator[str]:
    """Show places with the same transitions together, and what is possible everywhere once, at the end."""
    names = {custom.name for custom in loop.custom_states}
    aside = {event for custom in loop.custom_states for event in custom.events} | ANYWHERE
    alike: dict[tuple[str, ...], list[str]] = {}
    for place, ways in table.items():
        if place in ENDS or ("/" in place and place.rpartition("/")[2] in names):
            continue
        transitions = tuple(
            _transition_text(transition) for transition in ways.values() if transition.event not in aside
        )
        alike.setdefault(transitions, []).append(place)
    for transitions, places in alike.items():
        yield ", ".join(places)
        yield from transitions
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
    yield "  INTERRUPT -> the same place, where the next run goes on"
    yield f"  EXCEPTION_RAISED -> {FAILED}"


def _transition_text(transition: Transition) -> str:
    guards = " and ".join(guard.text for guard in transition.guards)
    return f"  {event_name(transition.event)} -> {transition.dest}" + (f"\n      if {guards}" if guards else "")
