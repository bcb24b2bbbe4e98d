"""The compiled table agrees with the transition table at every event of every trace."""

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
def test_each_event_is_judged_as_the_table_says(trace, is_known):
    for number, record in enumerate(trace.runs):
        machine, context = LoopMachine(record.loop), record.context.copy()
        if not is_known:
            context.has_data = None
        compiled_table = machine.compiled(context)
        place, compiled = record.place, compiled_table.start(record.place, context)
        for run, event, _, _ in trace.raw_events():
            if run != number:
                continue
            assert [compiled_table.find(compiled, key) is not None for key in record.loop.event_keys] == [
                key in machine.table[place] for key in record.loop.event_keys
            ]
            for other, transition in machine.table[place].items():
                judged, expected = context.copy(), context.copy()
                try_take = compiled.next_by_event[other].try_take
                is_taken = try_take is None or try_take(judged)
                assert is_taken is (transition.denied_by(expected) is None)
                if is_taken:
                    transition.apply(expected)
                assert judged == expected
            compiled, transition = compiled.next_by_event[event], machine.table[place][event]
            transition.apply(context)
            place = transition.dest
            assert compiled.place == place
