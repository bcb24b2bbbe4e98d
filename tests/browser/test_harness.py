"""The harness itself: it finds each fault in a picture or a text, and reports nothing in a correct one."""

import asyncio
import os
import subprocess
import sys
from textwrap import dedent

import pytest

from browser import Box, Point, crossed, outside, overlaps


def svg(*inside, view_box="0 0 200 100", size='width="200" height="100"'):
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view_box}" {size}>{"".join(inside)}</svg>'


def strings(found):
    return [tuple(part.string for part in parts) for parts in found]


ONE = '<text x="10" y="30">one</text>'
TWO = '<text x="10" y="60">two</text>'


class TestPage:
    def test_a_sound_page_has_no_errors(self, page):
        assert page.show(f"<!DOCTYPE html><title>x</title>{svg(ONE)}").errors == []
        assert page.show(svg(ONE)).errors == []
        assert page.evaluate("document.querySelector('text').textContent") == "one"
        assert page.evaluate("async (number) => number + 1", 2) == 3

    @pytest.mark.parametrize(
        ("script", "said"),
        [
            ("console.error('broken')", "console error: broken"),
            ("console.warn('careful')", "console warning: careful"),
            ("throw new Error('thrown')", "uncaught: thrown"),
            ("Promise.reject(new Error('rejected'))", "uncaught: rejected"),
            ("setTimeout(() => missing(), 0)", "missing is not defined"),
        ],
    )
    def test_what_a_script_complains_of(self, page, script, said):
        errors = page.show(f"<!DOCTYPE html><script>{script}</script>").errors
        assert [said in error for error in errors] == [True], errors

    @pytest.mark.parametrize(
        "html",
        [
            '<link rel="stylesheet" href="URL">',
            "<style>@import 'URL';</style>",
            "<style>@font-face { font-family: x; src: url(URL) } p { font-family: x }</style><p>x</p>",
            '<script src="URL"></script>',
            '<img src="URL">',
            '<svg><image href="URL" width="9" height="9"/></svg>',
            '<iframe src="URL"></iframe>',
            "<script>fetch('URL').catch(() => {})</script>",
            "<script>navigator.sendBeacon('URL')</script>",
            "<script>new WebSocket('URL'.replace('http', 'ws'))</script>",
        ],
    )
    def test_a_request_is_an_error(self, page, html):
        url = "http://127.0.0.1:9/x"
        page.show(f"<!DOCTYPE html>{html}".replace("URL", url))
        page.evaluate("new Promise((done) => setTimeout(done, 50))")
        asked = [error for error in page.errors if error.startswith("network: ")]
        assert [error.replace("ws:", "http:") for error in asked] == [f"network: {url}"], page.errors

    def test_what_is_in_the_page_is_no_request(self, page):
        image = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"
        assert page.show(f'<!DOCTYPE html><img src="{image}"><a href="https://example.org/">a link</a>').errors == []

    def test_a_picture_that_is_not_xml_is_an_error(self, page):
        assert page.show(svg("<text>a &nbsp; b<br></text>")).errors[0].startswith("not XML: ")

    def test_each_show_starts_afresh(self, page):
        script = "<script>const once = 1; setInterval(() => console.error('still here'), 1)</script>"
        assert page.show(f"<!DOCTYPE html>{script}").errors
        page.show("<!DOCTYPE html><script>const once = 2</script>")
        page.evaluate("new Promise((done) => setTimeout(done, 20))")
        assert page.errors == []

    def test_dark_mode(self, page):
        style = "p { color: red } @media (prefers-color-scheme: dark) { p { color: lime } }"
        html = f"<!DOCTYPE html><style>{style}</style><p>"
        color = "getComputedStyle(document.querySelector('p')).color"
        assert page.show(html, dark=True).evaluate(color) == "rgb(0, 255, 0)"
        assert page.show(html).evaluate(color) == "rgb(255, 0, 0)"

    def test_the_window_has_the_size_asked_for(self, page):
        assert page.show(svg(ONE), width=320, height=240).evaluate("[innerWidth, innerHeight]") == [320, 240]

    def test_a_screenshot(self, page, tmp_path):
        page.show(svg(ONE, size='width="20" height="2000"'), width=300, height=100).screenshot(tmp_path / "all.png")
        page.screenshot(tmp_path / "window.png", full_page=False)
        assert (tmp_path / "all.png").read_bytes()[16:24] > (tmp_path / "window.png").read_bytes()[16:24]

    def test_a_page_of_ones_own_shares_nothing(self, browser, page):
        page.show(svg(ONE))
        browser.page().show("<!DOCTYPE html><script>console.error('elsewhere')</script>")
        assert page.errors == []
        assert page.evaluate("document.querySelector('text').textContent") == "one"

    def test_the_thread_of_the_tests_has_no_loop_of_the_browser(self, page):
        assert asyncio.run(asyncio.sleep(0, "ran")) == "ran"


