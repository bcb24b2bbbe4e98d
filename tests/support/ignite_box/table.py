"""The names that are not tried, and the table of the README."""

from __future__ import annotations

import inspect
from typing import Any

import ignite.handlers
import ignite.metrics
import ignite.metrics.metric

from support import tables
from support.ignite_box.worlds import FAILS, UNCHANGED, WITH_LINE, observe

UNTRIED = {
    "GpuInfo": "needs a GPU and the package pynvml",
    "coco_tensor_list_to_dict_list": "takes no engine",
    "ClearMLLogger": "need a package and a service each",
    "MLflowLogger": "need a package and a service each",
    "NeptuneLogger": "need a package and a service each",
    "PolyaxonLogger": "need a package and a service each",
    "VisdomLogger": "need a package and a service each",
    "WandBLogger": "need a package and a service each",
}
INSTEAD = {
    "BasicTimeProfiler": "they write to private lists of the engine; `camshaft.handlers` has both",
    "HandlersTimeProfiler": "they write to private lists of the engine; `camshaft.handlers` has both",
}


def public(module: Any) -> set[str]:
    """Return the public names of a module, with those of its public packages."""
    if not hasattr(module, "__all__"):
        return {
            name for name, thing in vars(module).items() if not name.startswith("_") and not inspect.ismodule(thing)
        }
    offered = {name: getattr(module, name) for name in module.__all__}
    return set().union(*(public(thing) if inspect.ismodule(thing) else {name} for name, thing in offered.items()))


def usages() -> set[str]:
    """Return the usages of metrics: public names that only the ``__all__`` of their own module has."""
    return set(ignite.metrics.metric.__all__)


IN_THE_BOX = {"metrics": public(ignite.metrics) | usages(), "handlers": public(ignite.handlers)}


def result(name: str) -> str:
    """Return the result for a name, as in the table."""
    if name in UNTRIED:
        return f"untried: {UNTRIED[name]}"
    observed, _ = observe(name)
    return f"{observed}: {INSTEAD[name]}" if observed == FAILS else observed


def table() -> str:
    """Return the table of the README. Names of one kind with the same result share a row."""
    lines = ["| from | result | names |", "| --- | --- | --- |"]
    for kind, names in IN_THE_BOX.items():
        rows: dict[str, list[str]] = {}
        for name in sorted(names, key=str.lower):
            rows.setdefault(result(name), []).append(f"`{name}`")
        order = [UNCHANGED, WITH_LINE, *sorted(set(rows) - {UNCHANGED, WITH_LINE})]
        lines += [f"| `ignite.{kind}` | {row} | {', '.join(rows[row])} |" for row in order if row in rows]
    return "\n".join(lines)


def row_in_readme(name: str) -> str:
    rows = [line.split(" | ") for line in tables.written("ignite-box").splitlines()]
    (found,) = [row[1] for row in rows if f"`{name}`" in row[-1]]
    return found
