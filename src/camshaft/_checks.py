"""Checks of arguments that many modules need."""

from __future__ import annotations

from typing import Any

__all__ = ["check_integer", "is_integer"]


def is_integer(value: Any, least: int | None = None) -> bool:
    """Return whether a value is an integer, ``True`` and ``False`` excepted, and not below ``least``."""
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def check_integer(
    name: str, value: Any, least: int = 1, *, hint: str = "", error: type[ValueError] = ValueError
) -> None:
    """Refuse an argument that is not an integer, or too small.

    Args:
        name: how the message calls the argument.
        value: what was given.
        least: the smallest value allowed.
        hint: what follows from another value, or what to give instead.
        error: the class to raise.

    Raises:
        ValueError: the value is not an integer of ``least`` or more.
    """
    if not is_integer(value, least):
        hint = f": {hint}" if hint else ""
        raise error(f"{name} must be an integer of {least} or more, got {value!r}{hint}")
