"""Priorities: the order in which handlers run."""

from camshaft import Engine
from support.engines import E
from support.steps import echo


def test_handlers_run_by_priority_then_in_the_order_of_attachment():
    engine, order = Engine(echo), []
    attached = [("a", 0, None), ("b", 5, None), ("c", 0, 1), ("d", -1, None), ("e", 5, 1), ("f", 0, None)]
    for name, priority, once in attached:
        engine.add_event_handler(E.ITERATION_STARTED(priority=priority, once=once), order.append, name)
    engine.run([1])
    assert "".join(order) == "beacfd"
