"""What is counted with each event of a loop."""

from __future__ import annotations

from camshaft.events import FACTS, OF_A_BATCH
from camshaft.loop.states import DATA, RUN
from camshaft.loop.tree import LoopTree

__all__ = ["counter_loop_by_event", "counter_attribute_by_event"]


def counter_loop_by_event(loop: LoopTree) -> dict[str, str]:
    """By event, the name of the loop whose passes are counted with it."""
    found = dict.fromkeys(loop.event_keys, loop.name)
    data_loop = loop.data_loop
    if data_loop is not None:
        found |= dict.fromkeys(OF_A_BATCH, data_loop.name)
    around = {RUN: loop.name}
    for path, item in sorted(loop.walk(), key=lambda found: len(found[0])):  # an event of two loops goes by the inner
        around[item.name] = item.name if isinstance(item, LoopTree) else path[-2]
        found |= dict.fromkeys(item.own_events, around[item.name])
    for custom in loop.custom_states:
        found |= dict.fromkeys(custom.events, around[custom.within])
    return found


def counter_attribute_by_event(loop: LoopTree) -> dict[str, str]:
    """By event, the attribute of the state that filters on it count; on any other they count its firings."""
    found: dict[str, str] = {}
    for _, item in loop.walk():
        if isinstance(item, LoopTree):
            counter = item.name.lower()
            found |= {item.started: counter, item.completed: counter}
            if item.over is DATA:
                found |= {key: counter for key in OF_A_BATCH if FACTS[key].counts_passes}
    return found
