"""The ``repr`` of states: the Python code that declares them."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["Declared"]

WIDTH = 110
"""The maximal length of a declaration on one line, in characters. Longer ones are split, one argument per line."""


class Declared:
    """Base class of the parts of a loop. Their ``repr`` is the Python code that declares them."""

    def _arguments(self) -> tuple[tuple[Any, ...], dict[str, tuple[Any, Any]]]:
        """Return the positional arguments, and each keyword argument as ``(value, default)``."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return _declaration(self, 0)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the ``repr`` in Hypothesis and IPython. Both would otherwise choose a format of their own."""
        printer.text(repr(self))


def _declaration(item: Declared, indent: int) -> str:
    """Return the Python code that declares a state. Functions are shown by name."""
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
