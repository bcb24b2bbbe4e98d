"""Data, and the expected events of runs of the standard loop, for tests of engines."""

from __future__ import annotations

from torch.utils.data import IterableDataset

from camshaft import Engine, EventEnum, Events, record
from camshaft.events import event_key
from support.steps import echo

E = Events
FETCH = [E.GET_BATCH_STARTED, E.GET_BATCH_COMPLETED]
ITERATION = [*FETCH, E.ITERATION_STARTED, E.ITERATION_COMPLETED]
RESTARTED = [E.GET_BATCH_STARTED, E.DATALOADER_STOP_ITERATION, *ITERATION[1:]]


class ClipEvents(EventEnum):
    CLIP_STARTED = "clip_started"
    CLIP_COMPLETED = "clip_completed"
    GRADS_CLIPPED = "grads_clipped"


def traced(engine, *args, **limits):
    with record() as trace:
        engine.run(*args, **limits)
    return trace


def legal(engine, *args, **limits):
    trace = traced(engine, *args, **limits)
    trace.assert_legal()
    return trace


def standard(epochs, iterations):
    first = [E.EPOCH_STARTED, *ITERATION * iterations, E.EPOCH_COMPLETED]
    later = [E.EPOCH_STARTED, *RESTARTED, *ITERATION * (iterations - 1), E.EPOCH_COMPLETED]
    return [E.STARTED, *first, *later * (epochs - 1), E.COMPLETED]


def names(events):
    return [event_key(each.event if hasattr(each, "engine") else each) for each in events]


def collect(engine, event, what=lambda engine: engine.state.iteration):
    seen = []
    engine.add_event_handler(event, lambda engine: seen.append(what(engine)))
    return seen


class Closing:
    """Data that counts the iterators that were opened and closed."""

    def __init__(self, length=4):
        self.length, self.opened, self.closed = length, 0, 0

    def __iter__(self):
        self.opened += 1
        try:
            yield from range(self.length)
        finally:
            self.closed += 1


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


MOMENTS = [
    E.STARTED,
    E.EPOCH_STARTED,
    E.GET_BATCH_STARTED,
    E.GET_BATCH_COMPLETED,
    E.ITERATION_STARTED,
    E.ITERATION_COMPLETED,
    E.EPOCH_COMPLETED,
]


CALLS = {
    "terminate": lambda engine: engine.terminate(),
    "terminate_epoch": lambda engine: engine.terminate_epoch(),
    "skip_iteration": lambda engine: engine.skip_iteration(),
    "set_data": lambda engine: engine.set_data([10, 20, 30]),
    "interrupt": lambda engine: engine.interrupt(),
}


def pair():
    return Engine(echo, "trainer"), Engine(echo, "evaluator")


def fail(*args):
    raise ValueError("broken")


class Breaks:
    def __iter__(self):
        yield 1
        raise ValueError("broken")


ENDINGS = {
    "completed": (None, None),
    "terminate": (E.ITERATION_STARTED(once=2), lambda engine: engine.terminate()),
    "terminate without COMPLETED": (E.ITERATION_STARTED(once=2), lambda engine: engine.terminate(skip_completed=True)),
    "failure": (E.ITERATION_STARTED(once=2), fail),
    "swallowed failure": (E.ITERATION_STARTED(once=2), fail),
    "KeyboardInterrupt": (E.ITERATION_STARTED(once=2), lambda: (_ for _ in ()).throw(KeyboardInterrupt)),
}


WITHIN = {
    "completed before started": ["clip_completed", "clip_started"],
    "completed without started": ["clip_completed"],
    "not left before ITERATION ends": ["clip_started"],
    "started twice": ["clip_started", "clip_started", "clip_completed"],
    "completed twice": ["clip_started", "clip_completed", "clip_completed"],
}


class Source:
    """Data that counts the closed iterators. With ``fails``, closing raises."""

    def __init__(self, fails=False):
        self.closed = 0
        self.fails = fails

    def __iter__(self):
        try:
            yield from range(3)
        finally:
            self.closed += 1
            if self.fails:
                raise OSError("cannot close")
