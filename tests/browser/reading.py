"""Diagrams of others, read by the programs that they are written for: Mermaid's own parser, and Graphviz."""

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

# An error is a value here: the browser would put its own stack before the message. JSON, as a value may be a Map.
ATTEMPT = """async (text) => {
    try { return { value: await (%s)(text) }; } catch (error) { return { error: String(error.message ?? error) }; }
}"""
READ = """async (text) => {
    const diagram = await mermaid.mermaidAPI.getDiagramFromText(text);
    if (diagram.type !== "stateDiagram") throw new Error(`a ${diagram.type}, not a stateDiagram-v2`);
    const { nodes, edges } = diagram.db.getData();
    return JSON.stringify({ nodes, edges });
}"""
# Larger texts become a picture of this complaint: no error, but no diagram either.
RENDER = """async (text) => {
    const limit = mermaid.mermaidAPI.getConfig().maxTextSize;
    if (text.length > limit) throw new Error(`longer than ${limit} characters`);
    globalThis.pictures = (globalThis.pictures ?? 0) + 1;
    return (await mermaid.render(`picture${globalThis.pictures}`, text)).svg;
}"""


class Mermaid:
    """Mermaid in a page of its own, as it is by default."""

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
        """The states by id, and the relations, of a stateDiagram-v2.

        ``{"states": {id: {id, label, lines, type, composite, parent, classes, notes}},
        "relations": [{from, to, label}]}``, where type is state, start, end, choice, fork, join or divider (a region
        of a state that has several), label is all of ``lines``, and parent is the id of a state, or None.
        """
        found = json.loads(self._call(READ, text))
        states = {node["id"]: state(node) for node in found["nodes"] if not node["shape"].startswith("note")}
        for node in found["nodes"]:
            if node["shape"] == "note":
                states[node["id"].rpartition(NOTE)[0]]["notes"].append(plain(node["label"]))
        relations = [relation(edge) for edge in found["edges"] if "note-edge" not in edge["classes"].split()]
        return {"states": states, "relations": relations}

    def render(self, text: str) -> str:
        """The picture, as SVG."""
        return self._call(RENDER, text)


def plain(text: str) -> str:
    """The text as it is read, without indentation: Mermaid keeps #35; and the like in a shape of its own."""
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
    """What Graphviz makes of the text: the parsed JSON of the layout, or the output in another format (``"svg"``)."""
    done = subprocess.run(
        [shutil.which("dot") or "dot", f"-T{format}"], input=text, capture_output=True, encoding="utf-8", timeout=60
    )
    # what fontconfig says of its caches is about the machine, not about the text
    said = [line for line in done.stderr.splitlines() if line and not line.startswith("Fontconfig ")]
    assert done.returncode == 0 and not said, "\n".join([f"dot: exit {done.returncode}", *said, text])
    return json.loads(done.stdout) if format.startswith("json") else done.stdout
