"""Mutants of the generated source: every line of it dropped, doubled, moved; every condition and counter changed."""

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
"""A line of source, and where the loop stands on it."""

EVENT = re.compile(r"( *)(?:if (?P<tested>\w+)(?P<unless>.*): )?yield (?P<name>(?!PENDING_CALL)[A-Z]\w*)$")
"""A line that fires an event."""

IDEMPOTENT = re.compile(r".*\b(break|continue|return)$|.* = [\w. =]+$| *(began|state\.times|inner)")
"""A line that does nothing when it runs a second time: it has left, or assigns the same."""

HEADER = re.compile(r" *(while|for|if|try|except|def)\b.*:$")


@attrs.frozen
class Edit:
    """A change of some lines: those from ``first`` up to ``past`` are replaced."""

    kind: str
    name: str
    first: int
    past: int
    rows: tuple[SourceLine, ...]

    def __call__(self, rows: list[SourceLine]) -> list[SourceLine]:
        return [*rows[: self.first], *self.rows, *rows[self.past :]]


# -- what is known of some of them ------------------------------------------------------------------------------------


def _of(families: str, *edits: str) -> list[str]:
    """The names of mutants: an edit, or each of some, in each of some families."""
    return [f"{family}: {edit}" for family in families.split() for edit in edits]


AT_DATA = "if PENDING_CALL and state.iteration < fetcher.end_count: yield PENDING_CALL"

HARMLESS = {
    **dict.fromkeys(
        _of("opaque declared", "without `if PENDING_CALL: yield PENDING_CALL`")
        + _of("folds", "without `if PENDING_CALL: yield PENDING_CALL` (2)"),
        "behind the last event of an epoch no code of a user runs; another thread could call there",
    ),
    **dict.fromkeys(
        _of("opaque declared folds episodes parts", "`if PENDING_CALL: yield PENDING_CALL` twice")
        + _of("folds", "`if PENDING_CALL: yield PENDING_CALL` twice (2)")
        + _of("episodes", *(f"`if PENDING_CALL: yield PENDING_CALL` twice ({number})" for number in (2, 3, 4)))
        + _of("opaque declared folds", f"`{AT_DATA}` twice"),
        "what it lets take effect has taken effect at the first",
    ),
    **dict.fromkeys(
        _of(
            "opaque declared folds",
            f"without `{AT_DATA}`",
            f"DATALOADER_STOP_ITERATION before `{AT_DATA}`",
            f"`{AT_DATA}` with `PENDING_CALL`",
            f"`{AT_DATA}` with `PENDING_CALL and not state.iteration < fetcher.end_count`",
        ),
        "only what data calls as it ends takes effect there, and no case has data that calls the engine",
    ),
    **dict.fromkeys(
        _of("opaque declared folds", "`fetcher.restart()` twice"),
        "the iterator is closed and the count is taken at the first",
    ),
    **dict.fromkeys(
        _of("opaque declared folds", "GET_BATCH_COMPLETED out before `try:`"),
        "the `except` is for a skip, and a skip at GET_BATCH_COMPLETED waits for ITERATION_STARTED",
    ),
    **dict.fromkeys(
        _of("opaque declared folds", "TERMINATE_SINGLE_EPOCH before `fetcher.restart()`"),
        "only when the old iterator is closed changes, before or after the handlers; the next one is opened later",
    ),
    **dict.fromkeys(
        _of("declared", "`if output is not None: state.output = output` with `True`")
        + _of("folds", "`if output is not None: state.output = output` with `True` (2)")
        + _of("episodes", "`if output is not None: state.output = output` with `True`"),
        "no phase ran before it in this pass, so that the output is None already",
    ),
    **dict.fromkeys(
        _of("folds", "`fetcher.begin_epoch()` twice", "EPOCH_STARTED after `fetcher.begin_epoch()`")
        + _of("folds", "`if not state.resumed: state.fold += 1` with `True`")
        + _of("folds", "`if not state.resumed: state.epoch += 1` with `True`"),
        "a loop with states beside the epoch cannot go on in the middle of a pass, so that it is never resumed there",
    ),
    **dict.fromkeys(
        _of("folds", "`if not state.within_limits(): break` with continue"),
        "the elements that are left are looked at, and no fold begins with one",
    ),
    **dict.fromkeys(
        _of("deep", "`yield from inner` twice"),
        "a generator that has ended gives nothing more",
    ),
}
"""By mutant: why nobody can see it."""