class TestGeometry:
    def test_a_sound_picture(self, page):
        line = '<line x1="10" y1="80" x2="90" y2="80" stroke="black"/>'
        seen = page.show(svg('<rect width="200" height="100" fill="none" stroke="red"/>', ONE, TWO, line)).geometry()
        assert [text.string for text in seen.texts] == ["one", "two"]
        assert overlaps(seen.texts) == crossed(seen.texts, seen.edges) == outside(seen.texts, seen.view_box) == []
        assert seen.view_box == Box(0, 0, 200, 100)

    def test_texts_over_each_other(self, page):
        over = '<text x="12" y="32">over</text>'
        assert strings(overlaps(page.show(svg(ONE, over, TWO)).geometry().texts)) == [("one", "over")]

    def test_a_line_through_a_text(self, page):
        curve = '<path id="curve" d="M0 0 C 0 40, 40 0, 60 90" fill="none" stroke="black"/>'
        clear = '<polyline points="90,0 90,99" fill="none" stroke="black"/>'
        seen = page.show(svg(ONE, TWO, clear, curve)).geometry()
        assert [(text.string, edge.id) for text, edge in crossed(seen.texts, seen.edges)] == [("one", "curve")]

    def test_a_text_that_is_cut_off(self, page):
        cut = '<text x="195" y="30">cut off</text>'
        seen = page.show(svg(ONE, cut)).geometry()
        assert [text.string for text in outside(seen.texts, seen.view_box)] == ["cut off"]

    def test_each_tspan_is_a_line(self, page):
        lines = (
            '<tspan x="10" y="20" class="first">a</tspan><tspan x="10" y="50" fill="#00f">b <tspan>c</tspan></tspan>'
        )
        texts = page.show(svg(f'<text fill="red" font-size="12">{lines}</text>')).geometry().texts
        assert [(text.string, text.classes, text.fill, text.size) for text in texts] == [
            ("a", "first", "rgb(255, 0, 0)", 12),
            ("b", "", "rgb(0, 0, 255)", 12),
            ("c", "", "rgb(0, 0, 255)", 12),
        ]
        first, second, third = (text.box for text in texts)
        assert first.bottom < second.top == third.top
        assert first.left == second.left == pytest.approx(10) and second.right == pytest.approx(third.left)

    @pytest.mark.parametrize("size", ['width="200"', 'width="600"', 'width="51.3"', 'style="margin: 30px; width: 50%"'])
    def test_units_are_those_of_the_picture(self, page, size):
        """Positions are those of getExtentOfChar, for any size on the screen and any transform."""
        text = (
            '<g transform="translate(40 5) scale(2)"><text id="t" x="10" y="20" text-anchor="middle">moved</text></g>'
        )
        node = '<g transform="rotate(90)"><rect x="10" y="-50" width="30" height="5"/></g>'
        edge = '<g transform="translate(7)"><path d="M1 2H9V4" fill="none" stroke="black" marker-end="url(#x)"/></g>'
        seen = page.show(svg(text, node, edge, view_box="0 0 200 100", size=size)).geometry()
        extent = page.evaluate(
            "() => [0, 4].map((at) => document.querySelector('#t').getExtentOfChar(at))"
            ".map(({ x, y, width, height }) => [x, y, x + width, y + height])"
        )
        (left, top, *_), (_, _, right, bottom) = extent
        assert seen.texts[0].box == pytest.approx((40 + 2 * left, 5 + 2 * top, 40 + 2 * right, 5 + 2 * bottom), abs=0.2)
        assert seen.nodes[0].box == pytest.approx((45, 10, 50, 40), abs=0.01)
        assert seen.edges[0].start == pytest.approx((8, 2), abs=0.01)
        assert seen.edges[0].end == pytest.approx((16, 4), abs=0.01)
        assert (seen.edges[0].marker_start, seen.edges[0].marker_end) == (False, True)

    def test_what_is_a_node_and_what_is_an_edge(self, page):
        paint = 'stroke="black" fill="none"'
        seen = page.show(
            svg(
                '<rect width="5" height="5" class="state" data-name="a"/><circle r="2"/><ellipse rx="2" ry="3"/>',
                f'<polygon points="0,0 3,3 3,0"/><path d="M0 0h9"/><path d="M0 0h9v9z" {paint}/>',
                f'<line x2="9" {paint}/><polyline points="0,0 9,9" {paint}/><path d="M0 0h9" {paint} class="edge"/>',
            )
        ).geometry()
        assert [node.tag for node in seen.nodes] == ["rect", "circle", "ellipse", "polygon", "path", "path"]
        assert [edge.tag for edge in seen.edges] == ["line", "polyline", "path"]
        assert (seen.nodes[0].classes, seen.nodes[0].data, seen.edges[2].classes) == ("state", {"name": "a"}, "edge")
        assert seen.edges[2].points[1] == pytest.approx((1.8, 0)) and len(seen.edges[2].points) == 6
        assert (seen.edges[2].start, seen.edges[2].end) == (Point(0, 0), Point(9, 0))

    @pytest.mark.parametrize(
        "attribute",
        [
            'display="none"',
            'visibility="hidden"',
            'opacity="0"',
            'fill="none" stroke="none"',
            'fill="transparent" stroke="transparent"',
            'fill-opacity="0" stroke-width="0"',
        ],
    )
    def test_what_is_hidden_is_not_there(self, page, attribute):
        filled = '<text x="9" y="30" A>one</text><rect width="9" height="9" A/><path d="M0 0h9" A/>'
        bare = f'{filled}<line x2="9" stroke="red" A/>'
        seen = page.show(svg(bare.replace("A", ""))).geometry()
        assert (len(seen.texts), len(seen.nodes), len(seen.edges)) == (1, 2, 1)
        hidden = page.show(svg(bare.replace('stroke="red" A', attribute).replace("A", attribute))).geometry()
        assert hidden.texts == hidden.nodes == hidden.edges == []

    def test_definitions_are_not_there(self, page):
        inside = f'{ONE}<rect width="9" height="9"/><path d="M0 0h9" stroke="red" fill="none"/>'
        kinds = ("defs", "marker", "symbol", "clipPath", "mask", "pattern")
        seen = page.show(svg(*(f"<{kind}>{inside}</{kind}>" for kind in kinds), "<title>x</title>")).geometry()
        assert seen.texts == seen.nodes == seen.edges == []

    def test_html_in_a_picture(self, page):
        html = '<div xmlns="http://www.w3.org/1999/xhtml" style="color: red; font: 12px sans-serif">html</div>'
        inside = f'<foreignObject x="20" y="10" width="90" height="50">{html}</foreignObject>'
        (text,) = page.show(svg(inside)).geometry().texts
        assert (text.string, text.fill, text.size) == ("html", "rgb(255, 0, 0)", 12)
        assert text.box[:2] == pytest.approx((20, 10), abs=2)

    def test_a_picture_is_chosen_by_a_selector(self, page):
        page.show(f"<!DOCTYPE html>{svg(ONE)}<main>{svg(TWO)}</main>")
        assert [page.geometry(where).texts[0].string for where in ("svg", "main svg")] == ["one", "two"]
        with pytest.raises(AssertionError, match="the page has no table svg"):
            page.geometry("table svg")


