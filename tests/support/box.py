"""The README's table of public names: each with a link, and the first line of its docstring."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import camshaft
from support import ROOT

MODULES = ["camshaft.training", "camshaft.metrics", "camshaft.handlers", "camshaft.compat"]


def where(module, name):
    """Return the file that defines a public name, and the first line of its docstring."""
    found = getattr(module, name)
    owner = sys.modules[found.__module__] if inspect.isclass(found) or inspect.isfunction(found) else module
    path = Path(inspect.getsourcefile(owner))
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return path, ast.get_docstring(node).splitlines()[0]
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return path, inspect.cleandoc(following.value.value).splitlines()[0]
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return where(importlib.import_module(node.module), name)
    raise LookupError(f"{name} is not defined in {path}")


def table():
    rows = ["| from | name | |", "| --- | --- | --- |"]
    for module in map(importlib.import_module, MODULES):
        known = camshaft.__all__ if module.__name__ == "camshaft.compat" else ()  # it has names of camshaft too
        for name in module.__all__:
            if name in known:
                continue
            path, words = where(module, name)
            words = re.sub(r":\w+:`~?([^`]+)`", r"``\1``", words).replace("``", "`")
            link = path.relative_to(ROOT).as_posix()
            rows.append(f"| `{module.__name__}` | [`{name}`]({link}) | {words} |")
    return "\n".join(rows)
