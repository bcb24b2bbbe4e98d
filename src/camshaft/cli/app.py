"""The command line: print and draw loops, check recorded traces and report on them."""

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
    help="Print and draw training loops; check recorded traces and report on them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Target = Annotated[
    str,
    typer.Argument(
        help="package.module:name or path/to/file.py:name of an engine, a loop, or a function that returns one."
    ),
]


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Print an error in one line instead of a traceback, and exit with code 2."""
    try:
        yield
    except (TargetError, TraceError, OSError, ValueError) as error:
        message = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
        typer.echo(f"camshaft: {message}", err=True)
        raise typer.Exit(2) from None


def _loop(target: str) -> Loop:
    with _errors_in_one_line():
        return load_loop(target)


@app.command()
def source(target: Target) -> None:
    """Print the generated Python code that runs a loop."""
    typer.echo(generate(_loop(target)).source, nl=False)


@app.command()
def show(target: Target) -> None:
    """Print a loop as a tree of states, and the transitions of its machine."""
    loop = _loop(target)
    typer.echo(f"{loop}\n\n{LoopMachine(loop)}")


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A trace written by Trace.save.")],
    loop: Annotated[
        str | None, typer.Option(help="Check the outermost runs against this loop, a TARGET, instead of the saved one.")
    ] = None,
) -> None:
    """Check a recorded trace against its loops: exit 1 at the first illegal event, 2 if it cannot be read."""
    expected_loop = _loop(loop) if loop is not None else None
    with _errors_in_one_line():
        trace = Trace.load(file)
    try:
        trace.assert_legal(expected_loop)
    except EventOrderError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{file}: {trace.summary()}, all legal")


class Level(StrEnum):
    """Levels of detail of a diagram."""

    OVERVIEW = "overview"
    FULL = "full"


@app.command()
def draw(
    target: Annotated[str | None, typer.Argument(help="As for source; omit it with --all and --check.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .svg, .mmd, .dot, .txt or .html file. Default: print to the terminal."),
    ] = None,
    level: Annotated[Level, typer.Option(help="The declared states, or every transition.")] = Level.OVERVIEW,
    handlers: Annotated[bool, typer.Option("--handlers", help="List the handlers at their events.")] = False,
    control: Annotated[
        bool, typer.Option("--control", help="Show the effects of terminate, interrupt and failures.")
    ] = False,
    trace: Annotated[Path | None, typer.Option(help="Draw the runs of this recorded trace over the diagram.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Draw all diagrams listed in pyproject.toml, [tool.camshaft.diagrams].")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit 1 if a listed diagram is out of date, and name its file.")
    ] = False,
) -> None:
    """Draw a loop, or all diagrams listed in pyproject.toml."""
    from camshaft.draw import diagram as drawing

    if every or check:
        others = [target, output, trace, level is not Level.OVERVIEW, handlers, control, every and check]
        if any(others):
            raise typer.BadParameter("give a TARGET with its options, or --all, or --check")
        _draw_kept(check)
        return
    if target is None:
        raise typer.BadParameter("give a TARGET such as train.py:trainer, or --all")
    with _errors_in_one_line():
        drawn = load_target(target)
        diagram = drawing.draw(drawn, level.value, handlers=handlers, control=control)
        if trace is not None:
            drawing.draw_over(diagram, Trace.load(trace), drawn, str(trace))
        if output is None:
            typer.echo(diagram.text(), nl=False)
        else:
            diagram.save(output)


def _draw_kept(check: bool) -> None:
    from camshaft.cli.kept_diagrams import find_project, kept_diagrams

    with _errors_in_one_line():
        project = find_project(Path())
        root = project.parent
        outdated: list[tuple[Path, str]] = []
        for kept in kept_diagrams(project):
            file = root / kept.path
            try:
                content = kept.rendered(root)
            except (TargetError, TraceError, OSError, ValueError) as error:
                raise ValueError(f"{kept.path}: {error}") from error
            if file.is_file() and file.read_bytes() == content:
                continue
            outdated.append((kept.path, "is out of date" if file.is_file() else "is missing"))
            if not check:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
    for path, problem in outdated:
        typer.echo(f"{path} {problem}" if check else f"drew {path}", err=check)
    if check and outdated:
        raise typer.Exit(1)


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="A trace written by Trace.save.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML page to write.")] = Path("report.html"),
    chrome_trace: Annotated[
        Path | None, typer.Option(help="Also write this file for https://ui.perfetto.dev, which can zoom into the run.")
    ] = None,
) -> None:
    """Write an HTML page on a recorded trace: its diagrams, times, handlers and violations."""
    from camshaft.draw.report import report as write

    with _errors_in_one_line():
        if output.suffix != ".html":
            raise ValueError(f"a report is an HTML page: {output} must end in .html")
        trace = Trace.load(file)
        output.write_text(write(trace, file.stem), encoding="utf-8", errors="backslashreplace")
        if chrome_trace is not None:
            trace.export_chrome_trace(chrome_trace)
    typer.echo(f"{output}: {trace.summary()}")
