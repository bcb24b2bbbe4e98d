"""Diagrams as users make them: formats, files, optional parts, and the current state."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from functools import partial

import pytest
from hypothesis import settings

from camshaft import DATA, BackpropEvents, CustomState, Engine, EventPoint, Events, Loop, Phase
from camshaft.draw.writers import WRITERS
from camshaft.draw.writers.svg import DARK, LIGHT
from support.diagrams import log, make, step, words
from support.drawn import check_readable

NASTY = 'a "quoted" <script>alert(1)</script> & \n more\\; #x: [*] --> b'
few = settings(max_examples=settings.default.max_examples // 10)


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", WRITERS)
def test_the_ending_of_a_file_says_its_format(tmp_path, ending):
    diagram = make().diagram()
    diagram.save(tmp_path / f"loop{ending}")
    written = {
        ".svg": diagram.svg,
        ".mmd": diagram.mermaid,
        ".dot": diagram.dot,
        ".txt": diagram.text,
        ".html": diagram.html,
    }
    assert (tmp_path / f"loop{ending}").read_bytes() == written[ending]().encode()


def test_the_same_loop_gives_the_same_bytes():
    for ending in WRITERS:
        assert make().diagram("full", control=True).rendered(ending) == make().diagram("full", control=True).rendered(
            ending
        )


@pytest.mark.parametrize("name", ["loop.png", "loop"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"use \.svg, \.mmd, \.dot, \.txt, \.html"):
        make().diagram().save(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_another_level_is_refused():
    with pytest.raises(ValueError, match="level must be 'overview' or 'full', got 'everything'"):
        make().diagram("everything")


def test_a_notebook_shows_it():
    diagram = make().diagram()
    assert diagram._repr_mimebundle_() == {"image/svg+xml": diagram.svg(), "text/plain": str(diagram)}
    assert repr(diagram) == "<Diagram of trainer: 18 nodes, 18 edges>"


def test_screen_readers_are_told():
    svg = ET.fromstring(make().diagram().svg())
    title, description = svg[0], svg[1]
    assert svg.get("role") == "img"
    assert "trainer" in title.text
    assert description.text.startswith("STARTED; EPOCH; ITERATION  for each batch; STEP")


def nasty_loop():
    return Loop(
        "EPOCH",
        Loop("ITERATION", Phase("A", started=NASTY, completed="<b>'x'</b>"), EventPoint('"{}"\t'), over=DATA),
        custom_states=(CustomState("F", NASTY + "f", '";--', "ITERATION"),),
    )


@pytest.mark.parametrize("level", ["overview", "full"])
@pytest.mark.parametrize("control", [False, True])
def test_any_text_is_shown_as_text(page, mermaid, graphviz, level, control):
    engine = Engine(nasty_loop(), name=NASTY)
    engine.nest(Engine(step, name=NASTY), on=Events.EPOCH_COMPLETED, data=[1])
    diagram = engine.diagram(level, handlers=True, control=control)
    shown = NASTY.upper().replace("\n", "\\n")
    page.show(diagram.svg(), width=1400)
    assert {shown, NASTY.replace("\n", "\\n")} <= {text.string for text in check_readable(page).texts}
    page.show(diagram.html(), width=1400)
    assert not page.errors
    assert not page.evaluate("() => document.querySelectorAll('script').length")
    read = mermaid.read(diagram.mermaid())
    assert any(shown in relation["label"] for relation in read["relations"])
    drawn = mermaid.render(diagram.mermaid())
    assert "<script" not in drawn
    labels = [edge.get("label", "") for edge in graphviz(diagram.dot())["edges"]]
    assert any(shown.replace("\\", "\\\\") in label for label in labels)
    assert f"│ {shown}" in diagram.text()


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_each_repetition_tells_its_counter_and_condition():
    shown = words(make().diagram())
    assert {
        "[iteration in epoch < epoch_length]",
        "[epoch < max_epochs]",
        "[iteration in epoch == epoch_length]",
    } <= set(shown)


def test_control_is_one_edge_unless_asked_for():
    assert "TERMINATED" not in words(make().diagram())
    assert {"TERMINATE", "INTERRUPT", "EXCEPTION_RAISED"} <= set(words(make().diagram()))
    assert {"TERMINATED", "FAILED", "H*", "ITERATION_SKIPPED"} <= set(words(make().diagram("full", control=True)))


def test_handlers_stand_at_their_event_in_the_order_of_their_calls():
    trainer = make()
    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED(every=20), log)
    trainer.add_event_handler(BackpropEvents.BACKWARD_COMPLETED(priority=3), partial(print, end=""))
    shown = words(trainer.diagram(handlers=True))
    at = shown.index("BACKWARD_COMPLETED")
    assert shown[at + 1 : at + 3] == ["› print priority=3", "› log(every=20)"]
    assert "› log(every=20)" not in words(trainer.diagram())


def test_an_injected_state_has_a_style_of_its_own():
    svg = make().diagram().svg()
    assert re.search(r'<text class="state custom"[^>]*>BACKWARD<', svg)
    assert re.search(r'<text class="state"[^>]*>COMPLETED<', svg)


def test_a_nested_engine_stands_at_its_event():
    trainer, evaluator = make(), Engine(step, name="evaluator")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED(every=2), data=[1])
    text = trainer.diagram().text()
    assert re.search(r"EPOCH_COMPLETED.*\n.*▸ evaluator\(every=2\)  EPOCH › ITERATION", text)


def test_two_engines_at_one_event_stand_in_call_order():
    trainer = make()
    for name in ("first", "second", "third"):
        trainer.nest(Engine(step, name=name), on=Events.EPOCH_COMPLETED, data=[1])
    assert re.findall(r"▸ (\w+)", trainer.diagram("full", control=True).text()) == ["first", "second", "third"]


def test_where_the_engine_stands_is_marked():
    trainer = make()
    seen = {}
    for event in (BackpropEvents.BACKWARD_STARTED, Events.EPOCH_STARTED, Events.STARTED, Events.GET_BATCH_STARTED):
        trainer.add_event_handler(event, lambda engine, event=event: seen.setdefault(event, engine.diagram("full")))
    assert not marked(trainer.diagram())
    trainer.run([1], max_epochs=1)
    assert marked(seen[BackpropEvents.BACKWARD_STARTED]) == ["BACKWARD"]
    assert marked(seen[Events.EPOCH_STARTED]) == ["EPOCH"]
    assert marked(seen[Events.STARTED]) == ["STARTED"]
    assert marked(seen[Events.GET_BATCH_STARTED]) == ["GET_BATCH"]
    for diagram in seen.values():
        assert diagram.text().count("◀ here") == 1
        assert re.search(r"<br>here|class \w+ current", diagram.mermaid())
    assert not marked(trainer.diagram())


def marked(diagram):
    return [element.label for element in diagram.chart.elements() if element.is_current]


# -- readable anywhere -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [600, 1400])
def test_it_reads_at_any_width_on_light_and_dark_pages(page, width, dark):
    page.show(
        f'<body><img alt="" style="max-width: 100%">{make().diagram("full").svg()}</body>', width=width, dark=dark
    )
    geometry = check_readable(page)
    back = page.evaluate("() => getComputedStyle(document.querySelector('.camshaft .page')).fill")
    contrasts = [contrast(text.fill, back) for text in geometry.texts]
    assert min(contrasts) > 4.5  # the minimum for text in the Web Content Accessibility Guidelines, 1.4.3


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_what_took_all_the_time_can_still_be_read(colours):
    heat, node = (bytes.fromhex(colours[name][1:]) for name in ("heat", "node"))
    back = "rgb({},{},{})".format(*(round(0.7 * one + 0.3 * other) for one, other in zip(heat, node, strict=True)))
    ink = "rgb({},{},{})".format(*bytes.fromhex(colours["ink"][1:]))
    assert contrast(ink, back) > 4.5


def contrast(one, other):
    """Return the contrast ratio of two colours, as defined in the Web Content Accessibility Guidelines 2.1."""

    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
