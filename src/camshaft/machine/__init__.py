"""The state machine of a loop: its transitions, their guards, and the checker of event orders."""

from camshaft.machine.context import Context, Guard
from camshaft.machine.machine import EventOrderError, LoopMachine, OrderChecker

__all__ = ["Context", "EventOrderError", "Guard", "LoopMachine", "OrderChecker"]