ALONE = "each event is tested by itself as well"
UNGROUPED = re.compile(r"(out (before|of) `if any_handlers:`|`if any_handlers:` with `True`)( \(\d+\))?$")
"""Mutants that have an event of a group tested without the group's test: each is tested by itself in there as well."""

GAPS = {
    "opaque: ITERATION_COMPLETED and ITERATION_SKIPPED swapped": "it passes ITERATION_SKIPPED behind an INTERRUPT at "
    "ITERATION_STARTED, where a skip cannot be asked for any more",
}
"""By mutant: what ``assert_legal`` passes there, though the loop cannot do it."""

# -- programs ---------------------------------------------------------------------------------------------------------


class MutatedProgram(Program):
    """A program whose loops take note of each pass, so that one that never ends can be stopped."""

    def namespace(self, loop: Loop) -> dict[str, Any]:
        """A new namespace."""
        namespace = super().namespace(loop)
        namespace["spend"] = spend
        return namespace


def rows_of(program: Program) -> list[SourceLine]:
    """Its lines."""
    return [(text, program.lines[number]) for number, text in enumerate(program.source.splitlines(), 1)]


def program_of(program: Program, rows: list[SourceLine]) -> Program:
    """The same program with other lines.

    Raises:
        SyntaxError: they do not compile.
    """
    counted: list[SourceLine] = []
    for text, line in rows:
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
    """Engines that are made in here run other programs."""
    made: dict[str, Program] = {}

    def generate_mutant(loop: Loop) -> Program:
        program = generate(loop)
        if program.source not in made:
            made[program.source] = mutate(program) or program_of(program, rows_of(program))
        return made[program.source]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(camshaft.engine.engine, "generate", generate_mutant)
        yield


def unmutated() -> AbstractContextManager[None]:
    """Engines that are made in here run the loop as it is, with the passes counted."""
    return generating(lambda program: None)


def _applied(source: str, mutant: Program) -> AbstractContextManager[None]:
    return generating(lambda program: mutant if program.source == source else None)


def mutants_of(family: str, loop: Loop) -> Iterator[Mutant]:
    """All mutants of the source of a loop; one that does not compile has nothing to apply."""
    program = generate(loop)
    rows = rows_of(program)
    delegates = [index for index, (_, line) in enumerate(rows) if line.delegates]
    second = max(index for index, (text, _) in enumerate(rows) if text.startswith("def "))
    seen = {program.source}
    names: Counter[str] = Counter()
    for edit in edits(rows):
        if delegates and not (delegates[0] - 1 <= edit.first and edit.past <= delegates[0] + 1) and edit.first < second:
            continue  # the rest of the outer function is like that of other loops
        names[edit.name] += 1
        name = f"{family}: {edit.name}" + f" ({names[edit.name]})" * (names[edit.name] > 1)
        try:
            mutant = program_of(program, edit(rows))
        except SyntaxError:
            yield Mutant(f"source: {edit.kind}", name, family, None)
            continue
        if mutant.source not in seen:
            seen.add(mutant.source)
            applied = partial(_applied, program.source, mutant)
            alone = ALONE if UNGROUPED.search(name) else None
            yield Mutant(f"source: {edit.kind}", name, family, applied, HARMLESS.get(name, alone), GAPS.get(name))


# -- edits ------------------------------------------------------------------------------------------------------------


def edits(rows: list[SourceLine]) -> Iterator[Edit]:
    """Every small change of some source."""
    for make in (drops, doubles, swaps, moves, conditions, passes, counts, handlers, work):
        yield from make(rows)


