"""Mutants of the generated source: each line dropped, doubled or moved; each condition and counter changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import attrs
import pytest

import camshaft.engine.engine
from camshaft.compiler.program import Line, Program
from camshaft.compiler.writer import generate
from camshaft.loop.loop import Loop
from mutants.mutant import Mutant
from mutants.tools import spend

__all__ = ["ALONE", "mutants_of", "unmutated"]

SourceLine = tuple[str, Line]
"""The text of a line of source, and the position of the loop on it."""

EVENT = re.compile(r"( *)(?:if (?P<tested>\w+)(?P<unless>.*): )?yield (?P<name>(?!PENDING_CALL)[A-Z]\w*)$")
"""A line that fires an event."""

IDEMPOTENT = re.compile(r".*\b(break|continue|return)$|.* = [\w. =]+$| *(began|state\.times|inner)")
"""A line that has no effect when it runs a second time: it leaves the block, or assigns the same value."""

HEADER = re.compile(r" *(while|for|if|try|except|def)\b.*:$")


@attrs.frozen
class Edit:
    """A change that replaces the lines ``[first, past)``."""

    kind: str
    name: str
    first: int
    past: int
    lines: tuple[SourceLine, ...]

    def __call__(self, lines: list[SourceLine]) -> list[SourceLine]:
        return [*lines[: self.first], *self.lines, *lines[self.past :]]


# -- known mutants ----------------------------------------------------------------------------------------------------


def _of(families: str, *edits: str) -> list[str]:
    """Return the names of mutants: each edit in each of the families, which are separated by spaces."""
    return [f"{family}: {edit}" for family in families.split() for edit in edits]


AT_DATA = "if PENDING_CALL and state.iteration < fetcher.end_count: yield PENDING_CALL"

TIMED = {
    **dict.fromkeys(("opaque", "declared"), "EPOCH_COMPLETED"),
    "folds": "FOLD_COMPLETED",
    "episodes": "ROLLOUT_COMPLETED",
    "parts": "ROUND_COMPLETED",
}
"""By family: the event at the end of a pass of the outermost loop, to which ``state.times`` gives a duration."""

HARMLESS = {
    **dict.fromkeys(
        _of("opaque declared", "without `if PENDING_CALL: yield PENDING_CALL`")
        + _of("folds", "without `if PENDING_CALL: yield PENDING_CALL` (2)"),
        "after the last event of an epoch no code of a user runs; only another thread could make a call there",
    ),
    **dict.fromkeys(
        _of("opaque declared folds episodes parts", "`if PENDING_CALL: yield PENDING_CALL` twice")
        + _of("folds", "`if PENDING_CALL: yield PENDING_CALL` twice (2)")
        + _of("episodes", *(f"`if PENDING_CALL: yield PENDING_CALL` twice ({number})" for number in (2, 3, 4, 5)))
        + _of("opaque declared folds", f"`{AT_DATA}` twice"),
        "the first of the two lines already applies the pending call",
    ),
    **dict.fromkeys(
        _of(
            "opaque declared folds",
            f"without `{AT_DATA}`",
            f"DATALOADER_STOP_ITERATION before `{AT_DATA}`",
            f"`{AT_DATA}` with `PENDING_CALL`",
            f"`{AT_DATA}` with `PENDING_CALL and not state.iteration < fetcher.end_count`",
        ),
        "it only applies calls that the data makes when it ends, and no case has data that calls the engine",
    ),
    **dict.fromkeys(
        _of("opaque declared folds", "`fetcher.restart()` twice"),
        "the first call already closes the iterator and stores the count",
    ),
    **dict.fromkeys(
        _of("declared folds episodes", "without `output = None`", "without `output = None` (2)")
        + _of("declared folds episodes", "TERMINATE before `output = None`")
        + _of("episodes", "TERMINATE_SINGLE_EPOCH before `output = None`"),
        "it frees memory and changes no event: tests/training/test_graphs.py notices it",
    ),
    **dict.fromkeys(
        _of("opaque declared folds", "GET_BATCH_COMPLETED out before `try:`"),
        "the `except` catches a skip, and a skip at GET_BATCH_COMPLETED takes effect after ITERATION_STARTED",
    ),
    **dict.fromkeys(
        _of("opaque declared folds", "TERMINATE_SINGLE_EPOCH before `fetcher.restart()`"),
        "the old iterator is closed after the handlers instead of before; the next one is opened later in any case",
    ),
    **dict.fromkeys(
        _of("declared", "`if output is not None: state.output = output` with `True`")
        + _of("folds", "`if output is not None: state.output = output` with `True` (2)")
        + _of("episodes", "`if output is not None: state.output = output` with `True`"),
        "no phase ran before it in this pass, so the output is already None",
    ),
    **dict.fromkeys(
        _of("folds", "`if not state.within_limits(): break` with continue"),
        "it reads the remaining elements, but no fold begins",
    ),
    **dict.fromkeys(
        [
            name
            for family, event in TIMED.items()
            for key, began in ((event, "began_pass"), ("COMPLETED", "began"))
            for line in [f'`state.times["{key}"] = perf_counter() - {began}`']
            for name in _of(family, f"without {line} (2)", f"{key} after {line}")
        ],
        "it adds the time of handlers, which is another in every run: tests/promises/test_same_as_ignite.py notices it",
    ),
    **dict.fromkeys(
        _of("deep", "`yield from inner` twice"),
        "a finished generator yields nothing",
    ),
}
"""By mutant: the reason why it has no observable effect."""

ALONE = "each event is also tested on its own line"
UNGROUPED = re.compile(r"(out (before|of) `if any_handlers:`|`if any_handlers:` with `True`)( \(\d+\))?$")
"""Mutants that move an event out of a group, or remove the test of the group. Each event keeps its own test."""

GAPS = {
    "opaque: ITERATION_COMPLETED and ITERATION_SKIPPED swapped": "it passes ITERATION_SKIPPED after an INTERRUPT at "
    "ITERATION_STARTED, where a skip can no longer be requested",
}
"""By mutant: an order that ``assert_legal`` accepts although the loop cannot fire it."""

# -- programs ---------------------------------------------------------------------------------------------------------


class MutatedProgram(Program):
    """A program whose loops call ``spend()`` in each pass, so that an endless loop is stopped."""

    def namespace(self, loop: Loop) -> dict[str, Any]:
        """Return a new namespace that also has ``spend``."""
        namespace = super().namespace(loop)
        namespace["spend"] = spend
        return namespace


def lines_of(program: Program) -> list[SourceLine]:
    """Return the lines of a program."""
    return [(text, program.lines[number]) for number, text in enumerate(program.source.splitlines(), 1)]


def program_of(program: Program, lines: list[SourceLine]) -> Program:
    """Return a program with other lines, and with a call of ``spend()`` in each loop.

    Raises:
        SyntaxError: the lines do not compile.
    """
    counted: list[SourceLine] = []
    for text, line in lines:
        counted.append((text, line))
        if re.match(r" *(while|for) .*:$", text):
            counted.append((f"{_indent(text)}    spend()", attrs.evolve(line, event=None)))
    source = "\n".join(text for text, _ in counted) + "\n"
    fields = {field.name: getattr(program, field.name) for field in attrs.fields(Program)}
    fields |= {"source": source, "code": compile(source, program.filename, "exec")}
    fields |= {"lines": {number: line for number, (_, line) in enumerate(counted, 1)}}
    return MutatedProgram(**fields)


@contextmanager
def generating(mutate: Callable[[Program], Program | None]) -> Iterator[None]:
    """Let engines that are made in the block run mutated programs. A result of None leaves a program as it is."""
    made: dict[str, Program] = {}

    def generate_mutant(loop: Loop) -> Program:
        program = generate(loop)
        if program.source not in made:
            made[program.source] = mutate(program) or program_of(program, lines_of(program))
        return made[program.source]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(camshaft.engine.engine, "generate", generate_mutant)
        yield


def unmutated() -> AbstractContextManager[None]:
    """Let engines that are made in the block run unmutated programs that call ``spend()``."""
    return generating(lambda program: None)


def _applied(source: str, mutant: Program) -> AbstractContextManager[None]:
    return generating(lambda program: mutant if program.source == source else None)


def mutants_of(family: str, loop: Loop) -> Iterator[Mutant]:
    """Yield all mutants of the source of a loop. ``applied`` of a mutant that does not compile is None."""
    program = generate(loop)
    lines = lines_of(program)
    delegates = [index for index, (_, line) in enumerate(lines) if line.delegates]
    second = max(index for index, (text, _) in enumerate(lines) if text.startswith("def "))
    seen = {program.source}
    names: Counter[str] = Counter()
    for edit in edits(lines):
        if delegates and not (delegates[0] - 1 <= edit.first and edit.past <= delegates[0] + 1) and edit.first < second:
            continue  # the rest of the outer function is like the functions of other loops
        names[edit.name] += 1
        name = f"{family}: {edit.name}" + f" ({names[edit.name]})" * (names[edit.name] > 1)
        try:
            mutant = program_of(program, edit(lines))
        except SyntaxError:
            yield Mutant(f"source: {edit.kind}", name, family, None)
            continue
        if mutant.source not in seen:
            seen.add(mutant.source)
            applied = partial(_applied, program.source, mutant)
            alone = ALONE if UNGROUPED.search(name) else None
            yield Mutant(f"source: {edit.kind}", name, family, applied, HARMLESS.get(name, alone), GAPS.get(name))


# -- edits ------------------------------------------------------------------------------------------------------------


def edits(lines: list[SourceLine]) -> Iterator[Edit]:
    """Yield every edit of the lines."""
    for make in (drops, doubles, swaps, moves, conditions, passes, counts, handlers, work):
        yield from make(lines)


def drops(lines: list[SourceLine]) -> Iterator[Edit]:
    """Yield edits that replace a line by ``pass``."""
    for index, (text, line) in enumerate(lines):
        if _is_simple(text):
            what = "event dropped" if EVENT.match(text) else "statement dropped"
            yield _replace(what, f"without `{text.strip()}`", index, [(f"{_indent(text)}pass", _silent(line))])


def doubles(lines: list[SourceLine]) -> Iterator[Edit]:
    """Yield edits that run a line twice."""
    for index, (text, line) in enumerate(lines):
        if _is_simple(text) and not IDEMPOTENT.match(text):
            what = "event twice" if EVENT.match(text) else "statement twice"
            yield _replace(what, f"`{text.strip()}` twice", index, [(text, line)] * 2)


def swaps(lines: list[SourceLine]) -> Iterator[Edit]:
    """Yield edits that swap an event with the next one."""
    fires = [index for index, (text, _) in enumerate(lines) if EVENT.match(text)]
    for one, other in pairwise(fires):
        names = [_name(lines[index][0]) for index in (one, other)]
        if names[0] != names[1] and _function(lines, one) == _function(lines, other):
            first, second = _firing(lines[one], lines[other]), _firing(lines[other], lines[one])
            swapped = (first, *lines[one + 1 : other], second)
            yield Edit("events swapped", f"{names[0]} and {names[1]} swapped", one, other + 1, swapped)


def moves(lines: list[SourceLine]) -> Iterator[Edit]:
    """Yield edits that move an event past the statement next to it, or out of its block."""
    for index, (text, _) in enumerate(lines):
        if EVENT.match(text):
            for where, first, past, moved in (*_moved_beside(lines, index), *_moved_out(lines, index)):
                yield Edit("event moved", f"{_name(text)} {where}", first, past, tuple(moved))


Relocation = tuple[str, int, int, Iterable[SourceLine]]
"""The new place in words, then ``first``, ``past`` and ``lines`` of an :class:`Edit`."""


def _moved_beside(lines: list[SourceLine], index: int) -> Iterator[Relocation]:
    """Yield the moves of a line past the statement before it, and past the statement after it."""
    source_line, before, after = lines[index], _sibling_before(lines, index), _sibling_after(lines, index)
    if before is not None and not EVENT.match(lines[before][0]):
        yield f"before `{lines[before][0].strip()}`", before, index + 1, (source_line, *lines[before:index])
    if after is not None and not EVENT.match(lines[index + 1][0]):
        yield f"after `{lines[index + 1][0].strip()}`", index, after, (*lines[index + 1 : after], source_line)


def _moved_out(lines: list[SourceLine], index: int) -> Iterator[Relocation]:
    """Yield the move of a line out of the block that it begins or ends."""
    source_line, before, after = lines[index], _sibling_before(lines, index), _sibling_after(lines, index)
    opening = _opening(lines, index)
    header, width = lines[opening], len(_indent(lines[opening][0]))
    if header[0].startswith("def "):
        return
    if opening == index - 1 and "except" not in header[0]:
        left = [(f"{_indent(source_line[0])}pass", _silent(source_line[1]))] if after is None else []
        yield f"out before `{header[0].strip()}`", opening, index + 1, (_indented(source_line, width), header, *left)
    elif after is None and before is not None:
        end = _end_of_block(lines, index)
        yield f"out of `{header[0].strip()}`", index, end, (*lines[index + 1 : end], _indented(source_line, width))


def conditions(lines: list[SourceLine]) -> Iterator[Edit]:
    """Yield edits that negate a condition, remove a part of it, or replace it by a constant."""
    for index, (text, line) in enumerate(lines):
        fires = EVENT.match(text)
        found = re.match(r"( *)(if|while) (.+?):( .*)?$", text)
        if found is None or (fires is not None and not fires["unless"] and "restart_if_exhausted" not in text):
            continue
        indent, word, condition, rest = found[1], found[2], found[3], found[4] or ""
        for new in _changed(condition):
            kind = "event guard changed" if fires else "guard changed"
            yield _replace(kind, f"`{text.strip()}` with `{new}`", index, [(f"{indent}{word} {new}:{rest}", line)])


def _changed(condition: str) -> Iterator[str]:
    """Yield other conditions for a condition."""
    parts = condition.split(" and ")
    if len(parts) > 1:
        for number, part in enumerate(parts):
            if not re.fullmatch(r"[A-Z]\w*", part):  # an event without handlers cannot be yielded
                others = [one for place, one in enumerate(parts) if place != number]
                yield " and ".join(others)
                yield " and ".join([*parts[:number], f"not {part}", *parts[number + 1 :]])
        return
    if re.fullmatch(r"not .*", condition):
        yield condition.removeprefix("not ")
    elif re.fullmatch(r"[A-Z]\w*", condition):
        return
    else:
        yield f"not {condition}"
    yield "True"
    yield "False"
    modulus = re.fullmatch(r"(.*) % (\d+) == 0", condition)
    if modulus is not None:
        yield f"{modulus[1]} % {modulus[2]} == 1"
        yield f"{modulus[1]} % {int(modulus[2]) + 1} == 0"


def passes(lines: list[SourceLine]) -> Iterator[Edit]:
    """Yield edits that drop or repeat a pass of a loop, end it early, or continue it."""
    for index, (text, line) in enumerate(lines):
        found = re.match(r"( *)(while|for) (.+):$", text)
        if found is not None:
            inner, end = f"{found[1]}    ", _block_end(lines, index)
            early = (*lines[index:end], (f"{inner}break", _silent(lines[end - 1][1])))
            yield Edit("pass lost or repeated", f"`{text.strip()}` ends after one pass", index, end, early)
            counted = _counter_in(lines, index, end)
            if counted is not None:
                yield from _lost_passes(lines, index, end, counted)
        loop = re.match(r"( *)for (.+) in (.+):$", text)
        if loop is not None:
            target, elements = loop[2], loop[3]
            for what, changed in {
                "loses its first pass": f"islice({elements}, 1, None)",
                "has its first pass only": f"islice({elements}, 1)",
                "takes each element twice": f"(one for one in {elements} for _ in range(2))",
            }.items():
                new = f"{loop[1]}for {target} in {changed}:"
                yield _replace("pass lost or repeated", f"`{text.strip()}` {what}", index, [(new, line)])
        for number in re.findall(r"range\((\d+)\)", text):
            for n in {int(number) - 1, int(number) + 1}:
                new = text.replace(f"range({number})", f"range({n})")
                yield _replace("pass lost or repeated", f"`{text.strip()}` {n} times", index, [(new, line)])
        for word, other in (("break", "continue"), ("continue", "break"), ("return", "pass")):
            if re.search(rf"\b{word}$", text):
                new = re.sub(rf"\b{word}$", other, text)
                yield _replace("control changed", f"`{text.strip()}` with {other}", index, [(new, line)])


def _lost_passes(lines: list[SourceLine], index: int, end: int, counter: str) -> Iterator[Edit]:
    """Yield edits that count the second pass without making it, or make the first pass twice under one count."""
    text, line = lines[index]
    inner = f"{_indent(text)}    "
    counted = _silent(line)
    lost = (
        (f"{inner}if {counter} == 1:", counted),
        (f"{inner}    {counter} += 1", counted),
        (f"{inner}    continue", counted),
    )
    changed = (lines[index], *lost, *lines[index + 1 : end])
    yield Edit("pass lost or repeated", f"`{text.strip()}` without pass 2", index, end, changed)
    again = (
        (f"{inner}if {counter} == 1 and not hasattr(state, 'again'):", counted),
        (f"{inner}    {counter}, state.again = 0, True", counted),
    )
    yield Edit("pass lost or repeated", f"`{text.strip()}` makes pass 1 twice", index, end, (*lines[index:end], *again))


def counts(lines: list[SourceLine]) -> Iterator[Edit]:
    """Yield edits that change a counter by another number, or later."""
    for index, (text, line) in enumerate(lines):
        if not text.endswith(" += 1"):
            continue
        for what in (" += 2", " -= 1"):
            new = text.replace(" += 1", what)
            yield _replace("counter changed", f"`{text.strip()}` with `{what.strip()}`", index, [(new, line)])
        after = next((place for place in range(index + 1, len(lines)) if EVENT.match(lines[place][0])), None)
        if after is not None and not any(HEADER.match(one) for one, _ in lines[index:after] if "try" not in one):
            source_line = _indented(lines[index], len(_indent(lines[after][0])))
            moved = (*lines[index + 1 : after + 1], source_line)
            yield Edit("counter changed", f"`{text.strip()}` after {_name(lines[after][0])}", index, after + 1, moved)


def handlers(lines: list[SourceLine]) -> Iterator[Edit]:
    """Yield edits that let an ``except`` catch the exception of another control call, or of none."""
    for index, (text, line) in enumerate(lines):
        found = re.match(r"( *)except (\w+)(.*)$", text)
        if found is None:
            continue
        others = {"SkipIteration", "TerminateEpoch", "Terminate", "ZeroDivisionError"} - {found[2]}
        for other in sorted(others):
            new = f"{found[1]}except {other}{found[3]}"
            yield _replace("control changed", f"`{text.strip()}` with {other}", index, [(new, line)])


def work(lines: list[SourceLine]) -> Iterator[Edit]:
    """Yield edits that pass no batch to a function of the loop, or drop its output."""
    has_data = any("fetcher.begin_epoch()" in text for text, _ in lines)
    for index, (text, line) in enumerate(lines):
        found = re.match(r"( *)(state\.output|output) = (\w+)\(engine, state\.batch\)$", text)
        if found is None:
            continue
        if has_data:
            new = text.replace("state.batch", "None")
            yield _replace("work changed", f"`{text.strip()}` without a batch", index, [(new, line)])
        lost = f"{found[1]}{found[3]}(engine, state.batch)"
        yield _replace("work changed", f"what `{found[3]}` gives is lost", index, [(lost, line)])


# -- lines ------------------------------------------------------------------------------------------------------------


def _replace(kind: str, name: str, index: int, lines: Iterable[SourceLine]) -> Edit:
    return Edit(kind, name, index, index + 1, tuple(lines))


def _indent(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _indented(source_line: SourceLine, width: int) -> SourceLine:
    return " " * width + source_line[0].lstrip(), source_line[1]


def _silent(line: Line) -> Line:
    """Return the position of a line that fires no event."""
    return attrs.evolve(line, event=None)


def _is_simple(text: str) -> bool:
    """Return whether a line is a complete statement."""
    return bool(text.strip()) and not text.endswith(":") and '"""' not in text and "__tracebackhide__" not in text


