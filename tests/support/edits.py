"""Edits of generated source, for engines that run the edited source."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs

from camshaft.compiler.program import Program
from camshaft.compiler.writer import generate

Edit = Callable[[str], str]


def fires(name: str) -> str:
    return rf"^( *)if {name}(?P<unless>[^:\n]*): yield {name}$"


def drop(name: str) -> Edit:
    return lambda source: re.sub(fires(name), r"\1pass", source, flags=re.M)


def twice(name: str) -> Edit:
    return lambda source: re.sub(
        fires(name), rf"\1if {name}\g<unless>: (yield {name}); (yield {name})", source, flags=re.M
    )


def swap(first: str, second: str) -> Edit:
    names = {first: second, second: first}
    return lambda source: re.sub(
        rf"if ({first}|{second}): yield \1", lambda m: f"if {names[m[1]]}: yield {names[m[1]]}", source
    )


def replace(old: str, new: str) -> Edit:
    return lambda source: source.replace(old, new)


def mutate(edit: Edit) -> Callable[[Any], Program]:
    def mutant(loop: Any) -> Program:
        program = generate(loop)
        source = edit(program.source)
        shift = source.count("\n") - program.source.count("\n")
        lines = program.lines | {number + shift: line for number, line in program.lines.items() if shift}
        return attrs.evolve(program, source=source, code=compile(source, program.filename, "exec"), lines=lines)

    return mutant
