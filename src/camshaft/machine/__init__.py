"""The state machine of a loop: its transitions, their guards, and the check of event orders."""

from typing import TYPE_CHECKING, Any

from camshaft.exceptions import EventOrderError
from camshaft.machine.checker import OrderChecker
from camshaft.machine.context import Context, Guard

if TYPE_CHECKING:
    from camshaft.machine.machine import LoopMachine

__all__ = ["Context", "EventOrderError", "Guard", "LoopMachine", "OrderChecker"]


def __getattr__(name: str) -> Any:
    """Import ``LoopMachine``, and the package ``transitions``, when it is used."""
    if name != "LoopMachine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from camshaft.machine.machine import LoopMachine

    return LoopMachine
