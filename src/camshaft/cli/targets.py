"""Targets: engines and loops named by a text such as ``train.py:trainer``."""

from __future__ import annotations

import importlib
import importlib.util
import reprlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from camshaft.engine.engine import Engine
from camshaft.exceptions import TargetError
from camshaft.loop.loop import Loop

__all__ = ["load_loop", "load_target"]


def load_target(target: str, root: Path | None = None) -> Engine | Loop:
    """Import the engine or loop named by a target, and return it.

    Args:
        target: ``package.module:name`` or ``path/to/file.py:name``, for an engine, a loop, or a function without
            arguments that returns one.
        root: the folder in which files and modules are searched; by default the working directory.

    Raises:
        TargetError: the target cannot be imported, or is neither an engine nor a loop.
    """
    module_name, _, name = target.rpartition(":")
    if not module_name or not name:
        raise TargetError(f"{target}: write package.module:name or path/to/file.py:name")
    try:
        with _as_if_run(module_name, root or Path()):
            module = _import(module_name, root or Path())
            if not hasattr(module, name):
                raise AttributeError(f"it has no attribute {name!r}")
            found = getattr(module, name)
            if callable(found) and not isinstance(found, Engine):
                found = found()
    except (Exception, SystemExit) as error:
        message = " ".join(str(error).split())
        raise TargetError(f"{target}: {type(error).__name__}: {message}") from error
    if not isinstance(found, (Engine, Loop)):
        raise TargetError(
            f"{target} must be an Engine, a Loop, or a function without arguments that returns one, "
            f"got {reprlib.repr(found)}"
        )
    return found


def load_loop(target: str, root: Path | None = None) -> Loop:
    """Import the loop, or the engine, named by a target, and return the loop.

    Args:
        target, root: see :func:`load_target`.

    Raises:
        TargetError: the target cannot be imported, or is neither an engine nor a loop.
    """
    found = load_target(target, root)
    return found.loop if isinstance(found, Engine) else found


@contextmanager
def _as_if_run(name: str, root: Path) -> Iterator[None]:
    """Make modules importable as if Python ran the file, and undo that afterwards.

    Modules from the folder of a file are forgotten: another file may import a different module of the same name.
    """
    is_file = name.endswith(".py")
    folder = str((root / name).parent if is_file else root)
    path, known = [*sys.path], set(sys.modules)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path[:] = path
        for module in set(sys.modules) - known if is_file else ():
            file = getattr(sys.modules[module], "__file__", None)
            if file is not None and Path(file).resolve().is_relative_to(Path(folder).resolve()):
                del sys.modules[module]


def _import(name: str, root: Path) -> Any:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = root / name
    unique = f"camshaft_target_{path.stem}"  # a file named like a module of the standard library must not replace it
    spec = importlib.util.spec_from_file_location(unique, path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"there is no file {name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    spec.loader.exec_module(module)
    return module
