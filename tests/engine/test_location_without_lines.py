"""The location of a run when Python gives no line: some instructions have none, and a signal can arrive there."""

from __future__ import annotations

from itertools import pairwise

import attrs
import pytest

import camshaft.engine.engine
from camshaft import DATA, Engine, Events, Loop, Phase, record
from camshaft.compiler.writer import generate
from camshaft.engine.location import line_number
from support.steps import no_op


def without_lines(code, is_kept):
    """Return code in which some lines are unknown. The format is that of ``Objects/locations.md`` of Python 3.11."""
    table, last = bytearray(), code.co_firstlineno
    for start, end, line in code.co_lines():
        units = (end - start) // 2
        while units > 0:
            length = min(units, 8)
            if line is None or not is_kept(line):
                table.append(0x80 | 15 << 3 | length - 1)
            else:
                table.append(0x80 | 13 << 3 | length - 1)
                delta, last = line - last, line
                value = -delta << 1 | 1 if delta < 0 else delta << 1
                while value > 63:
                    table.append(64 | value & 63)
                    value >>= 6
                table.append(value)
            units -= length
    inner = [without_lines(each, is_kept) if hasattr(each, "co_code") else each for each in code.co_consts]
    return code.replace(co_linetable=bytes(table), co_consts=tuple(inner))


KEPT = {"every second line": lambda line: line % 2, "all but the first lines": lambda line: line > 8}
NONE_KEPT = {"no line": lambda line: False}


@pytest.fixture
def lines_missing(request, monkeypatch):
    is_kept = (KEPT | NONE_KEPT)[request.param]

    def generate_without(loop):
        program = generate(loop)
        return attrs.evolve(program, code=without_lines(program.code, is_kept))

    monkeypatch.setattr(camshaft.engine.engine, "generate", generate_without)


def interrupted(*_):
    raise KeyboardInterrupt


FOLDS = Loop("FOLD", Loop("EPOCH", Loop("ITERATION", Phase("A", no_op), over=DATA), times=2), times=2)


@pytest.mark.parametrize("lines_missing", KEPT | NONE_KEPT, indirect=True)
@pytest.mark.parametrize("event", [Events.STARTED, Events.EPOCH_STARTED, Events.ITERATION_COMPLETED, Events.COMPLETED])
@pytest.mark.parametrize("make", [lambda: Engine(no_op, "trainer"), lambda: Engine(FOLDS, "trainer")])
def test_the_exception_itself_leaves_where_no_line_is_known(lines_missing, make, event):
    engine = make()
    engine.add_event_handler(event, interrupted)
    with pytest.raises(KeyboardInterrupt) as raised:
        engine.run([1, 2])
    assert raised.value.__notes__[0].startswith("in trainer: ")
    assert engine.current_run is None


@pytest.mark.parametrize("lines_missing", KEPT | NONE_KEPT, indirect=True)
@pytest.mark.parametrize("step", [interrupted, [Phase("A", no_op), Phase("B", interrupted)]])
def test_an_exception_of_a_step_leaves_where_no_line_is_known(lines_missing, step):
    with pytest.raises(KeyboardInterrupt):
        Engine(step).run([1, 2])


@pytest.mark.parametrize("lines_missing", KEPT, indirect=True)
def test_control_calls_and_recordings_work_without_lines(lines_missing):
    engine = Engine(no_op, "trainer")
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), engine.interrupt)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda: engine.terminate())
    with record(call_sites=True) as trace:
        engine.run([1, 2, 3, 4])
        assert isinstance(engine.where, tuple) and isinstance(engine.place, str)
        engine.run()
    assert trace.count(Events.ITERATION_COMPLETED) == 3


def test_the_nearest_line_before_counts():
    code = generate(Engine(no_op).loop).code.co_consts[0]
    known = [(start, line) for start, _, line in code.co_lines() if line is not None]
    for (start, line), (past, _) in pairwise(known):
        for unknown in (None, -1, 0):
            assert {line_number(code, unknown, index) for index in range(start, past, 2)} == {line}
    assert line_number(code, 7, 0) == 7
    assert line_number(code, None, -1) == 0
