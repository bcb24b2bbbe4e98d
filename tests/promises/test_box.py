"""The README's table of everything in the box: each public name with the first line of its docstring, and a link to it.

It is written by ``PYTHONPATH=tests python -m test_box``.
"""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

from support import ROOT, tables

NAME = "table of the box"
MODULES = ["camshaft.training", "camshaft.metrics", "camshaft.handlers", "camshaft.compat"]


def where(module, name):
    """The file where a public name is made, and the first line of its docstring."""
    found = getattr(module, name)
    owner = sys.modules[found.__module__] if inspect.isclass(found) or inspect.isfunction(found) else module
    path = Path(inspect.getsourcefile(owner))
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, behind in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return path, ast.get_docstring(node).splitlines()[0]
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return path, inspect.cleandoc(behind.value.value).splitlines()[0]
    raise LookupError(f"{name} is not made in {path}")


def table():
    rows = ["| from | name | |", "| --- | --- | --- |"]
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            path, words = where(module, name)
            words = re.sub(r":\w+:`~?([^`]+)`", r"``\1``", words).replace("``", "`")
            link = path.relative_to(ROOT).as_posix()
            rows.append(f"| `{module.__name__}` | [`{name}`]({link}) | {words} |")
    return "\n".join(rows)


def test_the_table_of_the_readme_has_every_public_name_with_what_its_docstring_says():
    assert tables.written(NAME) == table(), "write it anew: PYTHONPATH=tests python -m test_box"


def test_importing_the_box_is_light():
    heavy = ["rich.progress", "tensorboard", "torchvision", "torchmetrics", "ignite", "hypothesis"]
    code = f"import sys, camshaft.handlers, camshaft.training; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n", done.stderr


if __name__ == "__main__":
    tables.write(NAME, table())
