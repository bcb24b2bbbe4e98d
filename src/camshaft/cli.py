"""The command line: look at loops, and judge recorded traces."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from camshaft.codegen import generate
from camshaft.engine import Engine
from camshaft.loop import Loop
from camshaft.machine import EventOrderError, LoopMachine
from camshaft.trace import Trace, TraceError

__all__ = ["app"]

app = typer.Typer(
    help="Look at training loops, and judge recorded traces.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Target = Annotated[
    str,
    typer.Argument(
        help="package.module:name or path/to/file.py:name, an engine, a loop, or a function that makes one."
    ),
]


def load_target(target: str) -> Loop:
    """The loop that a target names.

    Raises:
        typer.BadParameter: it cannot be imported, or names no loop.
    """
    module_name, _, name = target.rpartition(":")
    if not module_name or not name:
        raise typer.BadParameter(f"{target}: write package.module:name or path/to/file.py:name")
    try:
        found = getattr(_import(module_name), name)
        if callable(found) and not isinstance(found, Engine):
            found = found()
    except Exception as error:
        raise typer.BadParameter(f"{target}: {type(error).__name__}: {error}") from error
    loop = found.loop if isinstance(found, Engine) else found
    if not isinstance(loop, Loop):
        raise typer.BadParameter(
            f"{target} is {found!r}: name an Engine, a Loop, or a function without arguments that makes one"
        )
    return loop


def _import(name: str) -> Any:
    if not name.endswith(".py"):
        sys.path.insert(0, "")
        return importlib.import_module(name)
    path = Path(name)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"there is no file {name}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@app.command()
def source(target: Target) -> None:
    """Print the Python that runs for a loop."""
    typer.echo(generate(load_target(target)).source, nl=False)


@app.command()
def show(target: Target) -> None:
    """Print a loop as a tree of states, and its machine."""
    loop = load_target(target)
    typer.echo(f"{loop}\n\n{LoopMachine(loop)}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A trace that Trace.save wrote.")],
    loop: Annotated[str | None, typer.Option(help="Judge the outermost runs by this loop instead: a TARGET.")] = None,
) -> None:
    """Judge a recorded trace by the loops it carries: exit 1 at the first illegal event."""
    judged_by = load_target(loop) if loop is not None else None
    try:
        trace = Trace.load(file)
        trace.assert_legal(judged_by)
    except (EventOrderError, TraceError, OSError) as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{file}: {trace.summary()}, all legal")
