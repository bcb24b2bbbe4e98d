"""Names of events, states, loops and engines: each works wherever it is used, or is refused with the reason."""

from __future__ import annotations

import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camshaft import DATA, Engine, Loop, LoopError, Phase, Trace, record
from camshaft.engine.state import State
from camshaft.loop.rules import _STATE_FIELDS
from camshaft.loop.serialize import from_dict, to_dict
from support.steps import no_op

MODEL = [
    "trigger",
    "context",
    "add_transition",
    "may_trigger",
    "is_x",
    "to_x",
    "on_enter_x",
    "place",
    "model",
    "_model",
]
LETTERS = [
    "ª",
    "ﬁ",
    "\N{FULLWIDTH LATIN SMALL LETTER X}",
    "²",
    "①",
    "é",
    "日本",
    "ß",
    "\N{LATIN SMALL LETTER DOTLESS I}",
    "İ",
    "ǰ",
    "ŉ",
    "K",
    "\N{LATIN SMALL LETTER LONG S}",
    "1",
    "1a",
    "\N{COMBINING ACUTE ACCENT}",
]
PYTHON = ["class", "None", "lambda", "match", "print", "__init__", "__class__", "_", "__"]
OF_THE_LOOP = ["engine", "fetcher", "element", "inner", "any_handlers", "PENDING_CALL", "pending_call", "perf_counter"]
OF_THE_STATE = ["batch", "output", "metrics", "max_epochs", "within_limits", "iteration_item"]
SIGNS = [
    "a b",
    " ",
    "a'b",
    'a"b',
    "a\nb",
    "\r",
    "\x00",
    "a/b",
    "a.b",
    "Class.NAME",
    "{x}",
    "%s",
    "<b>&",
    "\\",
    "#",
    "-->",
]
SIGNS += ["a\ud800", "[*]", "[/x]", "a|b", "a,b", "(", "*", "=", ";", "\u200b", "\u202e", "\U0001f600", "x" * 3000]
ENUMS = ["_x_", "__x__", "mro", "_ignore_", "name", "value", "_missing_"]
ROLES = ["_started", "_completed", "backward_started", "started "]
NAMES = [*MODEL, *LETTERS, *PYTHON, *OF_THE_LOOP, *OF_THE_STATE, *SIGNS, *ENUMS, *ROLES]

HOW = {"free": {}, "placed": {"after": "STEP"}, "in the run": {"within": "RUN"}}


def made(how, *events):
    """Return an engine with these events, which fires them, and their keys."""

    def step(engine, batch):
        if how != "placed":
            for one in events:
                engine.fire_event(one)

    engine = Engine(step, "trainer", strict=True)
    engine.register_events(*events, **HOW[how])
    return engine


def check_everywhere(engine, events, folder):
    """Run an engine, and use its names in everything that knows names."""
    seen = []
    for one in events:
        engine.add_event_handler(one, partial(seen.append, one))
    with record(call_sites=True, handler_times=True) as trace:
        engine.run([1, 2])
    trace.assert_legal()
    assert seen == [*events] * 2
    model = engine.machine.model
    model.context = trace.runs[0].context.copy()
    model.context.epoch_length = 2
    for fired in trace:
        assert fired.event in engine.machine.get_triggers(model.state)
        assert model.trigger(fired.event)
    trace.save(folder / "trace.jsonl")
    assert Trace.load(folder / "trace.jsonl") == trace
    for ending in ("svg", "mmd", "dot", "txt", "html"):
        engine.diagram("full", handlers=True).save(folder / f"loop.{ending}")
    trace.diagram().save(folder / "trace.svg")
    trace.export_chrome_trace(folder / "chrome.json")
    assert json.loads((folder / "chrome.json").read_text(encoding="utf-8"))
    compile(engine.source(), "source", "exec")
    assert from_dict(json.loads(json.dumps(to_dict(engine.loop)))).event_keys == engine.loop.event_keys
    assert str(trace) and trace.table() and str(engine.loop) and repr(engine.loop) and str(engine.machine)
    assert {member.value for member in engine.loop.events} == set(engine.loop.event_keys)
    for one in events:
        assert trace.count(one) == len(trace.select(event=one)) == 2


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_an_event_of_any_name_works_everywhere(name, how, tmp_path):
    check_everywhere(made(how, name), [name], tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "ª",
        "²",
        "\N{FULLWIDTH LATIN SMALL LETTER X}",
        "class",
        "a b",
        "state",
        "trigger",
        "iteration_",
        "é",
        "[/x]",
        "_",
    ],
    ids=ascii,
)
def test_a_pair_of_events_of_any_name_works_everywhere(name, tmp_path):
    events = [f"{name}_started", f"{name}_completed"]
    for how in HOW:
        if how == "placed" and name in (
            "ª",
            "²",
            "\N{FULLWIDTH LATIN SMALL LETTER X}",
        ):  # the engine enters this state: its name is that of a phase
            with pytest.raises(LoopError, match="normal form|Python identifier"):
                made(how, *events)
            continue
        check_everywhere(made(how, *events), events, tmp_path)


REFUSED = [
    ("state", "would be the state of its transitions.Machine; rename it"),
    (".", "has no name after its last dot"),
    ("a.", "has no name after its last dot"),
    ("started", "is a built-in event"),
    ("", "must not be empty"),
    ("STARTED", "is the name of a built-in state"),
    ("iteration", "two states are named ITERATION"),
    ("get_batch", "is the name of a built-in state"),
]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("name", "reason"), REFUSED, ids=ascii)
def test_a_name_that_cannot_work_is_refused_with_the_reason(name, reason, how):
    engine = Engine(no_op)
    before = engine.loop
    with pytest.raises(ValueError, match=reason):
        engine.register_events(name, **HOW[how])
    assert engine.loop is before


