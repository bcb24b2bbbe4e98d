"""The README's section for users of pytorch-ignite is complete.

Every public name of the installed version has a row, every replacement exists, and every difference has a test.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import ignite.engine
import ignite.handlers
import ignite.metrics
import pytest
import torch
from torch import nn

import camshaft
import camshaft.compat
import camshaft.handlers
import camshaft.metrics
from support import ROOT, names_of_tests

SECTION = (
    (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Coming from pytorch-ignite\n")[1].split("\n## ")[0]
)


def rows(subsection: str) -> Iterator[list[str]]:
    """Return the cells of each row of the table in a subsection of the README."""
    text = SECTION.split(f"\n### {subsection}\n")[1].split("\n### ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# -- names ------------------------------------------------------------------------------------------------------------


def step(engine: Any, batch: Any) -> None:
    """Do nothing."""


THEIRS = {"Engine": ignite.engine.Engine(step), "State": ignite.engine.State(), "Events": ignite.engine.Events.STARTED}
OURS = {"Engine": camshaft.Engine(step), "State": camshaft.State(), "Events": camshaft.Events.STARTED}
NAMES = {name: here for names, here in rows("Every public name") for name in quoted(names)}
SAME = "the same"


def public_names() -> set[str]:
    """Return what ``ignite.engine`` exports, and the public attributes of its classes and their instances."""
    names = set(ignite.engine.__all__)
    for owner, instance in THEIRS.items():
        names |= {f"{owner}.{name}" for name in dir(instance) if not name.startswith("_")}
    return names | {f"Events.{event.name}" for event in ignite.engine.Events}


def find(name: str, owners: dict[str, Any], module: Any) -> Any:
    """Return a class or function of the module, or an attribute of one of the ``owners``, by its dotted name."""
    owner, _, attribute = name.partition(".")
    if not attribute:
        return getattr(module, owner)
    return getattr(owners[owner], attribute)


def test_every_public_name_has_a_row():
    listed = [name for names, _ in rows("Every public name") for name in quoted(names)]
    assert len(listed) == len(set(listed))
    assert set(listed) == public_names() | {"Events.__call__"}


@pytest.mark.parametrize("name", sorted(name for name, here in NAMES.items() if here.startswith(SAME)))
def test_names_called_the_same_exist_with_the_same_parameters(name):
    theirs, ours = find(name, THEIRS, ignite.engine), find(name, OURS, camshaft)
    if isinstance(theirs, ignite.engine.Events):
        assert ours.value == theirs.value
    elif name == "Engine" or inspect.isroutine(theirs):
        compare_parameters(theirs, ours, NAMES[name])
    else:
        assert callable(ours) == callable(theirs)


def compare_parameters(theirs: Callable[..., Any], ours: Callable[..., Any], here: str) -> None:
    """Check that the row names every parameter that differs."""
    expected, found = (inspect.signature(function).parameters for function in (theirs, ours))
    for name, parameter in expected.items():
        if name not in found:
            assert name in quoted(here), f"{name} has another name here"
        elif found[name].kind is not parameter.kind:
            assert name in quoted(here), f"{name} is passed in another way here"
            assert "by name" in here
        elif not callable(parameter.default):
            assert found[name].default == parameter.default, name
    by_place = [name for name in expected if name in found and found[name].kind is not inspect.Parameter.KEYWORD_ONLY]
    assert by_place == [name for name in found if name in by_place], "in another order here"
    if here == SAME:
        assert list(expected) == list(found)


def test_a_parameter_that_differs_must_be_named():
    with pytest.raises(AssertionError, match="event has another name here"):
        compare_parameters(THEIRS["Engine"].has_registered_events, OURS["Engine"].on, SAME)
    with pytest.raises(AssertionError, match="skip is passed in another way here"):
        compare_parameters(lambda self, skip: None, lambda self, *, skip: None, SAME)


ROOTS = {"camshaft": camshaft, "engine": OURS["Engine"], "state": OURS["State"], "Events": camshaft.Events}
COUNTERPARTS = sorted(
    {
        expression
        for expression in quoted(SECTION)
        if re.match(r"(camshaft|engine|state|Events)\.", expression) and expression not in NAMES
    }
)


@pytest.mark.parametrize("expression", COUNTERPARTS)
def test_every_replacement_exists(expression):
    root, *names = re.match(r"\w+(\.\w+)*", expression).group().split(".")
    found = ROOTS[root]
    for name in names:
        found = getattr(found, name)


def imported(line: str) -> list[tuple[str, str]]:
    module, names = re.fullmatch(r"from (\S+) import (.+)", line).groups()
    return [(module, name) for name in names.split(", ")]


IMPORTS = [
    (number, pair)
    for number, row in enumerate(rows("Import lines"))
    for cell in row
    for line in quoted(cell)
    if line.startswith("from ")
    for pair in imported(line)
]


@pytest.mark.parametrize(("module", "name"), [pair for _, pair in IMPORTS])
def test_every_import_line_works(module, name):
    assert hasattr(importlib.import_module(module), name)


def test_replaced_import_lines_import_the_same_names():
    lines: dict[int, dict[str, set[str]]] = {}
    for number, (module, name) in IMPORTS:
        lines.setdefault(number, {}).setdefault(module.partition(".")[0], set()).add(name)
    assert all(line["ignite"] == line["camshaft"] for line in lines.values())
    assert len(lines) == len(list(rows("Import lines")))


# -- arguments of metrics and handlers ---------------------------------------------------------------------------------

ARGUMENTS = {name: there for names, there in rows("Arguments of metrics and handlers") for name in quoted(names)}
IN_BOTH = {
    name: (getattr(theirs, name), getattr(ours, name))
    for theirs, ours in ((ignite.metrics, camshaft.metrics), (ignite.handlers, camshaft.handlers))
    for name in sorted(set(dir(theirs)) & set(ours.__all__))
}


def unsaid(theirs: Callable[..., Any], ours: Callable[..., Any], row: str) -> set[str]:
    """Return the parameters of the first signature that neither the second nor the row names; and ``attach()``."""
    expected, found = (set(inspect.signature(function).parameters) for function in (theirs, ours))
    if hasattr(theirs, "attach"):
        expected.add("attach")
    if hasattr(ours, "attach"):
        found.add("attach")
    return expected - found - {re.match(r"\w+", name).group() for name in quoted(row)}


def test_every_metric_and_handler_of_both_has_a_row():
    assert set(ARGUMENTS) == set(IN_BOTH)


@pytest.mark.parametrize("name", IN_BOTH)
def test_an_argument_that_differs_is_named(name):
    theirs, ours = IN_BOTH[name]
    assert unsaid(theirs, ours, ARGUMENTS[name]) == set()
    if ARGUMENTS[name] == SAME:
        assert list(inspect.signature(theirs).parameters) == list(inspect.signature(ours).parameters)


def test_an_argument_that_differs_must_be_named():
    assert unsaid(*IN_BOTH["EarlyStopping"], "`threshold`: `min_delta`. `attach`: none") == {
        "cumulative_delta",
        "min_delta_mode",
        "mode",
        "threshold_mode",
    }


def test_a_metric_of_ignite_attaches_itself():
    evaluator = camshaft.create_supervised_evaluator(nn.Identity())
    ignite.metrics.MeanSquaredError().attach(evaluator, "error")
    data = [(torch.ones(2), torch.zeros(2))]
    assert evaluator.run(data).metrics == {"error": 1.0}


# -- differences ------------------------------------------------------------------------------------------------------


def test_every_difference_has_a_test_and_is_in_the_table():
    folder = ROOT / "tests" / "promises" / "parity_with_ignite"
    tests = names_of_tests(set(folder.glob("test_*.py")) - {folder / "test_random_programs.py"})
    no_differences = {"these_filters_are_the_same"}
    told = [name for *_, cell in rows("What differs, and why") for name in quoted(cell)]
    assert sorted(told) == sorted(tests - no_differences)
