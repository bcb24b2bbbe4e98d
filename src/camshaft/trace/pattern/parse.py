"""Parse patterns: from text to atoms. Each name is looked up in the recorded loops.

A name is resolved while it is read, because its meaning depends on the brackets around it: inside ``evaluator[...]`` a
word means an event or state of the evaluator. An unknown name is an error at once, with its column and the nearest
name.
"""

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
"""The maximum depth of nested parentheses and brackets, because parsing and matching are recursive."""


@attrs.frozen(eq=False)
class Atom:
    """The smallest part of a pattern that matches events.

    Attributes:
        kind: ``"event"``, ``"state"``, ``"run"``, ``"any"``, or ``"not"``: one event except ``others``.
        text: its text in the pattern.
        column: its offset in the pattern, from 0.
        engine: the name of the engine given with it; None if there is none, so that the surrounding brackets decide.
        state: the name of the state.
        keys: the key of the event, or the keys of the two events of the state.
        inner: the pattern in its brackets; None if there are no brackets.
        others: the atoms excluded by ``"not"``.
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
    """An atom or a choice, with the least and most number of repetitions; ``most`` is None if there is no limit."""

    unit: Atom | Choice
    least: int
    most: int | None


Choice = list[list[Item]]
"""Several alternative sequences."""


class _Vocabulary:
    """The meanings of words in the loops of some engines.

    Args:
        owner: the names of the engines, for messages.
        loops: their loops.
    """

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
        for loop in loops:  # the name of a state with a single event means that event
            single = {item.name: item.event for _, item in loop.walk() if isinstance(item, EventPoint)}
            single |= {custom.name: custom.events[0] for custom in loop.custom_states if not custom.is_pair}
            self.events = {name: {key} for name, key in single.items() if name not in self.states} | self.events

    def inside(self, state: str) -> _Vocabulary:
        """Return the meanings of words inside a state."""
        return _Vocabulary(self.owner, [loop for loop in self.loops if state in span_events(loop)])


_TOKEN = re.compile(
    r"""\s*(?:(?P<word>[^\W\d]\w*(?:\.[^\W\d]\w*)*|"[^"]*"|'[^']*')|\{[^}]*}?|[][()|*+?.!:]|(?P<unknown>\S))"""
)
_COUNT = re.compile(r"\{\s*([0-9]{0,9})\s*(?:(,)\s*([0-9]{0,9})\s*)?}")
_SIGNS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class Parser:
    """A recursive-descent parser of patterns, one method for each rule of the grammar.

    Args:
        text: the pattern.
        trace: the trace; its loops give names their meanings.
        runs: the numbers of the runs meant by names without an engine.

    Raises:
        PatternError: the pattern has a character without meaning.
    """

    def __init__(self, text: str, trace: TraceLog, runs: Iterable[int]) -> None:
        self.text = text
        self.depth = 0
        self.engines: dict[str, list[Loop]] = {}
        todo: list[tuple[str, Loop | None]] = [(record.engine, record.loop) for record in trace.runs]
        for engine, loop in todo:
            loops = self.engines.setdefault(engine, [])
            if loop is not None and not any(loop is other for other in loops):
                loops.append(loop)  # a declared nested engine can be named even if it never ran
                todo += [(nested.name, getattr(nested.engine, "loop", None)) for nested in loop.nested]
        records = [trace.runs[run] for run in sorted(runs)]
        owner = " and ".join(dict.fromkeys(record.engine for record in records))
        self.vocabulary = _Vocabulary(owner, list({id(record.loop): record.loop for record in records}.values()))
        self.tokens = list(_TOKEN.finditer(text))[::-1]  # reversed: the next token is taken from the end
        for token in reversed(self.tokens):
            if token["unknown"]:
                sign = token["unknown"]
                fix = f"is not closed; add {sign!r}" if sign in "\"'" else "means nothing; put a name with it in quotes"
                raise self._error(f"{sign!r} {fix}", token.end() - 1)

    def parse(self) -> Choice:
        """Parse the whole pattern.

        Raises:
            PatternError: the pattern cannot be read, or has a name unknown to all recorded engines.
        """
        pattern = self._pattern(self.vocabulary)
        if self.tokens:
            raise self._error(f"{self._next_text!r} has no opening bracket; remove it")
        return pattern

    @property
    def _next_text(self) -> str:
        return self.tokens[-1][0].lstrip() if self.tokens else ""

    @property
    def _offset(self) -> int:
        return self.tokens[-1].end() - len(self._next_text) if self.tokens else len(self.text)

    def _take_if(self, sign: str) -> bool:
        taken = self._next_text == sign
        if taken:
            self.tokens.pop()
        return taken

    def _error(self, message: str, offset: int | None = None) -> PatternError:
        before = self.text[: self._offset if offset is None else offset]
        line = f"line {before.count(chr(10)) + 1}, " if "\n" in self.text else ""
        return PatternError(f"pattern, {line}column {len(before) - before.rfind(chr(10))}: {message}")

    # -- the grammar -------------------------------------------------------------------------------------------------

    def _pattern(self, vocabulary: _Vocabulary) -> Choice:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(f"parentheses and brackets are nested more than {MAX_DEPTH} levels deep; remove some")
        choice = [[self._item(vocabulary)]]
        while self._next_text not in ("", ")", "]"):
            if self._take_if("|"):
                choice.append([])
            choice[-1].append(self._item(vocabulary))
        self.depth -= 1
        return choice

    def _item(self, vocabulary: _Vocabulary) -> Item:
        unit, bounds = self._unit(vocabulary), self._repetition()
        if bounds is not None and (self._next_text in _SIGNS or self._next_text.startswith("{")):
            what = "repeats an item that is already repeated; put that item in parentheses"
            raise self._error(f"{self._next_text!r} {what}")
        return Item(unit, *(bounds or (1, 1)))

    def _repetition(self) -> tuple[int, int | None] | None:
        bounds = _SIGNS.get(self._next_text)
        if self._next_text.startswith("{"):
            count = _COUNT.fullmatch(self._next_text)
            least, comma, most = count.groups() if count is not None else ("", None, None)
            bounds = int(least or 0), int(most) if most else None if comma else int(least or 0)
            if not (least or most) or (bounds[1] is not None and bounds[1] < bounds[0]):
                shapes = "{n}, {n,}, {,m} or {n,m}, with n up to m"
                raise self._error(f"{self._next_text!r} is not a repetition; write {shapes}")
        if bounds is not None:
            self.tokens.pop()
        return bounds

    def _unit(self, vocabulary: _Vocabulary) -> Atom | Choice:
        offset = self._offset
        if self._take_if("("):
            return self._closed(")", vocabulary, offset)
        if self._take_if("."):
            return Atom("any", ".", offset)
        if self._take_if("!"):
            return self._negation(vocabulary, offset)
        atom, inside = self._name(vocabulary, "a name, '.', '!' or '('")
        opened = self._offset
        if not self._take_if("["):
            return atom
        if inside is None:
            what = "is a single event and has no inside; brackets must follow a state or an engine"
            raise self._error(f"{atom.text} {what}", offset)
        return attrs.evolve(atom, inner=self._closed("]", inside, opened))

    def _closed(self, sign: str, vocabulary: _Vocabulary, opened: int) -> Choice:
        pattern = self._pattern(vocabulary)
        if not self._take_if(sign):
            raise self._error(f"{self.text[opened]!r} is not closed; add {sign!r}", opened)
        return pattern

    def _negation(self, vocabulary: _Vocabulary, offset: int) -> Atom:
        grouped = self._take_if("(")
        others = [self._name(vocabulary, "a name")[0]]
        while grouped and self._take_if("|"):
            others.append(self._name(vocabulary, "a name")[0])
        if (grouped and not self._take_if(")")) or self._next_text == "[":
            raise self._error(
                "'!' must be followed by a name, or by a choice of names in parentheses: !A or !(A | B)", offset
            )
        text = " | ".join(other.text for other in others)
        return Atom("not", f"!({text})" if grouped else f"!{text}", offset, others=tuple(others))

    # -- names -------------------------------------------------------------------------------------------------------

    def _name(self, vocabulary: _Vocabulary, wanted: str) -> tuple[Atom, _Vocabulary | None]:
        """Parse a name; return its atom, and the vocabulary inside it, or None if it has no inside."""
        offset, engine = self._offset, None
        text, word = self._word(wanted)
        if self._take_if(":"):
            engine, before = word, text
            vocabulary = self._vocabulary_of(engine, offset)
            text, word = self._word("an event or a state")
            text = f"{before}:{text}"
        # An event is preferred to a state of the same name, and a state to an engine. Only a state or an engine has an
        # inside, so brackets decide against the event.
        if word not in vocabulary.events or self._next_text == "[":
            if word in vocabulary.states:
                keys = frozenset(vocabulary.states[word])
                return Atom("state", text, offset, engine, word, keys), vocabulary.inside(word)
            if word in self.engines and engine is None:
                return Atom("run", text, offset, word), self._vocabulary_of(word, offset)
        if word not in vocabulary.events and self.engines:
            raise self._error(self._describe_unknown(word, vocabulary, engine), offset)
        inside = None if self.engines else vocabulary  # if nothing was recorded, a word may mean anything
        return Atom("event", text, offset, engine, keys=frozenset(vocabulary.events.get(word, ()))), inside

    def _word(self, wanted: str) -> tuple[str, str]:
        """Parse a word; return it as written and without its quotes."""
        if not self.tokens or not self.tokens[-1]["word"]:
            found = f"got {self._next_text!r}" if self.tokens else "but the pattern ends"
            raise self._error(f"expected {wanted}, {found}")
        word = self.tokens.pop()["word"]
        return word, word[1:-1] if word[0] in "\"'" else word

    def _vocabulary_of(self, engine: str, offset: int) -> _Vocabulary:
        if engine not in self.engines and self.engines:
            hint = _nearest(engine, self.engines) or f"the engines are {', '.join(self.engines)}"
            raise self._error(f"there is no engine {engine}; {hint}", offset)
        return _Vocabulary(engine, self.engines.get(engine, []))

    def _describe_unknown(self, word: str, vocabulary: _Vocabulary, engine: str | None) -> str:
        if not vocabulary.loops:
            fix = "name only the engine, without brackets or a colon"
            return f"{vocabulary.owner} did not run, so its events and states are not known; {fix}"
        missing = f"there is no event or state {word} in {vocabulary.owner}"
        others = (_Vocabulary(name, loops) for name, loops in self.engines.items())
        owners = [other.owner for other in others if word in other.events or word in other.states]
        if owners and engine is None:
            return f"{missing}; it belongs to {' and '.join(owners)}, so write {owners[0]}:{word}"
        known = [*vocabulary.states, *vocabulary.events, *(self.engines if engine is None else ())]
        hint = _nearest(word, [name for name in known if ("." in name) == ("." in word)])
        other = "put spaces around a dot that means any event" if "." in word else None
        return f"{missing}; {hint or other or 'its states are ' + ', '.join(vocabulary.states)}"


def _nearest(word: str, known: Iterable[str]) -> str | None:
    upper = {name.upper(): name for name in known}
    found = difflib.get_close_matches(word.upper(), upper, 1)
    return f"did you mean {upper[found[0]]}?" if found else None