@given(name=st.text(min_size=1, max_size=6), how=st.sampled_from(sorted(HOW)))
@settings(deadline=None, max_examples=25)
def test_any_text_works_everywhere_or_is_refused(name, how, tmp_path_factory):
    try:
        engine = made(how, name)
    except ValueError as refused:
        assert any(reason in str(refused) for _, reason in REFUSED)
        return
    check_everywhere(engine, [name], tmp_path_factory.getbasetemp())


# -- states ------------------------------------------------------------------------------------------------------------


def inner(name):
    return Loop("OUTER", Loop(name, Phase("ACT", no_op), over=lambda engine: [1, 2]))


def outermost(name):
    return Loop(name, Phase("ACT", no_op), times=2)


def of_data(name):
    return Loop("EPOCH", Loop(name, Phase("ACT", no_op), over=DATA))


def phase(name):
    return Loop("EPOCH", Loop("ITERATION", Phase(name, no_op, when=lambda engine: True), over=DATA))


KINDS = [inner, outermost, of_data, phase]


def check_loop(loop, counter):
    engine = Engine(loop, "trainer")
    with record() as trace:
        engine.run([1, 2] if loop.data_loop else None, max_epochs=2)
    trace.assert_legal()
    if counter is not None:
        assert getattr(engine.state, counter) in (2, 4)
    other = Engine(loop, "trainer")
    other.load_state_dict(engine.state_dict())
    assert str(engine.machine) and engine.diagram().svg and repr(loop) and repr(engine.state)
    engine.run([1, 2] if loop.data_loop else None, max_epochs=3)


OF_STATES = [
    "É",
    "日本",
    "ẞ",
    "İ",
    "Σ",
    "A1",
    "PRINT",
    "ISLICE",
    "ENGINE",
    "FETCHER",
    "ELEMENT",
    "INNER",
    "BEGAN",
    "A" * 2000,
]
NOT_FOR_LOOPS = [
    "__CLASS__",
    "__DICT__",
    "_X",
    "_OUTER_COUNTER",
    "WITHIN_LIMITS",
    "BATCH",
    "CLASS",
    "LAMBDA",
    "COUNT_BY",
]
NOT_AT_ALL = [
    "ª",
    "\N{FULLWIDTH LATIN CAPITAL LETTER X}",
    "\N{KELVIN SIGN}",
    "E\N{COMBINING ACUTE ACCENT}",
    "²X",
    "1A",
    "A B",
    "",
    "READY",
    "abc",
    "A.B",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*OF_STATES, *NOT_FOR_LOOPS, *NOT_AT_ALL], ids=ascii)
def test_a_state_of_any_name_works_or_is_refused(name, kind):
    if name in NOT_AT_ALL or (name in NOT_FOR_LOOPS and kind is not phase):
        with pytest.raises(LoopError):
            kind(name)
        return
    check_loop(kind(name), None if kind is phase else name.lower())


@given(
    name=st.text(max_size=5).map(str.upper) | st.text("ABCD_1ªΣİ²\N{FULLWIDTH LATIN CAPITAL LETTER A}́", max_size=4),
    kind=st.sampled_from(KINDS),
)
@settings(deadline=None)
def test_any_text_is_a_working_state_or_is_refused(name, kind):
    try:
        loop = kind(name)
    except LoopError:
        assert name.strip("ABCD") or name in ("", "ACT")
        return
    check_loop(loop, None if kind is phase else name.lower())


def test_events_of_similar_names_are_all_in_the_enum():
    engine = Engine(no_op)
    engine.register_events("a_b", "A.C")
    engine.register_events("A.D_B", "a_d_b_x", "A_C_x")
    assert {member.value for member in engine.loop.events} == set(engine.loop.event_keys)


def test_every_attribute_of_the_state_is_reserved():
    public = {name.upper() for name in dir(State()) if not name.startswith("_")}
    assert public - {"ITERATION", "EPOCH"} == _STATE_FIELDS


def test_an_element_and_a_counter_of_one_name_are_refused():
    with pytest.raises(LoopError, match=r"state\.a_item would be both the element of A and the counter of A_ITEM"):
        Loop("EPOCH", Loop("A", Loop("A_ITEM", Phase("ACT", no_op), times=2), over=[1]))


@pytest.mark.parametrize("attribute", ["batch", "metrics", "within_limits", "__class__"])
def test_a_filter_can_only_count_a_count(attribute):
    engine = Engine(no_op)
    with pytest.raises(ValueError, match=rf"event_to_attr: state\.{attribute} is no count"):
        engine.register_events("a", event_to_attr={"a": attribute})
    assert not engine.has_registered_events("a")


# -- engines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SIGNS, *LETTERS, ""], ids=ascii)
def test_an_engine_of_any_name_works_everywhere(name, tmp_path):
    trainer, evaluator = Engine(no_op, "trainer"), Engine(no_op, name)
    trainer.nest(evaluator, on="epoch_completed", data=[1])
    with record() as trace:
        trainer.run([1, 2])
    trace.assert_legal()
    trace.save(tmp_path / "trace.jsonl")
    assert Trace.load(tmp_path / "trace.jsonl") == trace
    for ending in ("svg", "mmd", "dot", "txt", "html"):
        trainer.diagram("full").save(tmp_path / f"loop.{ending}")
        trace.diagram().save(tmp_path / f"trace.{ending}")
    trace.export_chrome_trace(tmp_path / "chrome.json")
    assert str(trace) and trace.table() and repr(evaluator) and str(trainer.loop)
    assert len(trace.select(engine=name)) == len(trace.select(engine="trainer")) - 4