def drops(rows: list[SourceLine]) -> Iterator[Edit]:
    """A line does nothing."""
    for index, (text, line) in enumerate(rows):
        if _is_simple(text):
            what = "event dropped" if EVENT.match(text) else "statement dropped"
            yield _replace(what, f"without `{text.strip()}`", index, [(f"{_indent(text)}pass", _silent(line))])


def doubles(rows: list[SourceLine]) -> Iterator[Edit]:
    """A line does what it does twice."""
    for index, (text, line) in enumerate(rows):
        if _is_simple(text) and not IDEMPOTENT.match(text):
            what = "event twice" if EVENT.match(text) else "statement twice"
            yield _replace(what, f"`{text.strip()}` twice", index, [(text, line)] * 2)


def swaps(rows: list[SourceLine]) -> Iterator[Edit]:
    """An event fires in the place of the next one, and that in its place."""
    fires = [index for index, (text, _) in enumerate(rows) if EVENT.match(text)]
    for one, other in pairwise(fires):
        names = [_name(rows[index][0]) for index in (one, other)]
        if names[0] != names[1] and _function(rows, one) == _function(rows, other):
            first, second = _firing(rows[one], rows[other]), _firing(rows[other], rows[one])
            swapped = (first, *rows[one + 1 : other], second)
            yield Edit("events swapped", f"{names[0]} and {names[1]} swapped", one, other + 1, swapped)


def moves(rows: list[SourceLine]) -> Iterator[Edit]:
    """An event fires before or after what stands beside it, or out of the block that it begins or ends."""
    for index, (text, _) in enumerate(rows):
        if EVENT.match(text):
            for where, first, past, moved in (*_moved_beside(rows, index), *_moved_out(rows, index)):
                yield Edit("event moved", f"{_name(text)} {where}", first, past, tuple(moved))


Move = tuple[str, int, int, Iterable[SourceLine]]
"""Where to, and what an :class:`Edit` has."""


def _moved_beside(rows: list[SourceLine], index: int) -> Iterator[Move]:
    """The moves of a line past the statement before it and the one after it."""
    row, before, after = rows[index], _sibling_before(rows, index), _sibling_after(rows, index)
    if before is not None and not EVENT.match(rows[before][0]):
        yield f"before `{rows[before][0].strip()}`", before, index + 1, (row, *rows[before:index])
    if after is not None and not EVENT.match(rows[index + 1][0]):
        yield f"after `{rows[index + 1][0].strip()}`", index, after, (*rows[index + 1 : after], row)


def _moved_out(rows: list[SourceLine], index: int) -> Iterator[Move]:
    """The move of a line out of the block that it begins, or else of the one that it ends."""
    row, before, after = rows[index], _sibling_before(rows, index), _sibling_after(rows, index)
    opening = _opening(rows, index)
    header, width = rows[opening], len(_indent(rows[opening][0]))
    if header[0].startswith("def "):
        return
    if opening == index - 1 and "except" not in header[0]:
        left = [(f"{_indent(row[0])}pass", _silent(row[1]))] if after is None else []
        yield f"out before `{header[0].strip()}`", opening, index + 1, (_indented(row, width), header, *left)
    elif after is None and before is not None:
        end = _end_of_block(rows, index)
        yield f"out of `{header[0].strip()}`", index, end, (*rows[index + 1 : end], _indented(row, width))


def conditions(rows: list[SourceLine]) -> Iterator[Edit]:
    """A condition is turned around, left out, or never holds."""
    for index, (text, line) in enumerate(rows):
        fires = EVENT.match(text)
        found = re.match(r"( *)(if|while) (.+?):( .*)?$", text)
        if found is None or (fires is not None and not fires["unless"] and "restart_if_exhausted" not in text):
            continue
        indent, word, condition, rest = found[1], found[2], found[3], found[4] or ""
        for new in _changed(condition):
            kind = "event guard changed" if fires else "guard changed"
            yield _replace(kind, f"`{text.strip()}` with `{new}`", index, [(f"{indent}{word} {new}:{rest}", line)])


