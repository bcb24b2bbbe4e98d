"""Imports run downwards: in the order of the rooms that CONTRIBUTING.md gives, and never in a circle."""

import ast
import graphlib
import re

import pytest

from support import ROOT

PACKAGE = ROOT / "src" / "camshaft"
FILES = {
    ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
ROOMS = re.findall(r"^\| `camshaft\.(\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
TOP = ("camshaft", "camshaft.__main__", "camshaft.compat")
"""What stands above all rooms: the package itself, its command, and an old name."""


def known(name):
    """The file that a dotted name is in; the empty string where it is none of ours."""
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name


def imported(path):
    """The files that a file imports anywhere: in functions, for type checkers, and by a name in a string too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it leads"
            yield from (known(f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (known(alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"camshaft(\.\w+)+(:\w+)?", str(node.value)):
            yield known(node.value.partition(":")[0])


IMPORTS = {name: {other for other in imported(path) if other not in ("", name)} for name, path in FILES.items()}


def level(name):
    return len(ROOMS) if name in TOP else ROOMS.index(name.split(".")[1])


def test_every_room_has_its_line_in_the_order():
    rooms = {name.split(".")[1] for name in FILES if name not in TOP}
    assert set(ROOMS) == rooms
    assert len(ROOMS) == len(rooms)


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_nothing_from_above(name):
    assert not [other for other in IMPORTS[name] if level(other) > level(name)]


def test_no_files_import_each_other_in_a_circle():
    graphlib.TopologicalSorter(IMPORTS).prepare()
