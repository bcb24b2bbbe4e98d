"""Patterns: what a trace should look like, in one line.

A pattern is a regular expression over events, states and engines::

    pattern  = sequence { "|" sequence } ;
    sequence = item { item } ;
    item     = unit [ "*" | "+" | "?" | "{" count "}" ] ;
    count    = n | n "," [ m ] | "," m ;
    unit     = name [ "[" pattern "]" ] | "(" pattern ")" | "." | "!" name | "!" "(" name { "|" name } ")" ;
    name     = [ engine ":" ] word ;
    engine   = word ;
    word     = identifier { "." identifier } | '"' any text '"' | "'" any text "'" ;

A *name* is an event as it is shown, in capitals: ``BACKWARD_COMPLETED``. Or it is a whole state: from the event that
enters it to the one that leaves it, with all that fired in between; a state that was cut short is none. Or it is an
engine: a whole run, from the first event to the last one; a run that was paused and went on counts as two. A word that
could be several is the event rather than the state, and the state rather than the engine. A state that is entered and
left at once is its one event.

``NAME[pattern]`` is a whole state or run whose inside matches. The two events of a state are not inside of it; all
events of a run are inside of that. ``.`` is one event, ``!NAME`` one event at which no match of NAME begins. In
``MyEvents.NAME`` the dot belongs to the word: write blanks around one that stands for an event.

A name means the outermost engines of the trace or excerpt, and in brackets the engine whose state or run that is.
``engine:NAME`` means that engine, however deep it is nested.

The whole trace must match, from its first event to its last. What the pattern does not name is passed over. Who names
a state names its two events, and who names an engine all of its events; brackets are a pattern of their own, so names
in them count only there. ``.`` takes no events of nested engines that are passed over. When ``strict``, nothing is
passed over.

>>> from camshaft import Engine, Events, record
>>> trainer, evaluator = (Engine(lambda engine, batch: None, name=name) for name in ("trainer", "evaluator"))
>>> handle = trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1])
>>> with record() as trace:
...     state = trainer.run([1, 2, 3], max_epochs=2)
>>> check(trace, "STARTED (EPOCH_STARTED ITERATION{3} EPOCH_COMPLETED){2} COMPLETED")
>>> check(trace, "(EPOCH[ITERATION{3}] evaluator[EPOCH[ITERATION]]){2}")
>>> check(trace, "STARTED (EPOCH evaluator){2} COMPLETED", strict=True)
>>> check(trace, "(!evaluator:EXCEPTION_RAISED)*")
>>> check(trace, "STARTED (EPOCH_STARTED ITERATION{2} EPOCH_COMPLETED){2} COMPLETED")
Traceback (most recent call last):
    ...
AssertionError: trace does not match: STARTED (EPOCH_STARTED ITERATION{2} EPOCH_COMPLETED){2} COMPLETED
     9  trainer ITERATION_STARTED 2
    10  trainer ITERATION_COMPLETED 2
  > 13  trainer ITERATION_STARTED 3
  expected: EPOCH_COMPLETED
"""

from __future__ import annotations

from collections.abc import Sequence

from camshaft.exceptions import PatternError
from camshaft.trace.log import TraceLog
from camshaft.trace.pattern.match import Automaton, Events, Matcher
from camshaft.trace.pattern.parse import Parser

__all__ = ["PatternError", "check"]


def check(trace: TraceLog, pattern: str, strict: bool = False, indices: Sequence[int] | None = None) -> None:
    """Compare a trace with a pattern. Takes time in proportion to the length of the trace.

    Args:
        trace: the trace.
        pattern: what is expected; the docstring of this module gives the grammar.
        strict: whether events that the pattern does not name are errors, instead of being passed over.
        indices: compare only these events of the trace, in ascending order; all of them unless given.

    Raises:
        AssertionError: the events are others; the message shows the first one that does not fit.
        PatternError: the pattern cannot be read, or names what no recorded engine has.
    """
    __tracebackhide__ = True
    events = Events(trace, range(len(trace)) if indices is None else indices, strict)
    automaton = Automaton(Parser(pattern, trace, events.outermost).parse())
    failure = Matcher(events, automaton, events.outermost).judge()
    if failure:
        raise AssertionError("\n".join([f"trace does not match: {' '.join(pattern.split())}", *failure]))
