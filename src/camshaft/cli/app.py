"""The command line: look at loops, draw them, and judge and report recorded traces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from camshaft.cli.targets import load_loop, load_target
from camshaft.compiler.writer import generate
from camshaft.exceptions import EventOrderError, TargetError, TraceError
from camshaft.loop.loop import Loop
from camshaft.machine.machine import LoopMachine
from camshaft.trace.trace import Trace

__all__ = ["app"]

app = typer.Typer(
    help="Look at training loops, draw them, and judge and report recorded traces.",
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


@contextmanager
def _one_line() -> Iterator[None]:
    """Say in one line what cannot be done, and leave with exit code 2."""
    try:
        yield
    except (TargetError, TraceError, OSError, ValueError) as error:
        said = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
        typer.echo(f"camshaft: {said}", err=True)
        raise typer.Exit(2) from None


def _loop(target: str) -> Loop:
    with _one_line():
        return load_loop(target)


@app.command()
def source(target: Target) -> None:
    """Print the Python that runs for a loop."""
    typer.echo(generate(_loop(target)).source, nl=False)


@app.command()
def show(target: Target) -> None:
    """Print a loop as a tree of states, and its machine."""
    loop = _loop(target)
    typer.echo(f"{loop}\n\n{LoopMachine(loop)}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A trace that Trace.save wrote.")],
    loop: Annotated[str | None, typer.Option(help="Judge the outermost runs by this loop instead: a TARGET.")] = None,
) -> None:
    """Judge a recorded trace by the loops it carries: exit 1 at the first illegal event, 2 if it is unreadable."""
    judged_by = _loop(loop) if loop is not None else None
    with _one_line():
        trace = Trace.load(file)
    try:
        trace.assert_legal(judged_by)
    except EventOrderError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{file}: {trace.summary()}, all legal")


class Level(StrEnum):
    """How much a diagram shows."""

    OVERVIEW = "overview"
    FULL = "full"


@app.command()
def draw(
    target: Annotated[str | None, typer.Argument(help="As for source; left out with --all and --check.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .svg, .mmd, .dot, .txt or .html file; the terminal unless given."),
    ] = None,
    level: Annotated[Level, typer.Option(help="The states everyone knows, or every transition.")] = Level.OVERVIEW,
    handlers: Annotated[bool, typer.Option("--handlers", help="List the handlers at their events.")] = False,
    control: Annotated[
        bool, typer.Option("--control", help="Show what terminate, interrupt and failures bring.")
    ] = False,
    trace: Annotated[Path | None, typer.Option(help="Draw the runs of this recorded trace over it.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Draw what [tool.camshaft.diagrams] in pyproject.toml lists.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 and name each listed file that is out of date.")
    ] = False,
) -> None:
    """Draw a loop, or every drawing that a project keeps."""
    from camshaft.draw import diagram as drawing

    if every or check:
        others = [target, output, trace, level is not Level.OVERVIEW, handlers, control, every and check]
        if any(others):
            raise typer.BadParameter("give a TARGET with its options, or --all, or --check")
        _draw_kept(check)
        return
    if target is None:
        raise typer.BadParameter("give a TARGET such as train.py:trainer, or --all")
    with _one_line():
        found = load_target(target)
        made = drawing.draw(found, level.value, handlers=handlers, control=control)
        if trace is not None:
            drawing.draw_over(made, Trace.load(trace), found, str(trace))
        if output is None:
            typer.echo(made.text(), nl=False)
        else:
            made.save(output)


def _draw_kept(check: bool) -> None:
    from camshaft.cli.kept_diagrams import find_project, kept_diagrams

    with _one_line():
        project = find_project(Path())
        root = project.parent
        must_refetch: list[tuple[Path, str]] = []
        for kept in kept_diagrams(project):
            file = root / kept.path
            try:
                made = kept.rendered(root)
            except (TargetError, TraceError, OSError, ValueError) as error:
                raise ValueError(f"{kept.path}: {error}") from error
            if file.is_file() and file.read_bytes() == made:
                continue
            must_refetch.append((kept.path, "is not what the code would draw now" if file.is_file() else "is missing"))
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(made)
    for path, said in must_refetch:
        typer.echo(f"{path} {said}" if check else f"drew {path}", err=check)
    if check and must_refetch:
        raise typer.Exit(1)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="A trace that Trace.save wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")] = Path("report.html"),
    chrome_trace: Annotated[
        Path | None, typer.Option(help="Write a file for Perfetto, too, to zoom into the run.")
    ] = None,
) -> None:
    """Write one page on a recorded trace: diagram, times, handlers, and what was out of order."""
    from camshaft.draw.report import report as write

    with _one_line():
        if output.suffix != ".html":
            raise ValueError(f"a report is a page, so {output} should end in .html")
        trace = Trace.load(file)
        output.write_text(write(trace, file.stem), encoding="utf-8")
        if chrome_trace is not None:
            trace.export_chrome_trace(chrome_trace)
    typer.echo(f"{output}: {trace.summary()}")
