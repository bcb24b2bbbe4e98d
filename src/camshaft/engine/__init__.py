"""The engine: runs a loop over data and calls the handlers of its events."""

from camshaft.engine.dispatch import RemovableEventHandle
from camshaft.engine.engine import Engine
from camshaft.engine.state import State

__all__ = ["Engine", "RemovableEventHandle", "State"]
