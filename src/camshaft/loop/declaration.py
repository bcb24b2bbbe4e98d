"""How a state is shown: as the Python that declares it."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Declared"]

WIDTH = 110
"""Declarations longer than this are broken into lines."""


class Declared:
    """A part of a loop that is shown as the Python that declares it."""

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        """Return the positional arguments, and by name the (value, default) of the others."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return _declaration(self, 0)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Show the same text in Hypothesis and IPython."""
        printer.text(repr(self))


def _declaration(item: Declared, indent: int) -> str:
    """Return the Python that declares a state; functions are shown by name."""
    positional, named = item._arguments()
    arguments = [_argument(value, indent + 4) for value in positional]
    arguments += [
        f"{name}={_argument(value, indent + 4)}" for name, (value, default) in named.items() if value != default
    ]
    call = f"{type(item).__name__}({', '.join(arguments)})"
    if len(call) + indent <= WIDTH and "\n" not in call:
        return call
    margin = "\n" + " " * indent
    return f"{type(item).__name__}({''.join(f'{margin}    {argument},' for argument in arguments)}{margin})"


def _argument(value: Any, indent: int) -> str:
    if isinstance(value, tuple):
        inner = ", ".join(_argument(part, indent) for part in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, Declared):
        return _declaration(value, indent)
    if isinstance(value, str):
        return json.dumps(value)
    return str(getattr(value, "__qualname__", repr(value)))