def _changed(condition: str) -> Iterator[str]:
    """Other conditions in the place of one."""
    parts = condition.split(" and ")
    if len(parts) > 1:
        for number, part in enumerate(parts):
            if not re.fullmatch(r"[A-Z]\w*", part):  # an event that nobody hears cannot be yielded
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


def passes(rows: list[SourceLine]) -> Iterator[Edit]:
    """A loop loses a pass, repeats it, ends early, or goes on."""
    for index, (text, line) in enumerate(rows):
        found = re.match(r"( *)(while|for) (.+):$", text)
        if found is not None:
            inner, end = f"{found[1]}    ", _block_end(rows, index)
            early = (*rows[index:end], (f"{inner}break", _silent(rows[end - 1][1])))
            yield Edit("pass lost or repeated", f"`{text.strip()}` ends after one pass", index, end, early)
            counted = _counter_in(rows, index, end)
            if counted is not None:
                yield from _lost_passes(rows, index, end, counted)
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


def _lost_passes(rows: list[SourceLine], index: int, end: int, counter: str) -> Iterator[Edit]:
    """The second pass is counted but not made; or the first one is made and forgotten, and so made again."""
    text, line = rows[index]
    inner = f"{_indent(text)}    "
    counted = _silent(line)
    lost = (
        (f"{inner}if {counter} == 1:", counted),
        (f"{inner}    {counter} += 1", counted),
        (f"{inner}    continue", counted),
    )
    changed = (rows[index], *lost, *rows[index + 1 : end])
    yield Edit("pass lost or repeated", f"`{text.strip()}` without pass 2", index, end, changed)
    again = (
        (f"{inner}if {counter} == 1 and not hasattr(state, 'again'):", counted),
        (f"{inner}    {counter}, state.again = 0, True", counted),
    )
    yield Edit("pass lost or repeated", f"`{text.strip()}` makes pass 1 twice", index, end, (*rows[index:end], *again))


def counts(rows: list[SourceLine]) -> Iterator[Edit]:
    """A counter is changed by another number, or later."""
    for index, (text, line) in enumerate(rows):
        if not text.endswith(" += 1"):
            continue
        for what in (" += 2", " -= 1"):
            new = text.replace(" += 1", what)
            yield _replace("counter changed", f"`{text.strip()}` with `{what.strip()}`", index, [(new, line)])
        after = next((place for place in range(index + 1, len(rows)) if EVENT.match(rows[place][0])), None)
        if after is not None and not any(HEADER.match(one) for one, _ in rows[index:after] if "try" not in one):
            row = _indented(rows[index], len(_indent(rows[after][0])))
            moved = (*rows[index + 1 : after + 1], row)
            yield Edit("counter changed", f"`{text.strip()}` after {_name(rows[after][0])}", index, after + 1, moved)


def handlers(rows: list[SourceLine]) -> Iterator[Edit]:
    """What a control call throws is not caught, or caught where another one is."""
    for index, (text, line) in enumerate(rows):
        found = re.match(r"( *)except (\w+)(.*)$", text)
        if found is None:
            continue
        others = {"SkipIteration", "TerminateEpoch", "Terminate", "ZeroDivisionError"} - {found[2]}
        for other in sorted(others):
            new = f"{found[1]}except {other}{found[3]}"
            yield _replace("control changed", f"`{text.strip()}` with {other}", index, [(new, line)])


def work(rows: list[SourceLine]) -> Iterator[Edit]:
    """A function of the loop gets another batch, or what it gives is lost."""
    has_data = any("fetcher.begin_epoch()" in text for text, _ in rows)
    for index, (text, line) in enumerate(rows):
        found = re.match(r"( *)(state\.output|output) = (\w+)\(engine, state\.batch\)$", text)
        if found is None:
            continue
        if has_data:
            new = text.replace("state.batch", "None")
            yield _replace("work changed", f"`{text.strip()}` without a batch", index, [(new, line)])
        lost = f"{found[1]}{found[3]}(engine, state.batch)"
        yield _replace("work changed", f"what `{found[3]}` gives is lost", index, [(lost, line)])


