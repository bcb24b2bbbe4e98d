"""Diagrams kept in a project: ``pyproject.toml`` lists them, ``camshaft draw --all`` draws and ``--check`` checks them.

.. code-block:: toml

    [tool.camshaft.diagrams]
    "diagrams/trainer.svg" = "train.py:trainer"
    "diagrams/trainer_full.svg" = { target = "train.py:trainer", level = "full", handlers = true, control = true }
    "diagrams/trainer_run.svg" = { target = "train.py:trainer", trace = "run.jsonl" }
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import attrs

from camshaft.cli.targets import load_target
from camshaft.draw.diagram import draw, draw_over
from camshaft.draw.from_loop import LEVELS
from camshaft.draw.writers import WRITERS
from camshaft.trace.trace import Trace

__all__ = ["KeptDiagram", "find_project", "kept_diagrams"]


@attrs.frozen
class KeptDiagram:
    """A diagram kept in a project.

    Attributes:
        path: its file, relative to the folder of the ``pyproject.toml``.
        target: the engine or loop to draw: see :func:`camshaft.cli.targets.load_target`.
        level, handlers, control: as for :meth:`camshaft.Engine.diagram`.
        trace: the file of a recorded trace; its runs are drawn over the diagram.
    """

    path: Path
    target: str
    level: str = "overview"
    handlers: bool = False
    control: bool = False
    trace: str | None = None

    def rendered(self, root: Path) -> bytes:
        """Return the content of the file for the current code.

        Args:
            root: the folder of the ``pyproject.toml``.

        Raises:
            TargetError, TraceError, ValueError, OSError: the target or the trace cannot be loaded.
        """
        target = load_target(self.target, root)
        diagram = draw(target, self.level, handlers=self.handlers, control=self.control)
        if self.trace is not None:
            draw_over(diagram, Trace.load(root / self.trace), target, self.trace)
        return diagram.rendered(self.path.suffix).encode(errors="backslashreplace")


def find_project(start: Path) -> Path:
    """Return the nearest ``pyproject.toml``, in a folder or in one above it.

    Raises:
        ValueError: there is none.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "pyproject.toml").is_file():
            return folder / "pyproject.toml"
    raise ValueError(f"no pyproject.toml in {start.resolve()} or a folder above it: it must list the diagrams")


def kept_diagrams(project: Path) -> list[KeptDiagram]:
    """Return the diagrams listed in a ``pyproject.toml``.

    Raises:
        ValueError: the file is not TOML, lists no diagrams, or has an invalid entry.
    """
    try:
        listed: Any = tomllib.loads(project.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{project.name}: {error}") from error
    for name in ("tool", "camshaft", "diagrams"):
        listed = listed.get(name) if isinstance(listed, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise ValueError(
            f"{project.name} lists no diagrams: add [tool.camshaft.diagrams] "
            f'with lines such as "loop.svg" = "train.py:trainer"'
        )
    return [_kept_diagram(project, file, entry) for file, entry in listed.items()]


def _kept_diagram(project: Path, file: str, entry: Any) -> KeptDiagram:
    """Return one entry of the list, checked.

    Args:
        project: the ``pyproject.toml``.
        file: the key of the entry.
        entry: its value, as read from TOML: a valid one is a target, or a table with a target.
    """
    fields = {"target": entry} if isinstance(entry, str) else entry
    known = {field.name for field in attrs.fields(KeptDiagram)} - {"path"}
    where = f"{project.name}, [tool.camshaft.diagrams], {file!r}"
    if not isinstance(fields, dict) or not isinstance(fields.get("target"), str):
        raise ValueError(
            f'{where}: give a target, "train.py:trainer" or {{ target = "train.py:trainer", level = "full" }}'
        )
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}")
    for name, kind in {"handlers": bool, "control": bool, "trace": str}.items():
        if not isinstance(fields.get(name, kind()), kind):
            expected = "the name of a file" if kind is str else "true or false"
            raise ValueError(f"{where}: {name} must be {expected}, got {fields[name]!r}")
    if fields.get("level", LEVELS[0]) not in LEVELS:
        raise ValueError(f"{where}: level must be {' or '.join(map(repr, LEVELS))}, got {fields['level']!r}")
    if Path(file).suffix not in WRITERS:
        raise ValueError(f"{where}: cannot write a diagram as {Path(file).suffix!r}: use {', '.join(WRITERS)}")
    return KeptDiagram(Path(file), **fields)
