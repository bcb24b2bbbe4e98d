"""Random patterns, against the regular expressions of Python and against sets of positions."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from camshaft import Engine, Trace, record
from camshaft.events import event_name
from camshaft.testing import Scenario, loops, scenarios
from camshaft.trace.spans import span_events, spans
from support.patterns import matches
from support.steps import no_op

LETTERS = "abcd"


def trace_of(word):
    """Return a trace of custom events, one for each letter."""
    engine = Engine(no_op, name="t")
    engine.register_events(*LETTERS)
    with record() as whole:
        engine.run([1])
    made = Trace()
    made.runs = whole.runs
    made.segments = [[0, 0, len(word)]]
    for letter in word:
        made.append(0, letter, 1, 0.0)
    return made


repetitions = st.sampled_from(["", "*", "+", "?", "{2}", "{0}", "{,2}", "{1,}", "{1,2}"])
letters = st.sampled_from(LETTERS)


def extended(inner):
    grouped = st.tuples(inner, repetitions).map(lambda pair: (f"({pair[0][0]}){pair[1]}", f"(?:{pair[0][1]}){pair[1]}"))
    several = st.lists(inner, min_size=2, max_size=3)
    return (
        grouped
        | several.map(lambda pairs: tuple(" ".join(texts) for texts in zip(*pairs, strict=True)))
        | several.map(lambda pairs: tuple("(" + " | ".join(texts) + ")" for texts in zip(*pairs, strict=True)))
    )


atoms = (
    letters.map(lambda letter: (letter.upper(), letter))
    | st.just((".", "."))
    | letters.map(lambda letter: (f"!{letter.upper()}", f"[^{letter}]"))
    | st.lists(letters, min_size=1, max_size=2).map(
        lambda some: (f"!({' | '.join(some).upper()})", f"[^{''.join(some)}]")
    )
)
patterns = st.recursive(atoms, extended, max_leaves=5)


# -- events only: the regular expressions of Python as an oracle -------------------------------------------------------


@given(patterns, st.text(LETTERS, max_size=7))
def test_a_strict_pattern_of_events_is_a_regular_expression(pattern, word):
    text, expression = pattern
    expected = re.fullmatch(expression.replace(" ", "").replace("{,", "{0,"), word) is not None
    assert matches(trace_of(word), text, strict=True) is expected


@given(patterns, st.text(LETTERS, max_size=7))
def test_a_pattern_of_events_passes_over_what_it_does_not_name(pattern, word):
    text, expression = pattern
    named = "".join(letter for letter in LETTERS if letter.upper() in text)
    over = f"[^{named}]*" if named else ".*"
    expression = re.sub(r"\[[^]]*\]|[a-d.]", lambda found: over + found[0], expression.replace(" ", ""))
    expected = re.fullmatch(expression.replace("{,", "{0,") + over, word) is not None
    assert matches(trace_of(word), text) is expected


class Oracle:
    """A second matcher: the set of end positions of a pattern, by the definition of each operator."""

    def __init__(self, trace: Trace, strict: bool) -> None:
        self.rows = [(run, key) for run, key, _, _ in trace.raw_events()]
        self.runs = trace.runs
        self.strict = strict
        self.wholes = {(span.run, span.state, span.first): span for span in spans(trace) if span.last is not None}
        self.segments = trace.segments

    def names(self, node: Any) -> set[tuple[int, str]]:
        """Return what a pattern names outside of its brackets, as pairs of run and key."""
        kind, *parts = node
        if kind == "event":
            return {(run, key) for run in self.engine(parts[0]) for key in [parts[1]]}
        if kind == "state":
            loops = ((run, span_events(self.runs[run].loop)) for run in self.engine(parts[0]))
            return {(run, key) for run, states in loops for key in states.get(parts[1], ())}
        if kind == "run":
            return {row for row in self.rows if row[0] in self.engine(parts[0])}
        return (
            set().union(*map(self.names, parts[0]))
            if kind in ("seq", "or", "not")
            else (self.names(parts[0]) if kind == "repeat" else set())
        )

    def engine(self, name: str) -> set[int]:
        return {run for run, record in enumerate(self.runs) if record.engine == name}

    def accepts(self, node: Any, within: set[int], first: int, past: int) -> bool:
        """Return whether a pattern matches all events of a range, if its names mean the given runs."""
        named = self.names(node)
        over = {at for at in range(first, past) if not self.strict and self.rows[at] not in named}

        def passed(starts: set[int]) -> set[int]:
            for at in range(first, past):
                if at in starts and at in over:
                    starts = starts | {at + 1}
            return starts

        def atom(node: Any, at: int) -> set[int]:
            kind, *parts = node
            run, key = self.rows[at]
            whose = (
                self.engine(parts[0]) & within
                if kind in ("event", "state") and parts[0] == "trainer"
                else (self.engine(parts[0]) if kind in ("event", "state", "run") else set())
            )
            if kind == "event":
                return {at + 1} if run in whose and key == parts[1] else set()
            if kind == "state":
                span = self.wholes.get((run, parts[1], at))
                fits = (
                    span is not None
                    and run in whose
                    and span.past <= past
                    and (parts[2] is None or self.accepts(parts[2], {run}, at + 1, span.last))
                )
                return {span.past} if fits else set()
            if kind == "run":
                ends = [end for number, start, end in self.segments if start == at < end and number in whose]
                return {end for end in ends if parts[1] is None or self.accepts(parts[1], whose & {run}, at, end)}
            visible = self.strict or run in within or (run, key) in named
            return {at + 1} if visible and not any(atom(other, at) for other in (parts[0] if parts else ())) else set()

        def ends(node: Any, starts: set[int]) -> set[int]:
            kind, *parts = node
            if kind == "seq":
                for part in parts[0]:
                    starts = ends(part, starts)
                return starts
            if kind == "or":
                return set().union(*(ends(part, starts) for part in parts[0]))
            if kind == "repeat":
                item, least, most = parts
                for _ in range(least):
                    starts = ends(item, starts)
                found = starts
                for _ in range((past - first + 1 if most is None else most) - least):
                    starts = ends(item, starts) - found
                    found = found | starts
                return found
            return set().union(*(atom(node, at) for at in passed(starts) if at < past))

        return past in passed(ends(node, {first}))


def text_of(node: Any) -> str:
    kind, *parts = node
    quoted = f"'{parts[0]}'" if kind in ("event", "state", "run") else ""
    if kind == "event":
        return event_name(parts[1]) if parts[0] == "trainer" else f"{quoted}:{event_name(parts[1])}"
    if kind == "state":
        name = parts[1] if parts[0] == "trainer" else f"{quoted}:{parts[1]}"
        return name if parts[2] is None else f"{name}[{text_of(parts[2])}]"
    if kind == "run":
        return quoted if parts[1] is None else f"{quoted}[{text_of(parts[1])}]"
    if kind == "any":
        return "."
    if kind == "repeat":
        item, least, most = parts
        return f"({text_of(item)}){{{least},{'' if most is None else most}}}"
    joined = (" " if kind == "seq" else " | ").join(map(text_of, parts[0]))
    return f"!({joined})" if kind == "not" else f"({joined})"


@st.composite
def trees(draw: Any, trace: Trace, engines: tuple[str, ...], depth: int) -> Any:
    """Draw a pattern over the names of these engines."""
    kinds = ["event", "event", "state", "state", "any", "not"] + ["seq", "or", "repeat", "repeat"] * (depth > 0)
    kind = draw(st.sampled_from(kinds + ["run"] * ("trainer" in engines and len(engines) > 1)))
    engine = draw(st.sampled_from(engines))
    records = [record for record in trace.runs if record.engine == engine]
    inner = trees(trace, ("trainer",) if engine == "trainer" else (engine,), depth - 1)
    if kind == "event":
        return kind, engine, draw(st.sampled_from(sorted({key for one in records for key in one.loop.event_keys})))
    if kind == "state":
        states = sorted({state for one in records for state in span_events(one.loop)})
        return kind, engine, draw(st.sampled_from(states)), draw(st.none() | inner) if depth > 0 else None
    if kind == "run":
        return kind, engine, draw(st.none() | inner) if depth > 0 else None
    if kind == "any":
        return (kind,)
    if kind == "repeat":
        least, most = draw(st.sampled_from([(0, None), (0, None), (1, None), (0, 1), (2, 2), (0, 2)]))
        return kind, draw(trees(trace, engines, depth - 1)), least, most
    if kind == "not":
        parts = draw(st.lists(trees(trace, engines, 0), min_size=1, max_size=2))
        return kind, [part for part in parts if part[0] in ("event", "state", "run")] or [("event", engine, "started")]
    return kind, draw(st.lists(trees(trace, engines, depth - 1), min_size=2, max_size=3))


@st.composite
def covers(draw: Any, trace: Trace, first: int, past: int, passed: frozenset[str]) -> Any:
    """Draw a pattern that follows the events of a trace, and nearly always matches; it leaves out some events."""
    wholes = {span.first: span for span in spans(trace) if span.last is not None}
    segments = {start: (run, end) for run, start, end in trace.segments if first <= start < end <= past}
    parts: list[Any] = []
    at = first
    while at < past:
        engine, key = trace[at].engine, trace[at].event
        span, (run, end) = wholes.get(at), segments.get(at, (0, past + 1))
        kind = draw(st.sampled_from(["event", "event", "state", "state", "run", "any", "lost", "choice"]))
        if kind == "run" and at in segments and end - at < past - first:
            parts.append(("run", trace.runs[run].engine, draw(st.none() | covers(trace, at, end, passed))))
            at = end
        elif kind == "state" and span is not None and span.past <= past and key not in passed:
            inner = covers(trace, at + 1, span.past - 1, passed) if span.past - at > 2 else st.none()
            parts.append(("state", engine, span.state, draw(st.none() | inner)))
            at = span.past
        elif key not in passed and (kind != "lost" or draw(st.integers(0, 9))):
            one = ("any",) if kind == "any" else ("event", engine, key)
            parts.append(("or", [("not", [one]), one]) if kind == "choice" else one)
            at += 1
        else:
            at += 1
    if len(parts) > 2 and draw(st.booleans()):
        cut = draw(st.integers(1, len(parts) - 1))
        parts[:cut] = [("repeat", ("seq", parts[:cut]), draw(st.integers(0, 1)), draw(st.sampled_from([1, 2, None])))]
    return ("seq", parts) if parts else ("repeat", ("any",), 0, None)


# -- states and engines: sets of positions as an oracle ----------------------------------------------------------------


@given(st.data(), scenarios(loops()), st.booleans())
def test_states_and_engines_match_as_their_meaning_says(data: Any, scenario: Scenario, strict: bool) -> None:
    trace = scenario.play().trace
    if not trace.runs or len(trace) > 150:
        return
    engines = tuple(dict.fromkeys(one.engine for one in trace.runs))
    keys = st.frozensets(st.sampled_from(sorted({one.event for one in trace})), max_size=0 if strict else 4)
    whole = keys.flatmap(lambda passed: covers(trace, 0, len(trace), passed))
    node = data.draw(trees(trace, engines, 3) | whole)
    outermost = {run for run, one in enumerate(trace.runs) if one.parent is None}
    expected = Oracle(trace, strict).accepts(node, outermost, 0, len(trace))
    assert matches(trace, text_of(node), strict) is expected
