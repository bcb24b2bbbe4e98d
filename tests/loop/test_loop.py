"""Loops: changes, copies and memory."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

from camshaft import DATA, Engine, Loop, OpaqueStep, Phase
from support.declared import standard
from support.steps import no_op


def names(loop):
    return [item.name for _, item in loop.walk()]


def test_events_default_each_by_itself_to_the_name_of_the_state():
    phase = Phase("CLIP", no_op, completed="clipped")
    assert (phase.started, phase.completed) == ("clip_started", "clipped")
    assert standard(phase).events.CLIP_STARTED.value == "clip_started"


def test_insert_replace_and_remove_return_new_loops():
    loop = standard(Phase("FORWARD", no_op), Phase("BACKWARD", no_op))
    clip = Phase("CLIP", no_op)
    assert names(loop.insert(clip, after="FORWARD")) == ["EPOCH", "ITERATION", "FORWARD", "CLIP", "BACKWARD"]
    assert names(loop.insert(clip, before="FORWARD")) == ["EPOCH", "ITERATION", "CLIP", "FORWARD", "BACKWARD"]
    assert names(loop.insert(clip, within="EPOCH"))[-1] == "CLIP"
    assert names(loop.insert(clip, before="ITERATION")) == ["EPOCH", "CLIP", "ITERATION", "FORWARD", "BACKWARD"]
    assert names(loop.remove("FORWARD")) == ["EPOCH", "ITERATION", "BACKWARD"]
    assert loop.replace("FORWARD", clip).find("CLIP") == clip
    assert names(loop) == ["EPOCH", "ITERATION", "FORWARD", "BACKWARD"]


def test_an_opaque_step_and_phases_can_stand_together():
    log = []
    loop = standard(
        OpaqueStep(lambda engine, batch: log.append(batch)), Phase("LOG", lambda engine, batch: log.append("log"))
    )
    Engine(loop).run([1, 2])
    assert log == [1, "log", 2, "log"]


def test_a_loop_is_freed_without_the_garbage_collector():
    class Function:
        def __call__(self, engine, batch):
            return None

    gc.collect()
    gc.disable()
    try:
        function = Function()
        freed = weakref.ref(function)
        loop = Loop("EPOCH", Loop("ITERATION", Phase("ACT", function), over=DATA))
        longer = loop.insert(Phase("CLIP"), after="ACT")
        assert longer.data_loop is not None
        assert [item.name for _, item in longer.walk()] == ["EPOCH", "ITERATION", "ACT", "CLIP"]
        del function, loop, longer
        assert freed() is None
    finally:
        gc.enable()


def test_a_copied_loop_walks_through_itself():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("ACT"), over=DATA))
    assert loop.event_keys
    copied = copy.copy(loop)
    assert next(copied.walk())[1] is copied
    assert pickle.loads(pickle.dumps(loop)) == loop
