"""Code for several tests: models, loops, a second way to run a loop, and readers of pictures and tables."""

import ast
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The folder of the repository."""


def path_of(file: str) -> str:
    """Return the path of a file relative to the repository, as in the call site of an event."""
    return Path(file).relative_to(ROOT).as_posix()


def names_of_tests(files: Iterable[Path]) -> set[str]:
    """Return the names of the tests in these files, without ``test_``."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    functions = [node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {name.removeprefix("test_") for name in functions if name.startswith("test_")}