def _name(text: str) -> str:
    found = EVENT.match(text)
    assert found is not None
    return found["name"]


def _firing(place: SourceLine, event: SourceLine) -> SourceLine:
    """Return the line at one place, changed to fire the event of another line."""
    old, new = _name(place[0]), _name(event[0])
    return re.sub(rf"\b{old}\b", new, place[0]), attrs.evolve(place[1], event=event[1].event, last_event=event[1].event)


def _function(lines: list[SourceLine], index: int) -> int:
    """Return the index of the ``def`` line of the function that contains a line."""
    return max(place for place in range(index + 1) if lines[place][0].startswith("def "))


def _block_end(lines: list[SourceLine], header: int) -> int:
    """Return the index after the block of a header."""
    width = len(_indent(lines[header][0]))
    ends = (place for place in range(header + 1, len(lines)) if len(_indent(lines[place][0])) <= width)
    return next(ends, len(lines))


def _opening(lines: list[SourceLine], index: int) -> int:
    """Return the index of the header of the block that contains a line."""
    width = len(_indent(lines[index][0]))
    return max(place for place in range(index) if len(_indent(lines[place][0])) < width and lines[place][0].strip())


def _end_of_block(lines: list[SourceLine], index: int) -> int:
    """Return the index after the whole statement whose block contains a line, with its ``except`` blocks."""
    header = _opening(lines, index)
    end = _block_end(lines, header)
    while end < len(lines) and lines[end][0].startswith(f"{_indent(lines[header][0])}except"):
        end = _block_end(lines, end)
    return end