NESTED = dedent("""
    stateDiagram-v2
        state "The outer #35;1" as outer
        [*] --> outer
        state outer {
            [*] --> inner
            inner : waits
            inner : and waits
            state pick <<choice>>
            inner --> pick : data [more]
            pick --> deep
            state deep {
                leaf
            }
            note right of inner
                first line
                second line
            end note
        }
        outer --> [*]
        class outer loud
""")


class TestMermaid:
    def test_states(self, mermaid):
        states = mermaid.read(NESTED)["states"]
        assert {name: (state["label"], state["type"], state["parent"]) for name, state in states.items()} == {
            "outer": ("The outer #1", "state", None),
            "root_start": ("", "start", None),
            "root_end": ("", "end", None),
            "outer_start": ("", "start", "outer"),
            "inner": ("waits\nand waits", "state", "outer"),
            "pick": ("", "choice", "outer"),
            "deep": ("deep", "state", "outer"),
            "leaf": ("leaf", "state", "deep"),
        }
        assert {name: state["notes"] for name, state in states.items() if state["notes"]} == {
            "inner": ["first line\nsecond line"]
        }
        assert [name for name, state in states.items() if state["composite"]] == ["outer", "deep"]
        assert states["outer"]["classes"] == ["loud"] and states["inner"]["lines"] == ["waits", "and waits"]

    def test_relations(self, mermaid):
        assert [tuple(relation.values()) for relation in mermaid.read(NESTED)["relations"]] == [
            ("root_start", "outer", ""),
            ("outer_start", "inner", ""),
            ("inner", "pick", "data [more]"),
            ("pick", "deep", ""),
            ("outer", "root_end", ""),
        ]

    def test_one_text_leaves_nothing_to_the_next(self, mermaid):
        mermaid.read(NESTED)
        assert mermaid.read("stateDiagram-v2\n a --> b: c") == mermaid.read("stateDiagram-v2\na-->b : c")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("stateDiagram-v2\n a -> b", "Parse error on line 2"),
            ("stateDiagram-v2\n state a {\n b", "Parse error on line 3"),
            ("neither this nor that", "No diagram type detected"),
        ],
    )
    def test_a_syntax_error(self, mermaid, text, said):
        for call in (mermaid.read, mermaid.render):
            with pytest.raises(AssertionError, match=said):
                call(text)

    def test_another_kind_of_diagram_is_not_read(self, mermaid):
        with pytest.raises(AssertionError, match="not a stateDiagram-v2"):
            mermaid.read("flowchart TB\n a --> b")

    def test_a_text_that_is_too_long_for_mermaid(self, mermaid):
        with pytest.raises(AssertionError, match="longer than 50000 characters"):
            mermaid.render("stateDiagram-v2\n" + "a --> b\n" * 7000)

    def test_a_picture(self, mermaid, page):
        seen = page.show(mermaid.render(NESTED), width=1200).geometry()
        assert {"The outer #1", "waits", "and waits", "data [more]", "deep", "leaf"} <= {
            text.string for text in seen.texts
        }
        assert len([edge for edge in seen.edges if edge.marker_end]) == 5


