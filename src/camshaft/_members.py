"""Members of enums: a misspelt one is an error that names the nearest."""

from __future__ import annotations

import difflib
import enum
from typing import TYPE_CHECKING, Any

__all__ = ["EnumOfEvents"]


class EnumOfEvents(enum.EnumMeta):
    """Class of enums whose errors name the nearest member, or the enum that has the member."""

    if not TYPE_CHECKING:  # otherwise type checkers would accept every name

        def __getattr__(cls, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
            try:
                return cls._member_map_[name]  # Python 3.11 finds members here
            except KeyError:
                raise AttributeError(cls._unknown(name)) from None

        def __getitem__(cls, name: str) -> Any:
            try:
                return cls._member_map_[name]
            except KeyError:
                raise KeyError(cls._unknown(name)) from None

    def _unknown(cls, name: str) -> str:
        """Return the message for a name that no member has."""
        names = list(cls.__members__)
        owner = next((other for other in _other_enums(cls) if name in other.__members__), None)
        fix = f"it has {', '.join(names) or 'no members'}"
        if owner is not None:
            fix = f"it is in {owner.__name__}"
        elif nearest := difflib.get_close_matches(str(name).upper(), names, n=1):
            fix = f"did you mean {nearest[0]}?"
        return f"{cls.__name__} has no member {name}: {fix}"


def _other_enums(cls: enum.EnumMeta) -> list[enum.EnumMeta]:
    """Return the other enums of the same base. The enums of loops have one name, and say nothing about another loop."""
    base: Any = cls.__base__
    others = (other for other in base.__subclasses__() if isinstance(other, enum.EnumMeta))
    return [other for other in others if other.__name__ != cls.__name__]
