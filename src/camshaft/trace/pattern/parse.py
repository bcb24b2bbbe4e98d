"""Reading patterns: from text to atoms, each name looked up in the loops that were recorded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

import attrs

from camshaft.events import event_name
from camshaft.exceptions import PatternError
from camshaft.loop.loop import Loop
from camshaft.loop.states import EventPoint
from camshaft.trace.log import TraceLog
from camshaft.trace.spans import span_events

__all__ = ["Atom", "Choice", "Item", "Parser"]

MAX_DEPTH = 50
"""How deep the parentheses and brackets of a pattern may be nested."""


@attrs.frozen(eq=False)
class Atom:
    """A part of a pattern that matches events by itself.

    Attributes:
        kind: ``"event"``, ``"state"``, ``"run"``, ``"any"``, or ``"not"``: one event that is none of ``others``.
        text: what the pattern has for it.
        column: where it stands in the pattern.
        engine: whose events it means; None for what names mean there.
        state: the state.
        keys: the event, or the two events of the state.
        inner: what the inside must match.
        others: what ``"not"`` excludes.
    """

    kind: str
    text: str
    column: int
    engine: str | None = None
    state: str | None = None
    keys: frozenset[str] = frozenset()
    inner: Choice | None = None
    others: tuple[Atom, ...] = ()


@attrs.frozen
class Item:
    """An atom or a choice, and how often it may come."""

    unit: Atom | Choice
    least: int
    most: int | None


Choice = list[list[Item]]
"""One of several sequences."""


class _Words:
    """What words can mean in the loops of some engines."""

    def __init__(self, owner: str, loops: Sequence[Loop]) -> None:
        self.owner = owner
        self.loops = loops
        self.events: dict[str, set[str]] = {}
        self.states: dict[str, set[str]] = {}
        for loop in loops:
            for key in loop.event_keys:
                self.events.setdefault(event_name(key), set()).add(key)
            for state, keys in span_events(loop).items():
                self.states.setdefault(state, set()).update(keys)
        for loop in loops:  # a state that is entered and left at once is its event
            single = {item.name: item.event for _, item in loop.walk() if isinstance(item, EventPoint)}
            single |= {custom.name: custom.events[0] for custom in loop.custom_states if not custom.is_pair}
            self.events = {name: {key} for name, key in single.items() if name not in self.states} | self.events

    def inside(self, state: str) -> _Words:
        """What words mean inside of a state."""
        return _Words(self.owner, [loop for loop in self.loops if state in span_events(loop)])


_TOKEN = re.compile(
    r"""\s*(?:(?P<word>[^\W\d]\w*(?:\.[^\W\d]\w*)*|"[^"]*"|'[^']*')|\{[^}]*}?|[][()|*+?.!:]|(?P<odd>\S))"""
)
_COUNT = re.compile(r"\{\s*([0-9]{0,9})\s*(?:(,)\s*([0-9]{0,9})\s*)?}")
_SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class Parser:
    """Reads a pattern, and looks up its names in the loops that were recorded."""

    def __init__(self, text: str, trace: TraceLog, runs: Iterable[int]) -> None:
        self.text = text
        self.depth = 0
        self.engines: dict[str, list[Loop]] = {}
        todo: list[tuple[str, Loop | None]] = [(record.engine, record.loop) for record in trace.runs]
        for engine, loop in todo:
            loops = self.engines.setdefault(engine, [])
            if loop is not None and not any(loop is other for other in loops):
                loops.append(loop)  # what is nested can be named even if it never came to run
                todo += [(nested.name, getattr(nested.engine, "loop", None)) for nested in loop.nested]
        records = [trace.runs[run] for run in sorted(runs)]
        owner = " and ".join(dict.fromkeys(record.engine for record in records))
        self.words = _Words(owner, list({id(record.loop): record.loop for record in records}.values()))
        self.tokens = list(_TOKEN.finditer(text))[::-1]  # the next one is the last of the list
        for token in reversed(self.tokens):
            if token["odd"]:
                what = "is not closed" if token["odd"] in "\"'" else "means nothing; put a name that has it in quotes"
                raise self._error(f"{token['odd']!r} {what}", token.end() - 1)

    def parse(self) -> Choice:
        """The whole pattern."""
        pattern = self._pattern(self.words)
        if self.tokens:
            raise self._error(f"{self._next!r} closes nothing; take it away")
        return pattern

    @property
    def _next(self) -> str:
        return self.tokens[-1][0].lstrip() if self.tokens else ""

    @property
    def _at(self) -> int:
        return self.tokens[-1].end() - len(self._next) if self.tokens else len(self.text)

    def _take(self, sign: str) -> bool:
        taken = self._next == sign
        if taken:
            self.tokens.pop()
        return taken

    def _error(self, message: str, at: int | None = None) -> PatternError:
        before = self.text[: self._at if at is None else at]
        line = f"line {before.count(chr(10)) + 1}, " if "\n" in self.text else ""
        return PatternError(f"pattern, {line}column {len(before) - before.rfind(chr(10))}: {message}")

    # -- the grammar -------------------------------------------------------------------------------------------------

    def _pattern(self, words: _Words) -> Choice:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(f"parentheses and brackets are nested more than {MAX_DEPTH} deep; take some away")
        choice = [[self._item(words)]]
        while self._next not in ("", ")", "]"):
            if self._take("|"):
                choice.append([])
            choice[-1].append(self._item(words))
        self.depth -= 1
        return choice

    def _item(self, words: _Words) -> Item:
        unit, bounds = self._unit(words), self._bounds()
        if bounds is not None and (self._next in _SIGNS or self._next.startswith("{")):
            raise self._error(f"{self._next!r} repeats what is repeated already; put that in parentheses")
        return Item(unit, *(bounds or (1, 1)))

    def _bounds(self) -> tuple[int, int | None] | None:
        bounds = _SIGNS.get(self._next)
        if self._next.startswith("{"):
            count = _COUNT.fullmatch(self._next)
            least, comma, most = count.groups() if count is not None else ("", None, None)
            bounds = int(least or 0), int(most) if most else None if comma else int(least or 0)
            if not (least or most) or (bounds[1] is not None and bounds[1] < bounds[0]):
                shapes = "{n}, {n,}, {,m} or {n,m}, with n up to m"
                raise self._error(f"{self._next!r} is no repetition; write {shapes}")
        if bounds is not None:
            self.tokens.pop()
        return bounds

    def _unit(self, words: _Words) -> Atom | Choice:
        at = self._at
        if self._take("("):
            return self._closed(")", words, at)
        if self._take("."):
            return Atom("any", ".", at)
        if self._take("!"):
            return self._negation(words, at)
        atom, inside = self._name(words, "a name, '.', '!' or '('")
        opened = self._at
        if not self._take("["):
            return atom
        if inside is None:
            raise self._error(f"{atom.text} is one event, with no inside; brackets follow a state or an engine", at)
        return attrs.evolve(atom, inner=self._closed("]", inside, opened))

    def _closed(self, sign: str, words: _Words, opened: int) -> Choice:
        pattern = self._pattern(words)
        if not self._take(sign):
            raise self._error(f"{self.text[opened]!r} is not closed; add {sign!r}", opened)
        return pattern

    def _negation(self, words: _Words, at: int) -> Atom:
        grouped = self._take("(")
        others = [self._name(words, "a name")[0]]
        while grouped and self._take("|"):
            others.append(self._name(words, "a name")[0])
        if (grouped and not self._take(")")) or self._next == "[":
            raise self._error("'!' takes a name, or a choice of names in parentheses: !A or !(A | B)", at)
        text = " | ".join(other.text for other in others)
        return Atom("not", f"!({text})" if grouped else f"!{text}", at, others=tuple(others))

    # -- names -------------------------------------------------------------------------------------------------------

    def _name(self, words: _Words, wanted: str) -> tuple[Atom, _Words | None]:
        """A name, and what words mean inside of it; None where it has no inside."""
        at, engine = self._at, None
        text, word = self._word(wanted)
        if self._take(":"):
            engine, before = word, text
            words = self._words_of(engine, at)
            text, word = self._word("an event or a state")
            text = f"{before}:{text}"
        if word not in words.events or self._next == "[":
            if word in words.states:
                return Atom("state", text, at, engine, word, frozenset(words.states[word])), words.inside(word)
            if word in self.engines and engine is None:
                return Atom("run", text, at, word), self._words_of(word, at)
        if word not in words.events and self.engines:
            raise self._error(self._unknown(word, words, engine), at)
        inside = None if self.engines else words  # where nothing was recorded, a word may be anything
        return Atom("event", text, at, engine, keys=frozenset(words.events.get(word, ()))), inside

    def _word(self, wanted: str) -> tuple[str, str]:
        """A word, as it is written and as it is meant."""
        if not self.tokens or not self.tokens[-1]["word"]:
            found = f"{self._next!r} stands" if self.tokens else "the pattern ends"
            raise self._error(f"{found} where {wanted} belongs")
        word = self.tokens.pop()["word"]
        return word, word[1:-1] if word[0] in "\"'" else word

    def _words_of(self, engine: str, at: int) -> _Words:
        if engine not in self.engines and self.engines:
            hint = _nearest(engine, self.engines) or f"recorded are {', '.join(self.engines)}"
            raise self._error(f"there is no engine {engine}; {hint}", at)
        return _Words(engine, self.engines.get(engine, []))

    def _unknown(self, word: str, words: _Words, engine: str | None) -> str:
        if not words.loops:
            return f"{words.owner} did not run, so its events and states are not known; name it as a whole"
        missing = f"there is no event or state {word} in {words.owner}"
        others = (_Words(name, loops) for name, loops in self.engines.items())
        owners = [other.owner for other in others if word in other.events or word in other.states]
        if owners and engine is None:
            return f"{missing}; it belongs to {' and '.join(owners)}, so write {owners[0]}:{word}"
        known = [*words.states, *words.events, *(self.engines if engine is None else ())]
        hint = _nearest(word, [name for name in known if ("." in name) == ("." in word)])
        other = "put blanks around a dot that stands for an event" if "." in word else None
        return f"{missing}; {hint or other or 'its states are ' + ', '.join(words.states)}"


def _nearest(word: str, known: Iterable[str]) -> str | None:
    upper = {name.upper(): name for name in known}
    found = difflib.get_close_matches(word.upper(), upper, 1)
    return f"did you mean {upper[found[0]]}?" if found else None
