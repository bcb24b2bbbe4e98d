"""States of torchmetrics metrics: all of them, also those that ``state_dict()`` of a metric leaves out.

A metric accumulates in its declared states, which its ``state_dict()`` has only if they are persistent. Some metrics
also count in plain attributes, and wrappers hold other metrics.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from torch import nn

from camshaft._tensors import convert_tensor
from camshaft.resume.plain import is_equal, is_plain

__all__ = ["MetricStates", "contains_metrics"]


def contains_metrics(obj: Any) -> bool:
    """Return whether an object is a metric of torchmetrics, or a module that contains one."""
    return isinstance(obj, nn.Module) and any(True for _ in _metrics(obj))


class MetricStates:
    """The states of a metric and of all metrics inside of it.

    Args:
        metric: a metric, a collection, or a module with metrics in it.
        is_new: whether the metric had no update so far. Plain attributes that keep their value are then taken as
            configuration, and not saved.
    """

    def __init__(self, metric: nn.Module, is_new: bool = True) -> None:
        self.metric = metric
        parts = _metrics(metric) if is_new else ()
        self._before = {path: copy.deepcopy(_plain_attributes(part)) for path, part in parts}

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all metrics, by the path to each metric."""
        _separate_groups(self.metric)
        return {path: self._state(path, part) for path, part in _metrics(self.metric)}

    def _state(self, path: str, part: Any) -> dict[str, Any]:
        before = self._before.get(path, {})
        changed = {
            name: value
            for name, value in _plain_attributes(part).items()
            if name not in before or not is_equal(value, before[name])
        }
        return {"updates": part._update_count, "state": dict(part.metric_state), "attributes": changed}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the states of all metrics.

        Raises:
            ValueError: the saved metrics are not those that are here.
        """
        parts = dict(_metrics(self.metric))
        differing = sorted(set(parts) ^ set(state_dict))
        if differing:
            where = "is not in the file" if differing[0] in parts else "is in the file only"
            raise ValueError(f"the metrics inside of it are others: {differing[0] or 'itself'} {where}")
        for path, part in parts.items():
            saved = state_dict[path]
            own = set(part.metric_state)
            if own != set(saved["state"]):
                raise ValueError(
                    f"{path or type(part).__name__} has the states {sorted(own)}, not {sorted(saved['state'])}"
                )
        for path, part in parts.items():
            saved = state_dict[path]
            attributes = copy.deepcopy(self._before.get(path, {})) | saved["attributes"]
            for name, value in (saved["state"] | attributes).items():
                setattr(part, name, convert_tensor(copy.deepcopy(value), part.device))
            part._update_count, part._computed = saved["updates"], None  # there are no public setters


def _metrics(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield every metric in a module with the path to it: attributes, and indices or keys in plain containers."""
    torchmetrics = sys.modules.get("torchmetrics")  # without it, nothing is a metric
    if torchmetrics is None:
        return
    seen: set[int] = set()
    waiting: list[tuple[str, Any]] = [("", module)]
    while waiting:
        path, value = waiting.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torchmetrics.Metric):
            yield path, value
        waiting += [(f"{path}.{name}".lstrip("."), inner) for name, inner in _children(value)]


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the modules and containers that a module or a container holds."""
    if isinstance(value, nn.Module):
        yield from value._modules.items()
        skipped = _base_attributes()
        items = ((name, inner) for name, inner in vars(value).items() if name not in skipped)
    elif isinstance(value, Mapping):
        items = ((str(key), inner) for key, inner in value.items())
    else:
        items = ((str(index), inner) for index, inner in enumerate(value))
    yield from ((name, inner) for name, inner in items if isinstance(inner, (nn.Module, dict, list, tuple)))


def _plain_attributes(part: Any) -> dict[str, Any]:
    """Return the attributes of a metric that are neither states nor part of every metric."""
    skipped = _base_attributes() | set(part._defaults)
    return {name: value for name, value in vars(part).items() if name not in skipped and is_plain(value)}


@lru_cache(maxsize=1)
def _base_attributes() -> frozenset[str]:
    """Return the names of the attributes that every module and every metric has."""
    torchmetrics: Any = sys.modules["torchmetrics"]
    nothing = {"update": lambda self: None, "compute": lambda self: None}
    return frozenset(vars(type("Nothing", (torchmetrics.Metric,), nothing)()))


def _separate_groups(metric: nn.Module) -> None:
    """Copy the states that metrics of a collection share to each of them."""
    torchmetrics: Any = sys.modules["torchmetrics"]
    for part in metric.modules():
        if isinstance(part, torchmetrics.MetricCollection):
            part.items()  # does it
