"""The law by which events are judged says what the table says, at every step of every trace."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from camshaft import Trace
from camshaft.machine.machine import LoopMachine
from camshaft.testing import loops, traces


@st.composite
def recorded(draw: st.DrawFn) -> Trace:
    return draw(traces(draw(loops())))


@given(recorded(), st.booleans())
def test_each_event_is_judged_as_the_row_of_the_table_says(trace, is_known):
    for number, record in enumerate(trace.runs):
        machine, context = LoopMachine(record.loop), record.context.copy()
        if not is_known:
            context.has_data = None
        place, move = record.place, machine.compiled(context)[record.place]
        for run, event, _, _ in trace.raw_events():
            if run != number:
                continue
            assert move.next_by_event.keys() == machine.table[place].keys()
            for other, row in machine.table[place].items():
                judged, expected = context.copy(), context.copy()
                refuse = move.next_by_event[other].try_take
                refused = refuse is not None and refuse(judged) is True
                assert refused == (row.denied_by(expected) is not None)
                if not refused:
                    row.apply(expected)
                assert judged == expected
            move, row = move.next_by_event[event], machine.table[place][event]
            row.apply(context)
            place = row.dest
            assert move.place == place
