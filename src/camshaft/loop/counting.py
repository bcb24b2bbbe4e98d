"""The counters that belong to the events of a loop."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from camshaft.events import FACTS, OF_A_BATCH, OF_THE_RUN
from camshaft.loop.states import DATA, RUN
from camshaft.loop.tree import LoopTree

__all__ = ["attribute_by_event", "counter_loop_by_event", "counter_attribute_by_event"]


def counter_loop_by_event(loop: LoopTree) -> dict[str, str]:
    """Return, for each event key, the name of the loop whose passes are counted with the event.

    An event without a loop of its own, such as STARTED, is counted with the outermost loop.
    """
    found = dict.fromkeys(loop.event_keys, loop.name)
    data_loop = loop.data_loop
    if data_loop is not None:
        found |= dict.fromkeys(OF_A_BATCH, data_loop.name)
    enclosing_loop = {RUN: loop.name}
    # Two loops may share an event. Deeper states come later here, so that the inner loop counts it.
    for path, item in sorted(loop.walk(), key=lambda path_and_item: len(path_and_item[0])):
        enclosing_loop[item.name] = item.name if isinstance(item, LoopTree) else path[-2]
        found |= dict.fromkeys(item.own_events, enclosing_loop[item.name])
    for custom in loop.custom_states:
        found |= dict.fromkeys(custom.events, enclosing_loop[custom.within])
    return found


def counter_attribute_by_event(loop: LoopTree) -> dict[str, str]:
    """Return, for each event key, the attribute of ``engine.state`` that filters on the event compare with.

    Filters on events that are missing here count the firings of the event itself.
    """
    found = {key: loop.name.lower() for key in OF_THE_RUN if FACTS[key].counts_passes}
    for _, item in loop.walk():
        if isinstance(item, LoopTree):
            counter = item.name.lower()
            found |= {item.started: counter, item.completed: counter}
            if item.over is DATA:
                found |= {key: counter for key in OF_A_BATCH if FACTS[key].counts_passes}
    return found


def attribute_by_event(loop: LoopTree, counters: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Return, for each event key, the attribute of ``engine.state`` that numbers the event, for example in a log.

    Built-in events that do not belong to one pass, such as TERMINATE, have none.

    Args:
        loop: the loop.
        counters: the attributes of events that have one of their own.
    """
    counted = counter_loop_by_event(loop)
    found = {key: name.lower() for key, name in counted.items() if key not in FACTS or FACTS[key].counts_passes}
    return found | dict(counters)
