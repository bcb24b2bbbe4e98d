"""Patterns that cannot be read: each error names the fault, its position and the fix."""

from __future__ import annotations

import re

import pytest

from camshaft import Engine, record
from camshaft.trace.pattern import PatternError, check
from support.steps import no_op

COUNTS = "write {n}, {n,}, {,m} or {n,m}, with n up to m"
UNIT = "a name, '.', '!' or '('"
NEGATION = "column 1: '!' must be followed by a name, or by a choice of names in parentheses: !A or !(A | B)"
STATES = "its states are EPOCH, GET_BATCH, ITERATION, A"
SINGLE = "is a single event and has no inside; brackets must follow a state or an engine"
DEEP = "parentheses and brackets are nested more than 50 levels deep; remove some"
MISSING = "there is no event or state"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        # faults of syntax
        ("", f"column 1: expected {UNIT}, but the pattern ends"),
        ("  ", f"column 3: expected {UNIT}, but the pattern ends"),
        ("A |", f"column 4: expected {UNIT}, but the pattern ends"),
        ("| A", f"column 1: expected {UNIT}, got '|'"),
        ("A | | A", f"column 5: expected {UNIT}, got '|'"),
        ("()", f"column 2: expected {UNIT}, got ')'"),
        ("EPOCH[]", f"column 7: expected {UNIT}, got ']'"),
        ("*", f"column 1: expected {UNIT}, got '*'"),
        ("(A | {2})", f"column 6: expected {UNIT}, got '{{2}}'"),
        (": A", f"column 1: expected {UNIT}, got ':'"),
        ("(A (A)", "column 1: '(' is not closed; add ')'"),
        ("(A]", "column 1: '(' is not closed; add ')'"),
        ("A EPOCH[A", "column 8: '[' is not closed; add ']'"),
        ("A )", "column 3: ')' has no opening bracket; remove it"),
        ("A] A", "column 2: ']' has no opening bracket; remove it"),
        ("(A)[A]", f"column 4: expected {UNIT}, got '['"),
        ("A{}", f"column 2: '{{}}' is not a repetition; {COUNTS}"),
        ("A{,}", f"column 2: '{{,}}' is not a repetition; {COUNTS}"),
        ("A{3,2}", f"column 2: '{{3,2}}' is not a repetition; {COUNTS}"),
        ("A{x}", f"column 2: '{{x}}' is not a repetition; {COUNTS}"),
        ("A{-1}", f"column 2: '{{-1}}' is not a repetition; {COUNTS}"),
        ("A{2", f"column 2: '{{2' is not a repetition; {COUNTS}"),
        ("A{9999999999}", f"column 2: '{{9999999999}}' is not a repetition; {COUNTS}"),
        ("A**", "column 3: '*' repeats an item that is already repeated; put that item in parentheses"),
        ("A+ ?", "column 4: '?' repeats an item that is already repeated; put that item in parentheses"),
        ("A{2}{3}", "column 5: '{3}' repeats an item that is already repeated; put that item in parentheses"),
        ("A - A", "column 3: '-' means nothing; put a name with it in quotes"),
        ("A 5", "column 3: '5' means nothing; put a name with it in quotes"),
        ("A 'A", 'column 3: "\'" is not closed; add "\'"'),
        ("A }", "column 3: '}' means nothing; put a name with it in quotes"),
        ("!", "column 2: expected a name, but the pattern ends"),
        ("!.", "column 2: expected a name, got '.'"),
        ("!!A", "column 2: expected a name, got '!'"),
        ("!(A | )", "column 7: expected a name, got ')'"),
        ("!(A", NEGATION),
        ("!(A A)", NEGATION),
        ("!(A*)", NEGATION),
        ("!EPOCH[A]", NEGATION),
        ("!(EPOCH[A])", NEGATION),
        ("evaluator:", "column 11: expected an event or a state, but the pattern ends"),
        ("evaluator:(X)", "column 11: expected an event or a state, got '('"),
        ("(" * 60 + "A" + ")" * 60, f"column 51: {DEEP}"),
        # unknown names
        ("ITERTION", f"column 1: {MISSING} ITERTION in trainer; did you mean ITERATION?"),
        ("A iteration", f"column 3: {MISSING} iteration in trainer; did you mean ITERATION?"),
        ("'A-B'", f"column 1: {MISSING} A-B in trainer; {STATES}"),
        ("QQQ", f"column 1: {MISSING} QQQ in trainer; {STATES}"),
        ("evalator", f"column 1: {MISSING} evalator in trainer; did you mean evaluator?"),
        ("evalator:X", "column 1: there is no engine evalator; did you mean evaluator?"),
        ("QQQ:X", "column 1: there is no engine QQQ; the engines are trainer, evaluator"),
        ("evaluator:STARTD", f"column 1: {MISSING} STARTD in evaluator; did you mean STARTED?"),
        ("A X", f"column 3: {MISSING} X in trainer; it belongs to evaluator, so write evaluator:X"),
        ("EPOCH[X]", f"column 7: {MISSING} X in trainer; it belongs to evaluator, so write evaluator:X"),
        ("!X", f"column 2: {MISSING} X in trainer; it belongs to evaluator, so write evaluator:X"),
        ("evaluator[A]", f"column 11: {MISSING} A in evaluator; it belongs to trainer, so write trainer:A"),
        ("evaluator:EPOCH[A]", f"column 17: {MISSING} A in evaluator; it belongs to trainer, so write trainer:A"),
        ("evaluator:A", f"column 1: {MISSING} A in evaluator; its states are EPOCH, GET_BATCH, ITERATION, X"),
        ("evaluator:probe", f"column 1: {MISSING} probe in evaluator; its states are EPOCH, GET_BATCH, ITERATION, X"),
        ("A.A", f"column 1: {MISSING} A.A in trainer; put spaces around a dot that means any event"),
        ("STARTED[A]", f"column 1: STARTED {SINGLE}"),
        ("\n A\n  ITERTION", f"line 3, column 3: {MISSING} ITERTION in trainer; did you mean ITERATION?"),
    ],
)  # fmt: skip
def test_errors_say_what_is_wrong_where_it_stands_and_what_to_do(nested, pattern, message):
    with pytest.raises(PatternError) as caught:
        check(nested, pattern)
    assert str(caught.value) == f"pattern, {message}"
    assert isinstance(caught.value, ValueError)


def test_a_pattern_that_is_too_large(plain, monkeypatch):
    monkeypatch.setattr("camshaft.trace.pattern.match.MAX_PLACES", 1000)
    message = "pattern: with its repetitions expanded it has over 1,000 parts; use '*' or smaller counts"
    for pattern in ("(A{100}){100}", "EPOCH[A{999999999}]"):
        with pytest.raises(PatternError, match=re.escape(message)):
            check(plain, pattern)
    check(plain, "(A{,50} B?){,15}")


def test_a_name_of_several_outermost_engines_that_none_has():
    with record() as trace:
        for name in ("one", "other", "one"):
            Engine(no_op, name=name).run([1])
    with pytest.raises(PatternError, match="there is no event or state A in one and other; its states are EPOCH"):
        check(trace, "A")