class TestGraphviz:
    def test_nodes_and_edges(self, graphviz):
        found = graphviz('digraph { a [label="first"]; subgraph cluster_x { b }; a -> b [label=go] }')
        assert [thing["name"] for thing in found["objects"]] == ["cluster_x", "a", "b"]
        named = {thing["_gvid"]: thing["name"] for thing in found["objects"]}
        assert [(named[edge["tail"]], named[edge["head"]], edge["label"]) for edge in found["edges"]] == [
            ("a", "b", "go")
        ]

    def test_a_picture(self, graphviz, page):
        texts = page.show(graphviz("digraph { é -> b }", "svg")).geometry().texts
        assert [text.string for text in texts] == ["é", "b"] and page.errors == []

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("digraph { a [shape=bagel] }", "unknown shape bagel"),
            ("digraph { a -> b [headport=nowhere:x:y] ", "syntax error"),
            ("digraph { a [label=<<b>x>] }", "mismatched tag"),
        ],
    )
    def test_a_warning_is_an_error(self, graphviz, text, said):
        with pytest.raises(AssertionError, match=said):
            graphviz(text)


def test_what_is_missing_is_skipped_and_said(tmp_path):
    tests = ["TestPage::test_a_screenshot", "TestMermaid::test_a_picture", "TestGraphviz::test_a_picture"]
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, *(f"{__file__}::{test}" for test in tests)],
        env={**os.environ, "PATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )
    assert "3 skipped" in done.stdout and done.returncode == 0, done.stdout + done.stderr
    assert "needs a browser: chromium is not installed" in done.stdout
    assert "needs Graphviz: dot is not installed" in done.stdout
