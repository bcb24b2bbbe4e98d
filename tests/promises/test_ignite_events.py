"""Events and states answer the same on both libraries: each expression is evaluated with the names of both."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import ignite.engine
import pytest

import camshaft
import camshaft.compat
from support.steps import no_op


def names_of(library: Any) -> SimpleNamespace:
    """Return what a program imports, and an enum of its own."""
    made = {name: getattr(library, name) for name in ("Engine", "State", "EventEnum", "EventsList")}
    custom = library.EventEnum("Custom", {"ROW": "row", "PAGE": "page"})
    return SimpleNamespace(E=library.Events, Custom=custom, Single=library.CallableEventWithFilter, **made)


THEIRS = names_of(ignite.engine)
OURS = [names_of(camshaft), names_of(camshaft.compat)]
EVENT_TO_ATTR = dict(ignite.engine.State.event_to_attr)


@pytest.fixture(autouse=True)
def attributes_of_ignite(monkeypatch):
    """Forget the attributes that tests register for all engines of pytorch-ignite."""
    monkeypatch.setattr(ignite.engine.State, "event_to_attr", EVENT_TO_ATTR.copy())


COMPARED = {
    "filtered == event": lambda lib: lib.E.STARTED(once=1) == lib.E.STARTED,
    "event == filtered": lambda lib: lib.E.ITERATION_STARTED(every=3) == lib.E.ITERATION_STARTED,
    "filters do not count": lambda lib: lib.E.ITERATION_STARTED(every=2) == lib.E.ITERATION_STARTED(once=5),
    "another event": lambda lib: lib.E.EPOCH_STARTED(every=2) == lib.E.ITERATION_STARTED,
    "not another event": lambda lib: lib.E.ITERATION_STARTED(every=2) != lib.E.EPOCH_STARTED(every=2),
    "not a number": lambda lib: lib.E.EPOCH_COMPLETED != 1,
    "not a string": lambda lib: lib.E.EPOCH_COMPLETED(every=2) != "abc",
    "custom": lambda lib: lib.Custom.ROW(every=2) == lib.Custom.ROW != lib.Custom.PAGE,
    "hash": lambda lib: hash(lib.E.STARTED(once=1)) == hash(lib.E.STARTED),
    "in a dictionary": lambda lib: {lib.E.STARTED: 5}.get(lib.E.STARTED(every=2)),
    "in a set": lambda lib: len({lib.E.STARTED, lib.E.STARTED(every=2), lib.E.COMPLETED(every=2)}),
    "in a list": lambda lib: [lib.E.STARTED, lib.E.COMPLETED].index(lib.E.COMPLETED(every=2)),
    "name": lambda lib: (lib.E.STARTED(once=1).name, lib.Custom.ROW(every=2).name, lib.Custom.ROW.name),
    "value": lambda lib: (lib.E.STARTED(once=1).value, lib.Custom.ROW(every=2).value, lib.Custom.ROW.value),
    "filter": lambda lib: (lib.E.STARTED.filter, lib.Custom.ROW.filter, lib.Custom.ROW(every=2).filter is None),
    "class": lambda lib: [isinstance(each, lib.Single) for each in (lib.E.STARTED, lib.Custom.ROW(every=2), "row")],
    "a call of a filtered event": lambda lib: lib.E.STARTED(every=2)(once=5) == lib.E.STARTED,
    "every=1": lambda lib: isinstance(lib.E.STARTED(every=1), lib.Single),
    "text": lambda lib: "ITERATION_STARTED" in f"{lib.E.ITERATION_STARTED(every=2)} {lib.E.ITERATION_STARTED}",
    "length of a union": lambda lib: len(lib.E.STARTED | lib.E.COMPLETED(every=2) | lib.Custom.ROW),
    "parts of a union": lambda lib: [
        (lib.E.STARTED | lib.E.COMPLETED(every=2) | lib.Custom.ROW)[index].name for index in (0, 1, -1)
    ],
    "iteration over a union": lambda lib: [one.name for one in lib.E.STARTED | lib.E.COMPLETED | lib.Custom.ROW],
    "a plain event of a union": lambda lib: list(lib.E.STARTED | lib.E.COMPLETED)[1] is lib.E.COMPLETED,
    "class of a union": lambda lib: isinstance(lib.E.STARTED | lib.Custom.ROW(every=2), lib.EventsList),
    "an empty union": lambda lib: [one.name for one in lib.EventsList() | lib.E.STARTED | lib.Custom.ROW],
    "attributes of events": lambda lib: [
        lib.State.event_to_attr[lib.E[event.name]] for event in ignite.engine.Events if event in EVENT_TO_ATTR
    ],
    "attribute of a filtered event": lambda lib: lib.State.event_to_attr[lib.E.EPOCH_STARTED(every=2)],
    "events without an attribute": lambda lib: [
        event.name for event in ignite.engine.Events if lib.E[event.name] not in lib.State.event_to_attr
    ],
    "number of an event": lambda lib: lib.State(iteration=7).get_event_attrib_value(lib.E.ITERATION_STARTED(every=2)),
    "number by name": lambda lib: lib.State(epoch=7).get_event_attrib_value(event_name=lib.E.EPOCH_STARTED),
    "text of a state": lambda lib: repr(lib.State(batch=[1], output=0.5, mine="a", flag=True, seed=5)),
}


@pytest.mark.parametrize("ours", OURS, ids=["camshaft", "camshaft.compat"])
@pytest.mark.parametrize("compared", COMPARED.values(), ids=COMPARED)
def test_an_expression_has_the_same_value(compared, ours):
    assert compared(ours) == compared(THEIRS)


def test_an_event_without_a_number_is_an_error_of_the_same_class():
    for lib in (THEIRS, *OURS):
        for event in ("abc", lib.E.TERMINATE, lib.Custom.PAGE):
            with pytest.raises(RuntimeError):
                lib.State().get_event_attrib_value(event)


@pytest.mark.parametrize("ours", OURS, ids=["camshaft", "camshaft.compat"])
@pytest.mark.parametrize(
    "event", ignite.engine.State.event_to_attr, ids=lambda event: str(getattr(event, "name", event))
)
def test_an_event_filter_gets_the_same_counts(event, ours):
    def counts_of(lib):
        engine, counts = lib.Engine(no_op), []
        engine.add_event_handler(
            lib.E[event.name](event_filter=lambda engine, count: counts.append(count) or True), print_
        )
        engine.run([1, 2], max_epochs=3)
        return counts

    def print_():
        """Do nothing."""

    assert counts_of(ours) == counts_of(THEIRS) != []


@pytest.mark.parametrize("ours", OURS, ids=["camshaft", "camshaft.compat"])
def test_parameters_have_the_same_names(ours):
    def calls_of(lib):
        calls = []
        engine = lib.Engine(process_function=lambda engine, batch: engine.fire_event(event_name=lib.Custom.ROW))
        engine.register_events(*lib.Custom, event_to_attr={lib.Custom.ROW: "rows"})
        engine.on(event_name=lib.Custom.ROW)(lambda: calls.append("on"))
        listen = lambda: calls.append("added")
        engine.add_event_handler(event_name=lib.Custom.ROW, handler=listen)
        calls.append(engine.has_event_handler(handler=listen, event_name=lib.Custom.ROW))
        engine.run([1])
        engine.remove_event_handler(handler=listen, event_name=lib.Custom.ROW)
        calls.append(engine.has_event_handler(listen))
        calls.append(engine.has_registered_events(event=lib.Custom.PAGE))
        engine.run([1])
        return [*calls, engine.state.rows]

    assert calls_of(ours) == calls_of(THEIRS)


@pytest.mark.parametrize("ours", OURS, ids=["camshaft", "camshaft.compat"])
def test_an_attribute_of_custom_events_counts_for_filters(ours):
    def seen_by(lib):
        def step(engine, batch):
            engine.state.rows += 2
            engine.fire_event(lib.Custom.ROW)

        engine, seen = lib.Engine(step), []
        engine.register_events(*lib.Custom, event_to_attr=dict.fromkeys(lib.Custom, "rows"))
        engine.state = lib.State()
        for event in (lib.Custom.ROW(every=4), lib.Custom.ROW(once=[2, 6]) | lib.E.COMPLETED):
            engine.add_event_handler(
                event, lambda engine: seen.append(engine.state.get_event_attrib_value(lib.Custom.ROW))
            )
        engine.run(range(4))
        return seen, engine.state.rows, engine.state.event_to_attr[lib.Custom.PAGE]

    assert seen_by(ours) == seen_by(THEIRS)
