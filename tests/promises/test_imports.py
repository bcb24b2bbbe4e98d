"""Imports follow the order of packages in CONTRIBUTING.md, and never form a circle."""

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
PACKAGES = re.findall(r"^\| `camshaft\.(\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
TOP = ("camshaft", "camshaft.__main__", "camshaft.compat")
"""Modules that may import from every package: camshaft itself, its command, and an old name."""


def module_of(name):
    """Return the module of camshaft that contains a dotted name, or an empty string."""
    while name and name not in FILES:
        name = name.rpartition(".")[0]
    return name


def imported(path):
    """Yield the modules that a file imports: in functions, for type checkers, and by a name in a string too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it leads"
            yield from (module_of(f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (module_of(alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"camshaft(\.\w+)+(:\w+)?", str(node.value)):
            yield module_of(node.value.partition(":")[0])


IMPORTS = {name: {other for other in imported(path) if other not in ("", name)} for name, path in FILES.items()}


def level(name):
    return len(PACKAGES) if name in TOP else PACKAGES.index(name.split(".")[1])


def test_every_package_has_a_row_in_contributing():
    packages = {name.split(".")[1] for name in FILES if name not in TOP}
    assert set(PACKAGES) == packages
    assert len(PACKAGES) == len(packages)


@pytest.mark.parametrize("name", FILES)
def test_a_file_imports_only_from_its_own_row_and_above(name):
    assert not [other for other in IMPORTS[name] if level(other) > level(name)]


def test_no_files_import_each_other_in_a_circle():
    graphlib.TopologicalSorter(IMPORTS).prepare()
