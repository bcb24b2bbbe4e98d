"""Where bars are drawn: a terminal, a notebook, or lines in a log."""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

__all__ = []


class BarContents(NamedTuple):
    """What a bar shows at a moment: ``texts`` by the name of their column."""

    title: str
    done: int
    total: int | None
    texts: dict[str, Any]


def can_draw(console: Console) -> bool:
    """Whether a bar can stand and move there: forced colours alone do not make a file a terminal."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return console.is_interactive and console.file.isatty()


class Display:
    """The bars that stand on a console: one live display, from the first that opens to the last that closes.

    It is drawn by the handlers that change it, not by a thread: a thread would read tensors beside the training, and
    might hold a lock at the moment when a DataLoader forks its workers.
    """

    standing: ClassVar[dict[Console, Display]] = {}

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
        from rich.table import Column
        from rich.text import Text

        class Values(ProgressColumn):
            """Cut short where there is no room, and before the numbers are: its column may wrap, its text does not."""

            def render(self, task: Task) -> Text:
                return Text(task.fields["values"], no_wrap=True, overflow="ellipsis")

        def text(field: str, justify: Literal["left", "right"] = "left") -> TextColumn:
            return TextColumn(f"{{task.{field}}}", justify=justify, markup=False)

        self.console = console
        self._progress = Progress(
            text("description"),
            BarColumn(bar_width=None, table_column=Column(max_width=console.width // 8)),
            text("fields[count]", justify="right"),
            text("fields[percent]", justify="right"),
            text("fields[time]"),
            text("fields[rate]", justify="right"),
            Values(table_column=Column()),
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._ending = ExitStack()

    @classmethod
    def on(cls, console: Console) -> Display:
        """The one of this console, started if there is none."""
        if console not in cls.standing:
            display = cls(console)
            display._start()
            cls.standing[console] = display
        return cls.standing[console]

    def add(self, contents: BarContents) -> TaskID:
        """Put a bar below the others."""
        return self._progress.add_task(contents.title, total=contents.total, completed=contents.done, **contents.texts)

    def draw(self, task: TaskID, contents: BarContents) -> None:
        """Show what has changed."""
        self._update(task, contents)
        self._progress.refresh()

    def remove(self, task: TaskID, contents: BarContents, keep: bool) -> None:
        """Take a bar away; where it is to be kept, its line stays above the others."""
        self._update(task, contents)
        row = self._progress.make_tasks_table([item for item in self._progress.tasks if item.id == task])
        self._progress.remove_task(task)
        self._progress.refresh()
        if keep:
            self.console.print(row)
        self._stop_if_empty()

    def drop(self, task: TaskID) -> None:
        """Take a bar away that nobody closed, if it is still there."""
        if task in self._progress.task_ids:
            self._progress.remove_task(task)
            self._stop_if_empty()

    def _stop_if_empty(self) -> None:
        if not self._progress.tasks:
            self._stop()

    def _update(self, task: TaskID, contents: BarContents) -> None:
        self._progress.update(
            task, description=contents.title, total=contents.total, completed=contents.done, **contents.texts
        )

    def _start(self) -> None:
        with ExitStack() as undo:  # undone at once where starting fails
            undo.callback(self.standing.pop, self.console, None)
            if not self.console.is_jupyter:  # which shows what is printed in a place of its own
                undo.enter_context(_streams_above(self.console))
            undo.callback(self._progress.stop)
            self._progress.start()
            atexit.register(self._stop)  # for a run whose steps() were left and never gone on with
            undo.callback(atexit.unregister, self._stop)
            self._ending = undo.pop_all()

    def _stop(self) -> None:
        self._ending.close()


@contextmanager
def _streams_above(console: Console) -> Iterator[None]:
    """Have what goes to the terminal by print, warnings and logging come out above the bars, a line at a time."""
    proxies = {}
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and stream.isatty():  # what is redirected to a file goes on to that file
            proxies[name] = _Above(console, stream)
            setattr(sys, name, proxies[name])
            _log_to(proxies[name], instead_of=stream)
    try:
        yield
    finally:
        for name, proxy in proxies.items():
            if getattr(sys, name) is proxy:
                setattr(sys, name, proxy.rich_proxied_file)
            _log_to(proxy.rich_proxied_file, instead_of=proxy)
            proxy.let_go()


def _log_to(stream: Any, instead_of: Any) -> None:
    """Log handlers keep the stream they were made with, so a new ``sys.stderr`` does not reach them."""
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream is instead_of:
                handler.setStream(stream)


class _Above:
    """Stands in for a stream while bars stand; rich's own stand-in would break a line where it is flushed."""

    def __init__(self, console: Console, stream: Any) -> None:
        from rich.ansi import AnsiDecoder

        self.rich_proxied_file = stream  # by this name a console that writes to sys.stdout finds the real one
        self._console = console
        self._decoder = AnsiDecoder()
        self._rest = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    def write(self, text: str) -> int:
        """Print the lines that are whole."""
        from rich.text import Text

        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._console.print(Text("\n").join(map(self._decoder.decode_line, lines)), soft_wrap=True)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Print the lines that are whole."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Nothing waits but the beginning of a line, which could not stand above a bar."""

    def let_go(self) -> None:
        """Write the beginning of a line that was not finished while bars stood."""
        self.rich_proxied_file.write(self._rest)
        self.rich_proxied_file.flush()
        self._rest = ""
