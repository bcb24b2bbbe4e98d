"""Diagrams in the formats of other programs, parsed by these programs: Mermaid and Graphviz."""

import html
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from browser.driving import Page

MERMAID = Path(__file__).parent / "node_modules" / "mermaid" / "dist" / "mermaid.min.js"
KINDS = {"stateStart": "start", "stateEnd": "end", "choice": "choice", "fork": "fork", "divider": "divider"}
NOTE = "----note"  # Mermaid calls a note of x "x----note-1"

# An error is returned as a value, because the browser would put its own stack before the message. Diagrams are returned
# as JSON text, because some of their values are Maps.
ATTEMPT = """async (text) => {
    try { return { value: await (%s)(text) }; } catch (error) { return { error: String(error.message ?? error) }; }
}"""
READ = """async (text) => {
    const diagram = await mermaid.mermaidAPI.getDiagramFromText(text);
    if (diagram.type !== "stateDiagram") throw new Error(`a ${diagram.type}, not a stateDiagram-v2`);
    const { nodes, edges } = diagram.db.getData();
    return JSON.stringify({ nodes, edges });
}"""
# Mermaid renders longer texts as a picture of an error message and raises nothing, so this raises an error.
RENDER = """async (text) => {
    const limit = mermaid.mermaidAPI.getConfig().maxTextSize;
    if (text.length > limit) throw new Error(`longer than ${limit} characters`);
    globalThis.pictures = (globalThis.pictures ?? 0) + 1;
    return (await mermaid.render(`picture${globalThis.pictures}`, text)).svg;
}"""


class Mermaid:
    """Mermaid with its default settings, in a page of its own."""

    def __init__(self, page: Page):
        self.page = page.show("<!DOCTYPE html><title>Mermaid</title>", width=1200)
        page.load(MERMAID)
        page.evaluate("mermaid.initialize({ startOnLoad: false, suppressErrorRendering: true })")

    def _call(self, function: str, text: str) -> Any:
        self.page.errors.clear()
        answer = self.page.evaluate(ATTEMPT % function, text)
        problems = [answer["error"]] if "error" in answer else self.page.errors
        assert not problems, "\n".join(["Mermaid:", *problems, text])
        return answer["value"]

    def read(self, text: str) -> dict[str, Any]:
        """Parse a stateDiagram-v2; return its states by id, and its relations.

        The result is ``{"states": {id: {id, label, lines, type, composite, parent, classes, notes}},
        "relations": [{from, to, label}]}``. The type is state, start, end, choice, fork, join or divider (one of
        several regions of a state). The label is all ``lines`` joined. The parent is the id of a state, or None.
        """
        found = json.loads(self._call(READ, text))
        states = {node["id"]: state(node) for node in found["nodes"] if not node["shape"].startswith("note")}
        for node in found["nodes"]:
            if node["shape"] == "note":
                states[node["id"].rpartition(NOTE)[0]]["notes"].append(plain(node["label"]))
        relations = [relation(edge) for edge in found["edges"] if "note-edge" not in edge["classes"].split()]
        return {"states": states, "relations": relations}

    def render(self, text: str) -> str:
        """Render a diagram as SVG."""
        return self._call(RENDER, text)


def plain(text: str) -> str:
    """Return a text without indentation and without entities, which Mermaid keeps in an encoding of its own."""
    text = text.replace("ﬂ°°", "&#").replace("ﬂ°", "&").replace("¶ß", ";")
    return "\n".join(map(str.strip, html.unescape(text).splitlines()))


def state(node: dict[str, Any]) -> dict[str, Any]:
    kind = KINDS.get(node["shape"], "state")
    lines = [node["label"], *node.get("description", [])] if kind == "state" else []
    return {
        "id": node["id"],
        "label": "\n".join(map(plain, lines)),
        "lines": [*map(plain, lines)],
        "type": kind,
        "composite": node["isGroup"],
        "parent": node.get("parentId"),
        "classes": [name for name in node["cssClasses"].split() if not name.startswith("statediagram-")],
        "notes": [],
    }


def relation(edge: dict[str, Any]) -> dict[str, str]:
    return {"from": edge["start"], "to": edge["end"], "label": plain(edge["label"])}


def dot(text: str, format: str = "json") -> Any:
    """Lay out a text with Graphviz; return the parsed JSON, or the output in another format such as ``"svg"``."""
    done = subprocess.run(
        [shutil.which("dot") or "dot", f"-T{format}"], input=text, capture_output=True, encoding="utf-8", timeout=60
    )
    # messages of fontconfig are about the caches of the machine, not about the text
    messages = [line for line in done.stderr.splitlines() if line and not line.startswith("Fontconfig ")]
    assert done.returncode == 0 and not messages, "\n".join([f"dot: exit {done.returncode}", *messages, text])
    return json.loads(done.stdout) if format.startswith("json") else done.stdout
