"""The engine: what runs a loop over data and calls the handlers of its events."""

from camshaft.engine.engine import Engine, RemovableEventHandle
from camshaft.engine.state import State

__all__ = ["Engine", "RemovableEventHandle", "State"]
