"""The state machine of a loop: its transitions, their guards, and the check of event orders."""

from camshaft.exceptions import EventOrderError
from camshaft.machine.checker import OrderChecker
from camshaft.machine.context import Context, Guard
from camshaft.machine.machine import LoopMachine

__all__ = ["Context", "EventOrderError", "Guard", "LoopMachine", "OrderChecker"]
