"""The drawings that a project keeps: listed in its ``pyproject.toml``, made by one command, checked by another.

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
from camshaft.draw.diagram import WRITERS, draw, draw_over
from camshaft.draw.from_loop import LEVELS
from camshaft.trace.trace import Trace

__all__ = ["KeptDiagram", "find_project", "kept_diagrams"]


@attrs.frozen
class KeptDiagram:
    """A drawing that a project keeps.

    Attributes:
        path: the file.
        target: what is drawn: see :func:`camshaft.cli.targets.load_target`.
        level, handlers, control: as for :meth:`camshaft.Engine.diagram`.
        trace: the file of a recorded trace, whose runs are drawn over it.
    """

    path: Path
    target: str
    level: str = "overview"
    handlers: bool = False
    control: bool = False
    trace: str | None = None

    def rendered(self, root: Path) -> bytes:
        """What the file should hold, from the code as it is now.

        Raises:
            TargetError, TraceError, ValueError, OSError: its target or its trace cannot be had.
        """
        found = load_target(self.target, root)
        made = draw(found, self.level, handlers=self.handlers, control=self.control)
        if self.trace is not None:
            draw_over(made, Trace.load(root / self.trace), found, self.trace)
        return made.rendered(self.path.suffix).encode()


def find_project(start: Path) -> Path:
    """The nearest ``pyproject.toml``, in a folder or above it.

    Raises:
        ValueError: there is none.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "pyproject.toml").is_file():
            return folder / "pyproject.toml"
    raise ValueError(f"there is no pyproject.toml in {start.resolve()} or above it: it would list the diagrams")


def kept_diagrams(project: Path) -> list[KeptDiagram]:
    """The drawings that a ``pyproject.toml`` lists.

    Raises:
        ValueError: it lists none, or one that cannot be drawn.
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
    return [_kept(project, file, entry) for file, entry in listed.items()]


def _kept(project: Path, file: str, entry: Any) -> KeptDiagram:
    fields = {"target": entry} if isinstance(entry, str) else entry
    known = {field.name for field in attrs.fields(KeptDiagram)} - {"path"}
    where = f"{project.name}, [tool.camshaft.diagrams], {file!r}"
    if not isinstance(fields, dict) or not isinstance(fields.get("target"), str):
        raise ValueError(
            f'{where}: give a target, "train.py:trainer" or {{ target = "train.py:trainer", level = "full" }}'
        )
    if strange := sorted(set(fields) - known):
        raise ValueError(f"{where}: there is no {strange[0]!r}; it takes {', '.join(sorted(known))}")
    for name, kind in {"handlers": bool, "control": bool, "trace": str}.items():
        if not isinstance(fields.get(name, kind()), kind):
            raise ValueError(
                f"{where}: {name} is {fields[name]!r}; give {'a file' if kind is str else 'true or false'}"
            )
    if fields.get("level", LEVELS[0]) not in LEVELS:
        raise ValueError(f"{where}: level is {fields['level']!r}; there are {' and '.join(LEVELS)}")
    if Path(file).suffix not in WRITERS:
        raise ValueError(f"{where}: no diagram is written as {Path(file).suffix!r}; use {', '.join(WRITERS)}")
    return KeptDiagram(Path(file), **fields)
