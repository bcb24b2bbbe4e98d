"""as_ignite: engines of camshaft work with handlers of pytorch-ignite."""

from __future__ import annotations

import subprocess
import sys

import ignite.engine
import pytest
from ignite import handlers as ih

import camshaft
from camshaft import Engine, record
from camshaft.compat import as_ignite
from support.ignite_box.worlds import ours, ours_as_ignite


def test_as_ignite_gives_the_same_engine():
    engine = ours(lambda *_: None)
    engine.state.mine = 1
    assert as_ignite(as_ignite(engine)) is engine
    assert isinstance(engine, ignite.engine.Engine)
    assert isinstance(engine, Engine)
    assert engine.state.mine == 1
    assert repr(engine) == repr(ours(lambda *_: None))


def test_nothing_is_inherited_from_ignite():
    engine = as_ignite(ours(lambda *_: None))
    modules = {base.__module__.partition(".")[0] for thing in (engine, engine.state) for base in type(thing).__mro__}
    assert modules == {"camshaft", "builtins"}
    theirs = ignite.engine.Engine(lambda *_: None)
    assert {name for name in dir(theirs) if name.startswith("_") and hasattr(engine, name)} - set(dir(object)) == {
        "__dict__", "__module__", "__weakref__", "_allowed_events"
    }  # fmt: skip


def test_what_only_ignites_own_engine_has_fails_clearly():
    engine = as_ignite(ours(lambda *_: None))
    with pytest.raises(AttributeError, match="trainer has no attribute _event_handlers: it is an engine of camshaft"):
        ih.HandlersTimeProfiler().attach(engine)


def test_as_ignite_keeps_the_class_that_the_user_wrote():
    class Mine(Engine):
        def greet(self) -> str:
            return f"I am {self.name}"

    one, other = (as_ignite(Mine(lambda *_: None, name)) for name in ("one", "other"))
    assert isinstance(one, Mine)
    assert one.greet() == "I am one"
    assert type(one) is type(other)


def test_what_the_engine_does_stays_as_it_is():
    traces = []
    for engine in (ours(lambda *_: None), ours_as_ignite(lambda *_: None)):
        engine.add_event_handler(camshaft.Events.ITERATION_COMPLETED(once=4), engine.terminate)
        with record() as trace:
            engine.run(range(3), max_epochs=3)
        trace.assert_legal()
        traces.append([(event.event, event.count) for event in trace])
    assert traces[0] == traces[1]


def test_as_ignite_in_the_middle_of_a_run():
    engine = ours(lambda *_: None)
    engine.add_event_handler(camshaft.Events.EPOCH_STARTED, as_ignite)
    with pytest.raises(RuntimeError, match="change its loop before run"):
        engine.run([1])


def test_as_ignite_takes_engines_of_camshaft():
    with pytest.raises(TypeError, match="engine must be an Engine of camshaft, got"):
        as_ignite(ignite.engine.Engine(lambda *_: None))


def test_as_ignite_without_ignite(monkeypatch):
    monkeypatch.setitem(sys.modules, "ignite", None)
    monkeypatch.setitem(sys.modules, "ignite.engine", None)
    with pytest.raises(ModuleNotFoundError, match="as_ignite needs pytorch-ignite: pip install pytorch-ignite"):
        as_ignite(ours(lambda *_: None))


def test_ignite_is_imported_by_no_module_of_camshaft():
    code = "import sys, camshaft, camshaft.compat; print(sorted(name for name in sys.modules if name == 'ignite'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr
