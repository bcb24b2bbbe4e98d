"""States of torchmetrics metrics: all of them, also those that ``state_dict()`` of a metric leaves out.

A metric accumulates in its declared states, which its ``state_dict()`` has only if they are persistent. Some metrics
also count in plain attributes and buffers, some have random generators, and wrappers hold other metrics.
"""

from __future__ import annotations

import copy
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Set
from functools import lru_cache, partial
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from camshaft._tensors import convert_tensor
from camshaft.engine.engine import Engine
from camshaft.resume.attribute_states import AttributeStates, base_attributes
from camshaft.resume.plain import decoded, encoded
from camshaft.resume.search import LEAVES, parts_of

__all__ = ["MetricStates", "contains_metrics", "metrics_in"]


def contains_metrics(obj: Any) -> bool:
    """Return whether an object is a metric of torchmetrics, or a module that contains one."""
    return isinstance(obj, nn.Module) and any(True for _ in metrics_in(obj))


class MetricStates:
    """The states of a metric and of all metrics inside of it.

    Args:
        metric: a metric, a collection, or a module with metrics in it.
        is_new: whether the metric had no update so far. Plain attributes that keep their value are then taken as
            configuration, and not saved.
    """

    def __init__(self, metric: nn.Module, is_new: bool = True) -> None:
        self.metric = metric
        self._attributes = AttributeStates(partial(_counting, metric), _not_attributes, is_new)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all metrics, by the path to each metric."""
        _separate_groups(self.metric)
        parts = dict(metrics_in(self.metric))
        return {
            "metrics": {path: _state(part) for path, part in parts.items()},
            "attributes": self._attributes.state_dict(),
            "lengths": {path: len(tracker) for path, tracker in _trackers(self.metric)},
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the states of all metrics.

        Raises:
            ValueError: the saved metrics are not those that are here.
        """
        self.fit(state_dict)
        parts, metrics = dict(metrics_in(self.metric)), state_dict["metrics"]
        differing = [f"{path or 'itself'} is not in the file" for path in parts if path not in metrics]
        differing += [f"{path or 'itself'} is in the file only" for path in metrics if path not in parts]
        if differing:
            raise ValueError(f"the metrics inside of it are others: {', '.join(differing)}")
        differing = [
            f"{path or type(part).__name__} has the states {sorted(part.metric_state)}, not "
            f"{sorted(metrics[path]['state'])}"
            for path, part in parts.items()
            if set(part.metric_state) != set(metrics[path]["state"])
        ]
        if differing:
            raise ValueError(", ".join(differing))
        for path, part in parts.items():
            saved = metrics[path]
            for name, value in saved["state"].items():
                setattr(part, name, convert_tensor(copy.deepcopy(value), part.device))
            computed = convert_tensor(decoded(saved["computed"]), part.device)
            part._update_count, part._computed = saved["updates"], computed  # there are no public setters
        self._attributes.load_state_dict(state_dict["attributes"])

    def fit(self, state_dict: Mapping[str, Any]) -> None:
        """Give trackers as many metrics as in a state. Each call of their ``increment()`` has added one."""
        for path, tracker in _trackers(self.metric):
            wanted = state_dict["lengths"].get(path, len(tracker))
            while len(tracker) > wanted:
                del tracker._modules[str(len(tracker) - 1)]  # `del tracker[-1]` would rename its first metric
            while len(tracker) < wanted:
                tracker.append(copy.deepcopy(tracker._base_metric))
            tracker._increment_called = wanted > 1


def _state(part: Any) -> dict[str, Any]:
    try:
        computed = encoded(part._computed)  # a second call of compute() returns it
    except TypeError:
        computed = None
    return {"updates": part._update_count, "computed": computed, "state": dict(part.metric_state)}


def metrics_in(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield every metric in a module with the path to it."""
    torchmetrics = sys.modules.get("torchmetrics")  # without it, nothing is a metric
    if torchmetrics is not None:
        yield from ((path, one) for path, one in _inside(module) if isinstance(one, torchmetrics.Metric))


def _trackers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield every tracker of metrics in a module with the path to it."""
    torchmetrics: Any = sys.modules["torchmetrics"]
    tracker = torchmetrics.wrappers.MetricTracker
    yield from ((path, one) for path, one in list(_inside(module)) if isinstance(one, tracker))


def _counting(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the metrics in a module, and the modules inside of them except for collections."""
    torchmetrics: Any = sys.modules["torchmetrics"]
    metrics = list(metrics_in(module))
    yield from metrics
    seen = {id(one) for _, one in metrics}
    for path, metric in metrics:
        for name, part in metric.named_modules():
            if id(part) not in seen and not type(part).__module__.startswith(torchmetrics.__name__):
                seen.add(id(part))
                yield f"{path}.{name}".lstrip("."), part


def _inside(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield a module and what is inside of it, with paths of attributes, indices and keys."""
    seen: dict[int, Any] = {}  # keeps each object alive, so that its id is not used again
    waiting: deque[tuple[str, Any]] = deque([("", module)])
    while waiting:
        path, value = waiting.popleft()
        if id(value) in seen or isinstance(value, (*LEAVES, FunctionType, Engine, DataLoader, torch.optim.Optimizer)):
            continue
        seen[id(value)] = value
        yield path, value
        children = _children(value) if isinstance(value, nn.Module) else parts_of(value)
        waiting.extend((f"{path}{name}".removeprefix("."), inner) for name, inner in children)


def _children(module: nn.Module) -> Iterator[tuple[str, Any]]:
    skipped = _not_attributes(module)
    yield from ((f".{name}", inner) for name, inner in module._modules.items())
    yield from ((f".{name}", inner) for name, inner in vars(module).items() if name not in skipped)


def _not_attributes(module: nn.Module) -> Set[str]:
    """Return the names of the attributes of a metric or of a module in it that are saved elsewhere, or nowhere."""
    torchmetrics: Any = sys.modules["torchmetrics"]
    if isinstance(module, torchmetrics.Metric):
        return _metric_attributes() | set(module._defaults)
    return base_attributes()


@lru_cache(maxsize=1)
def _metric_attributes() -> frozenset[str]:
    """Return the names of the attributes that every module and every metric has."""
    torchmetrics: Any = sys.modules["torchmetrics"]
    nothing = {"update": lambda self: None, "compute": lambda self: None}
    return frozenset(vars(type("Nothing", (torchmetrics.Metric,), nothing)()))


def _separate_groups(metric: nn.Module) -> None:
    """Copy the states that metrics of a collection share to each of them."""
    torchmetrics: Any = sys.modules["torchmetrics"]
    for _, part in list(_inside(metric)):
        if isinstance(part, torchmetrics.MetricCollection):
            part.items()  # does it
