"""The live display of bars in a terminal or a notebook."""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from camshaft.handlers.console import EncodableStream, encodable, is_terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

__all__ = []


class BarContents(NamedTuple):
    """The contents of a bar: its title, its position, and ``texts`` by the name of their column."""

    title: str
    done: int
    total: int | None
    texts: dict[str, Any]


def can_draw(console: Console) -> bool:
    """Return whether a console can show a moving bar."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    # with FORCE_COLOR, rich calls a file interactive too
    return console.is_interactive and is_terminal(console.file)


@lru_cache(maxsize=1)
def standard_error() -> Console:
    """Return the one console of standard error."""
    from rich.console import Console

    stream: Any = EncodableStream()
    return Console(file=stream)


class Display:
    """The bars on one console. The display is live from the first bar that opens to the last that closes.

    Handlers draw it, not a thread. A thread would read tensors while training changes them, and might hold a lock at
    the moment at which a DataLoader forks its workers.
    """

    active: ClassVar[dict[Console, Display]] = {}

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
        from rich.table import Column
        from rich.text import Text

        class Values(ProgressColumn):
            """Column of values, shortened before the numbers are: the column may wrap, but its text may not."""

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
        """Return the display of a console. Start one if there is none."""
        if console not in cls.active:
            display = cls(console)
            display._start()
            cls.active[console] = display
        return cls.active[console]

    def add(self, contents: BarContents) -> TaskID:
        """Add a bar below the others."""
        return self._progress.add_task(contents.title, total=contents.total, completed=contents.done, **contents.texts)

    def draw(self, task: TaskID, contents: BarContents) -> None:
        """Draw a bar with new contents."""
        self._update(task, contents)
        self._progress.refresh()

    def remove(self, task: TaskID, contents: BarContents, keep: bool) -> None:
        """Remove a bar. With ``keep``, leave its last line above the other bars."""
        self._update(task, contents)
        row = self._progress.make_tasks_table([item for item in self._progress.tasks if item.id == task])
        self._progress.remove_task(task)
        self._progress.refresh()
        if keep:
            self.console.print(row)
        self._stop_if_empty()

    def discard(self, task: TaskID) -> None:
        """Remove a bar that was never closed, if it is still there."""
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
        with ExitStack() as undo:  # undone at once if starting fails
            undo.callback(self.active.pop, self.console, None)
            undo.enter_context(encodable(self.console))
            if not self.console.is_jupyter:  # notebooks show printed text apart from the bars
                undo.enter_context(_print_above(self.console))
            undo.callback(self._progress.stop)
            self._progress.start()
            atexit.register(self._stop)  # for a run whose steps() were abandoned
            undo.callback(atexit.unregister, self._stop)
            self._ending = undo.pop_all()

    def _stop(self) -> None:
        self._ending.close()


@contextmanager
def _print_above(console: Console) -> Iterator[None]:
    """Within the block, let print, warnings and logging write to the terminal above the bars, line by line."""
    proxies = {}
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if is_terminal(stream):  # a stream redirected to a file is left alone
            proxies[name] = _LinesAboveBars(console, stream)
            setattr(sys, name, proxies[name])
            _redirect_logging(proxies[name], instead_of=stream)
    try:
        yield
    finally:
        for name, proxy in proxies.items():
            if getattr(sys, name) is proxy:
                setattr(sys, name, proxy.rich_proxied_file)
            _redirect_logging(proxy.rich_proxied_file, instead_of=proxy)
            proxy.write_rest()


def _redirect_logging(stream: Any, instead_of: Any) -> None:
    """Replace a stream in all log handlers. They keep the stream of their creation, even if ``sys.stderr`` changes."""
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream is instead_of:
                handler.setStream(stream)


class _LinesAboveBars:
    """Replacement of a stream while bars are shown. Rich's own replacement would break a line when it is flushed."""

    def __init__(self, console: Console, stream: Any) -> None:
        from rich.ansi import AnsiDecoder

        self.rich_proxied_file = stream  # the name under which rich looks for the real stream
        self._console = console
        self._decoder = AnsiDecoder()
        self._rest = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    def write(self, text: str) -> int:
        """Print the complete lines, and keep the rest for later."""
        from rich.text import Text

        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._console.print(Text("\n").join(map(self._decoder.decode_line, lines)), soft_wrap=True)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Print the complete lines, and keep the rest for later."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Do nothing: only the beginning of a line is kept back, and it cannot be shown above a bar."""

    def write_rest(self) -> None:
        """Write the beginning of a line that was not completed while bars were shown."""
        stream = EncodableStream(self.rich_proxied_file)
        stream.write(self._rest)
        stream.flush()
        self._rest = ""
