"""The worlds in which each metric and handler of pytorch-ignite is tried."""

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
        engine: makes an engine of a step.
        events: the built-in events.
        folder: an empty one.
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
    """What the case gives; what it writes to the logs of pytorch-ignite or to stderr is not shown."""
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
        ignite.engine.State.event_to_attr = counted  # what one engine adds there counts for all of them


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal to the last bit; NaN is equal to itself."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one.nan_to_num(7.7), other.nan_to_num(7.7))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@cache
def observe(name: str) -> tuple[str, str]:
    """How far a metric or handler works on camshaft's engine, and what went wrong before that."""
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
    """This function shows what these names do."""

    def add(function: Case) -> Case:
        for name in names:
            assert name not in CASES, name
            CASES[name] = function
        return function

    return add
