"""Checks of arguments, shared by many modules."""

from __future__ import annotations

from typing import Any

__all__ = ["check_integer", "is_integer"]


def is_integer(value: Any, least: int | None = None) -> bool:
    """Return whether a value is an integer of ``least`` or more. ``True`` and ``False`` do not count as integers."""
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def check_integer(
    name: str, value: Any, least: int = 1, *, hint: str = "", error: type[ValueError] = ValueError
) -> None:
    """Refuse an argument that is not an integer, or is too small.

    Args:
        name: the name of the argument in the message.
        value: the argument.
        least: the smallest value allowed.
        hint: text for the end of the message: the consequence of the wrong value, or what to give instead.
        error: the class of the error.

    Raises:
        ValueError: the value is not an integer of ``least`` or more.
    """
    if not is_integer(value, least):
        hint = f": {hint}" if hint else ""
        raise error(f"{name} must be an integer of {least} or more, got {value!r}{hint}")