# -- lines ------------------------------------------------------------------------------------------------------------


def _replace(kind: str, name: str, index: int, rows: Iterable[SourceLine]) -> Edit:
    return Edit(kind, name, index, index + 1, tuple(rows))


def _indent(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _indented(row: SourceLine, width: int) -> SourceLine:
    return " " * width + row[0].lstrip(), row[1]


def _silent(line: Line) -> Line:
    """A line that fires nothing."""
    return attrs.evolve(line, event=None)


def _is_simple(text: str) -> bool:
    """Whether it is a statement in one line."""
    return bool(text.strip()) and not text.endswith(":") and '"""' not in text


def _name(text: str) -> str:
    found = EVENT.match(text)
    assert found is not None
    return found["name"]


def _firing(place: SourceLine, event: SourceLine) -> SourceLine:
    """A line at one place that fires the event of another."""
    old, new = _name(place[0]), _name(event[0])
    return re.sub(rf"\b{old}\b", new, place[0]), attrs.evolve(place[1], event=event[1].event, last_event=event[1].event)


def _function(rows: list[SourceLine], index: int) -> int:
    """Where the function begins that a line is in."""
    return max(place for place in range(index + 1) if rows[place][0].startswith("def "))


def _block_end(rows: list[SourceLine], header: int) -> int:
    """Past the block that a header opens."""
    width = len(_indent(rows[header][0]))
    ends = (place for place in range(header + 1, len(rows)) if len(_indent(rows[place][0])) <= width)
    return next(ends, len(rows))


def _opening(rows: list[SourceLine], index: int) -> int:
    """The header of the block that a line is in."""
    width = len(_indent(rows[index][0]))
    return max(place for place in range(index) if len(_indent(rows[place][0])) < width and rows[place][0].strip())


def _end_of_block(rows: list[SourceLine], index: int) -> int:
    """Past the whole statement whose block a line is in, with all that belongs to it."""
    header = _opening(rows, index)
    end = _block_end(rows, header)
    while end < len(rows) and rows[end][0].startswith(f"{_indent(rows[header][0])}except"):
        end = _block_end(rows, end)
    return end


def _sibling_before(rows: list[SourceLine], index: int) -> int | None:
    """Where the statement before a line begins, in the same block."""
    width = len(_indent(rows[index][0]))
    for place in range(index - 1, -1, -1):
        here = len(_indent(rows[place][0]))
        if here < width:
            return None
        if here == width and not rows[place][0].lstrip().startswith("except"):
            return None if '"""' in rows[place][0] else place
    return None


def _sibling_after(rows: list[SourceLine], index: int) -> int | None:
    """Past the statement after a line, in the same block."""
    width = len(_indent(rows[index][0]))
    if index + 1 >= len(rows) or len(_indent(rows[index + 1][0])) != width or not rows[index + 1][0].strip():
        return None
    if rows[index + 1][0].lstrip().startswith("except"):
        return None
    if not HEADER.match(rows[index + 1][0]):
        return index + 2
    end = _block_end(rows, index + 1)
    while end < len(rows) and rows[end][0].startswith(f"{' ' * width}except"):
        end = _block_end(rows, end)
    return end


def _counter_in(rows: list[SourceLine], index: int, end: int) -> str | None:
    """The counter of the loop that a header opens; None where it counts nothing itself."""
    body = [text for text, _ in rows[index + 1 : end]]
    width = len(_indent(rows[index][0])) + 4
    own = [text for text in body if len(_indent(text)) <= width + 4]
    found = [re.search(r"(state\.\w+) \+= 1$", text) for text in own]
    return next((match[1] for match in found if match is not None), None)