def _sibling_before(lines: list[SourceLine], index: int) -> int | None:
    """Return the index of the previous statement in the same block, or None."""
    width = len(_indent(lines[index][0]))
    for place in range(index - 1, -1, -1):
        here = len(_indent(lines[place][0]))
        if here < width:
            return None
        if here == width and not lines[place][0].lstrip().startswith("except"):
            return None if '"""' in lines[place][0] else place
    return None


def _sibling_after(lines: list[SourceLine], index: int) -> int | None:
    """Return the index after the next statement in the same block, or None."""
    width = len(_indent(lines[index][0]))
    if index + 1 >= len(lines) or len(_indent(lines[index + 1][0])) != width or not lines[index + 1][0].strip():
        return None
    if lines[index + 1][0].lstrip().startswith("except"):
        return None
    if not HEADER.match(lines[index + 1][0]):
        return index + 2
    end = _block_end(lines, index + 1)
    while end < len(lines) and lines[end][0].startswith(f"{' ' * width}except"):
        end = _block_end(lines, end)
    return end


def _counter_in(lines: list[SourceLine], index: int, end: int) -> str | None:
    """Return the counter of the loop of a header, or None if the loop has no counter."""
    body = [text for text, _ in lines[index + 1 : end]]
    width = len(_indent(lines[index][0])) + 4
    own = [text for text in body if len(_indent(text)) <= width + 4]
    found = [re.search(r"(state\.\w+) \+= 1$", text) for text in own]
    return next((match[1] for match in found if match is not None), None)
