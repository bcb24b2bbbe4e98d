"""Patterns: the expected events of a trace, in one line.

A pattern is a regular expression over events, states and engines::

    pattern  = sequence { "|" sequence } ;
    sequence = item { item } ;
    item     = unit [ "*" | "+" | "?" | "{" count "}" ] ;
    count    = n | n "," [ m ] | "," m ;
    unit     = name [ "[" pattern "]" ] | "(" pattern ")" | "." | "!" name | "!" "(" name { "|" name } ")" ;
    name     = [ engine ":" ] word ;
    engine   = word ;
    word     = identifier { "." identifier } | '"' any text '"' | "'" any text "'" ;

A *name* means one of these, and the first that exists is taken:

- an event, written in capitals as messages show it: ``BACKWARD_COMPLETED``;
- a whole state: from the event that enters it to the event that leaves it, with everything in between. A state
  cut short does not match. A state with a single event means that event;
- an engine: a whole run, from its first event to its last one. A paused and resumed run counts as two.

``NAME[pattern]`` is a whole state or run whose inside matches the pattern. The two events of a state are not inside it.
All events of a run are inside the run. ``.`` is any one event. ``!NAME`` is one event at which no match of NAME
begins. In ``MyEvents.NAME`` the dot belongs to the word: write spaces around a dot that means any event.

Without an engine, a name means the outermost engines of the trace or excerpt. In brackets it means the engine of the
state or run. ``engine:NAME`` means that engine at any depth of nesting.

Events that the pattern does not name are left out first. What remains must match from its first event to its last.
Naming a state names its two events, and naming an engine names all of its events. Names in brackets count only inside
those brackets. ``.`` does not match skipped events of nested engines. If ``strict`` is true, no event is skipped.

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
from camshaft.trace.pattern.match import Automaton, Excerpt, Matcher
from camshaft.trace.pattern.parse import Parser

__all__ = ["PatternError", "check"]


def check(trace: TraceLog, pattern: str, strict: bool = False, indices: Sequence[int] | None = None) -> None:
    """Compare a trace with a pattern. The time is proportional to the length of the trace.

    Args:
        trace: the trace.
        pattern: the expected events; the docstring of this module gives the grammar.
        strict: refuse events not named by the pattern, instead of skipping them.
        indices: compare only the events with these indices, ascending; all events if not given.

    Raises:
        AssertionError: the events do not match. The message shows the first event that does not fit.
        PatternError: the pattern cannot be read, or has a name unknown to all recorded engines.
    """
    __tracebackhide__ = True
    excerpt = Excerpt(trace, range(len(trace)) if indices is None else indices, strict)
    automaton = Automaton(Parser(pattern, trace, excerpt.outermost).parse())
    failure = Matcher(excerpt, automaton, excerpt.outermost).judge()
    if failure:
        raise AssertionError("\n".join([f"trace does not match: {' '.join(pattern.split())}", *failure]))
