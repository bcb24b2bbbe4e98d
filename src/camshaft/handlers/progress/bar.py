"""Progress bars: how far an engine is, with its metrics and output beside the bar, drawn by rich."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from camshaft.engine.engine import Engine
from camshaft.engine.state import State
from camshaft.events import EventHandle, Events, event
from camshaft.handlers.progress.display import BarContents, Display, can_draw
from camshaft.handlers.progress.span import BarSpan
from camshaft.priorities import CLOSE_BARS, OPEN_BARS, SHOW_RESULTS

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ProgressBar"]

REFRESH = 0.1
"""Seconds between two drawings of a bar: ten a second look steady, and cost a loop nothing that can be noticed."""


class ProgressBar:
    """Shows how far engines are, with metrics and outputs beside: bars in a terminal, lines in a log file.

    Bars of engines that run inside each other stand below each other. What handlers print or log meanwhile comes out
    above the bars. Where there is no terminal, as in a log file, each bar is one line of text when it closes; so it is
    in a notebook without ipywidgets.

    Args:
        persist: leave a line behind where a bar closes: True everywhere, False nowhere, None only where there is no
            terminal to show the bar itself.
        console: a ``rich.console.Console`` to draw on; rich's own, on standard output, unless given.

    Raises:
        TypeError: one of them is something else.

    Example::

        bar = ProgressBar()
        bar.attach(trainer, output_transform=lambda loss: {"loss": loss})
        bar.attach(evaluator, metric_names="all")
    """

    def __init__(self, persist: bool | None = None, console: Console | None = None) -> None:
        if persist is not None and not isinstance(persist, bool):
            raise TypeError(f"ProgressBar: persist={persist!r} is none of True, False and None")
        if console is not None and not hasattr(console, "is_interactive"):
            raise TypeError(f"ProgressBar: console={console!r} is no rich.console.Console")
        self.persist = persist
        self._console = console

    @property
    def console(self) -> Console:
        """Where it draws."""
        if self._console is not None:
            return self._console
        from rich import get_console

        return get_console()

    def attach(
        self,
        engine: Engine,
        metric_names: Sequence[str] | str | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        event_name: EventHandle | None = None,
        closing_event_name: EventHandle | None = None,
        state_attributes: Sequence[str] | None = None,
    ) -> None:
        """Show the progress of an engine, and values beside it, which are read each time the bar is drawn.

        The bar counts the passes of the loop that ``event_name`` belongs to, from the start of the state that
        ``closing_event_name`` leaves to its end. So it follows the iterations of each epoch unless told otherwise;
        with ``event_name=Events.EPOCH_COMPLETED`` the epochs of the run, with ``closing_event_name=Events.COMPLETED``
        the iterations of the run.

        Args:
            engine: whose progress it is.
            metric_names: keys of ``state.metrics``, or ``"all"``.
            output_transform: makes of ``state.output`` a dictionary of values by name, or one value.
            event_name: the event at which the bar moves on, filtered or not; the end of a pass of the loop that takes
                data unless given, or of the outermost loop where none does.
            closing_event_name: the event that closes the bar: the end of a pass of a loop around, or COMPLETED. The
                loop next around unless given.
            state_attributes: names of attributes of the state.

        Raises:
            TypeError: ``engine`` is no Engine, names are no list of strings, ``output_transform`` is no callable.
            ValueError: the loop never fires the event, or ``closing_event_name`` ends nothing around it.
        """
        if not isinstance(engine, Engine):
            raise TypeError(f"ProgressBar: {engine!r} is no Engine: a bar is attached to an engine")
        if metric_names != "all":
            _check_names("metric_names", metric_names)
        _check_names("state_attributes", state_attributes)
        if output_transform is not None and not callable(output_transform):
            raise TypeError(f"ProgressBar: output_transform={output_transform!r} is no function of state.output")
        loop = engine.loop
        moves_at = (loop.data_loop or loop).completed if event_name is None else event_name
        engine.handlers(moves_at)  # refuses an event that never fires, before anything is attached
        span = BarSpan(loop, moves_at, closing_event_name)
        bar = _Bar(self, span, _Values(metric_names, output_transform, state_attributes))
        engine.add_event_handler(event(span.started, priority=OPEN_BARS), bar.open)
        for over in span.ends_a_pass:
            engine.add_event_handler(event(over, priority=OPEN_BARS), bar.count)
        engine.add_event_handler(moves_at, bar.advance)
        engine.add_event_handler(event(span.completed, priority=SHOW_RESULTS), bar.fill)
        engine.add_event_handler(event(span.completed, priority=CLOSE_BARS), bar.finish)
        for ending in (Events.COMPLETED, Events.TERMINATE, Events.INTERRUPT):
            engine.add_event_handler(event(ending, priority=CLOSE_BARS), bar.close)
        engine.add_event_handler(event(Events.EXCEPTION_RAISED, priority=OPEN_BARS), bar.close)

    def log_message(self, message: str) -> None:
        """Print a line on the console of the bar, above it."""
        self.console.print(message, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _check_names(argument: str, names: Any) -> None:
    is_list = (
        isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(name, str) for name in names)
    )
    if names is not None and not is_list:
        hint = ', or "all"' if argument == "metric_names" else ""
        raise TypeError(f"ProgressBar: {argument}={names!r} is no list of names: give a list of strings{hint}")


# -- what a bar follows -----------------------------------------------------------------------------------------------


class _Values:
    """What is shown beside a bar."""

    def __init__(
        self,
        metric_names: Sequence[str] | str | None,
        output_transform: Callable[[Any], Any] | None,
        state_attributes: Sequence[str] | None,
    ) -> None:
        self._metrics = metric_names or ()
        self._transform = output_transform
        self._attributes = state_attributes or ()
        self._output: Any = None

    def keep(self, output: Any) -> None:
        """Have the output of a pass that is over at hand, whatever the next one leaves in the state."""
        if self._transform is not None and output is not None:
            self._output = output

    def read(self, state: State) -> dict[str, Any]:
        """The values that are there, by name. An output is read once, so that one that fails does not fail again."""
        names = state.metrics if self._metrics == "all" else self._metrics
        found = {name: state.metrics[name] for name in names if name in state.metrics}
        output, self._output = self._output, None
        if self._transform is not None and output is not None:
            shown = self._transform(output)
            found |= shown if isinstance(shown, Mapping) else {"output": shown}
        return found | {name: getattr(state, name) for name in self._attributes if hasattr(state, name)}

    def missing(self, found: Mapping[str, Any]) -> list[str]:
        """Names that were asked for and are not there."""
        asked = [*(() if self._metrics == "all" else self._metrics), *self._attributes]
        return [name for name in asked if name not in found]


# -- one bar ----------------------------------------------------------------------------------------------------------


class _Bar:
    """One bar of one engine."""

    def __init__(self, options: ProgressBar, span: BarSpan, values: _Values) -> None:
        self._options = options
        self._span = span
        self._values = values
        self._base: int | None = 0 if span.outer is None else None
        self._stands = False
        self._over = 0
        self._title = ""
        self._display: Display | None = None
        self._task: Any = None
        self._shown: dict[str, str] = {}
        self._began, self._began_at, self._due = 0.0, 0, 0.0
        self._has_warned = False

    def open(self, engine: Engine) -> None:
        """What it follows begins."""
        self.close(engine)  # an epoch ended with skip_epoch_completed has left it standing
        self._over = self._span.over(engine.state)
        if self._span.outer is not None:
            self._base = None if engine.state.resumed else self._over
        self._show(engine)

    def count(self, engine: Engine) -> None:
        """One more is done."""
        self._over = self._span.count(engine.state)
        self._values.keep(engine.state.output)

    def advance(self, engine: Engine) -> None:
        """The bar moves on: drawn when it is time."""
        self.count(engine)
        if not self._stands:  # a run that was interrupted goes on
            self._show(engine)
        if perf_counter() < self._due:
            return
        if self._base is None:
            self._base = self._over - (engine.state_dict()["position"] or 0)
        self._draw(engine)
        self._due = perf_counter() + REFRESH

    def fill(self, engine: Engine) -> None:
        """The last one is done: shown while other handlers, and evaluators, have their turn."""
        if self._stands:
            self._draw(engine)

    def finish(self, engine: Engine) -> None:
        """What it follows is over."""
        if not self._stands:
            return
        self._read(engine)
        missing = self._values.missing(self._shown)
        self._hide(engine)
        if missing and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"ProgressBar: {engine.name} has no {' and no '.join(missing)} to show; "
                f"its metrics are {', '.join(engine.state.metrics) or 'none'}",
                stacklevel=2,
            )

    def close(self, engine: Engine, *_: BaseException) -> None:
        """Take it away, however it ended: a value that cannot be read does not hide what ended it."""
        if not self._stands:
            return
        with suppress(Exception):
            self._read(engine)
        self._hide(engine)

    for _handler in (open, count, advance, fill, finish, close):  # as diagrams and reports show them
        _handler.__qualname__ = f"ProgressBar.{_handler.__name__}"
    del _handler

    def _hide(self, engine: Engine) -> None:
        self._stands, contents = False, self._contents(engine)
        if self._display is not None:
            self._display.remove(self._task, contents, keep=bool(self._options.persist))
        elif self._options.persist is not False:
            self._options.log_message("  ".join(filter(None, [contents.title, *contents.texts.values()])))

    def _show(self, engine: Engine) -> None:
        self._began, self._began_at, self._due = perf_counter(), self._done(engine.state), 0.0
        self._shown, self._title = {}, self._span.title(engine)
        console = self._options.console
        self._display = Display.on(console) if can_draw(console) else None
        self._stands = True
        if self._display is not None:
            self._task = self._display.add(self._contents(engine))
            weakref.finalize(self, self._display.drop, self._task)  # where steps() are left, and the engine goes

    def _draw(self, engine: Engine) -> None:
        self._read(engine)
        if self._display is not None:
            self._display.draw(self._task, self._contents(engine))

    def _read(self, engine: Engine) -> None:
        """What is not there right now, such as the output of an iteration that was skipped, stays as it was."""
        self._shown |= {name: _brief(value) for name, value in self._values.read(engine.state).items()}

    def _done(self, state: State) -> int:
        """Passes begun so far, without the present one until it is over."""
        begun = self._span.count(state)
        return begun if begun == self._over else begun - 1

    def _contents(self, engine: Engine) -> BarContents:
        state, now = engine.state, self._done(engine.state)
        base = now if self._base is None else self._base
        done, total = now - base, self._span.total(state, base)
        elapsed = perf_counter() - self._began
        rate = (now - self._began_at) / elapsed
        left = None if total is None or not rate else (total - done) / rate
        texts = {
            "count": str(done) if total is None else f"{done}/{total}",
            "percent": f"{100 * done // total}%" if total else "",
            "time": _duration(elapsed) + (f" < {_duration(left)}" if left else ""),
            "rate": _speed(rate),
            "values": "  ".join(f"{name}={value}" for name, value in self._shown.items()),
        }
        return BarContents(self._title, done, total, texts)


def _brief(value: Any) -> str:
    """A value in a few characters: tensors and arrays of one element as numbers, others by their shape."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return _brief(value.item()) if math.prod(shape) == 1 else f"of shape {tuple(shape)}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_brief, value))})"
    return " ".join(str(value).split())


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _speed(rate: float) -> str:
    if not rate:
        return ""
    if rate < 1:
        return f"{1 / rate:.1f} s each"
    return f"{rate:.1f}/s" if rate < 100 else f"{rate:.0f}/s"


# -- the display ------------------------------------------------------------------------------------------------------
