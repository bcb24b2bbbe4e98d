"""The engines on which each metric and handler of pytorch-ignite is tried."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import ignite.engine
import torch

import camshaft
from camshaft import Engine, record
from camshaft.compat import as_ignite


@attrs.frozen
class World:
    """An engine, and the events that the user's code imports.

    Attributes:
        engine: a function that returns an engine for a step.
        events: the enum of the built-in events.
        folder: an empty folder.
    """

    engine: Callable[[Callable[[Any, Any], Any]], Any]
    events: Any
    folder: Path


def ours(step: Callable[[Any, Any], Any]) -> Engine:
    return Engine(step, "trainer")


def ours_as_ignite(step: Callable[[Any, Any], Any]) -> Engine:
    return as_ignite(ours(step))


UNCHANGED = "works unchanged"
WITH_LINE = "works after `as_ignite(engine)`"
FAILS = "does not work"
MAKERS = {UNCHANGED: ours, WITH_LINE: ours_as_ignite}
EVENTS = (ignite.engine.Events, camshaft.Events)

Case = Callable[[World], Any]


def play(case: Case, engine: Any, events: Any) -> Any:
    """Run a case and return its result. Its output to stderr and to the log of pytorch-ignite is dropped."""
    counted = dict(ignite.engine.State.event_to_attr)
    logging.disable(logging.CRITICAL)
    torch.manual_seed(0)
    try:
        with (
            warnings.catch_warnings(),
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stderr(io.StringIO()),
            record() as trace,
        ):
            warnings.filterwarnings("ignore", module=r"ignite\.")
            found = case(World(engine, events, Path(folder)))
        trace.assert_legal()
        return found
    finally:
        logging.disable(logging.NOTSET)
        ignite.engine.State.event_to_attr = counted  # an engine adds attributes there for all engines


def same(one: Any, other: Any) -> bool:
    """Return whether two results are equal, bit for bit. NaN equals NaN."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one.nan_to_num(7.7), other.nan_to_num(7.7))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@cache
def observe(name: str) -> tuple[str, str]:
    """Return the first result of ``MAKERS`` with which a metric or handler works, and the failures before it."""
    case, wrong = CASES[name], ""
    expected = play(case, ignite.engine.Engine, ignite.engine.Events)
    for result, engine in MAKERS.items():
        try:
            found = [play(case, engine, events) for events in EVENTS]
        except Exception as error:
            wrong += f"{result}? {type(error).__name__}: {error}\n"
            continue
        if all(same(expected, one) for one in found):
            return result, wrong
        wrong += f"{result}? expected {expected}, got {found}\n"
    return FAILS, wrong


CASES: dict[str, Case] = {}


def case(*names: str) -> Callable[[Case], Case]:
    """Register a function as the case of these names."""

    def add(function: Case) -> Case:
        for name in names:
            assert name not in CASES, name
            CASES[name] = function
        return function

    return add
