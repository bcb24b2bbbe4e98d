"""The text of a loop."""

from __future__ import annotations

import pytest

from camshaft import Engine, Events, Phase

NESTED_AT = [*Events, "clip_started", "saved"]


@pytest.mark.parametrize("moment", NESTED_AT, ids=str)
def test_the_text_of_a_loop_names_an_engine_nested_at_any_event(moment):
    inner, outer = Engine([Phase("FORWARD")], "inner"), Engine([Phase("CLIP")], "outer")
    outer.register_events("saved", within="RUN")
    outer.nest(inner, on=moment, data=[1])
    name = moment.name if isinstance(moment, Events) else moment.upper()
    assert next(line for line in str(outer.loop).splitlines() if "[inner]" in line).strip() == f"[inner] at {name}"
