"""Progress bars with metrics and outputs, drawn by rich."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any

from camshaft._functions import check_runs, function_name
from camshaft.engine.engine import Engine
from camshaft.engine.state import State, lacks_value
from camshaft.events import EventHandle, Events, event
from camshaft.handlers.console import encodable
from camshaft.handlers.progress.display import BarContents, Display, can_draw, standard_error
from camshaft.handlers.progress.span import BarSpan
from camshaft.priorities import CLOSE_BARS, OPEN_BARS, SHOW_RESULTS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

__all__ = ["ProgressBar"]

REFRESH = 0.1
"""Seconds between two drawings of a bar. Ten drawings a second look smooth and cost a loop hardly any time."""


class ProgressBar:
    """Handler that shows the progress of engines with their metrics and outputs: as bars, or as lines in a log file.

    The bars of nested engines are drawn below each other. Text that is printed or logged meanwhile appears above the
    bars. Without a terminal, as in a log file, a bar writes one line of text to standard error when it closes. A
    notebook without ipywidgets gets such lines too. If ``terminate()`` ends a run, a line says why. Characters that the
    encoding of a terminal lacks are replaced.

    Args:
        persist: whether a closed bar leaves a line: True always, False never, None only if there is no terminal to show
            the bar itself.
        console: a ``rich.console.Console`` to draw on. By default, rich's own console on standard output, or standard
            error if standard output is neither a terminal nor a notebook.

    Raises:
        TypeError: an argument has another type.

    Example::

        bar = ProgressBar()
        bar.attach(trainer, output_transform=lambda loss: {"loss": loss})
        bar.attach(evaluator, metric_names="all")
    """

    def __init__(self, persist: bool | None = None, console: Console | None = None) -> None:
        if persist is not None and not isinstance(persist, bool):
            raise TypeError(f"ProgressBar: persist must be True, False or None, got {persist!r}")
        if console is not None and not hasattr(console, "is_interactive"):
            raise TypeError(f"ProgressBar: console must be a rich.console.Console, got {console!r}")
        self.persist = persist
        self._console = console

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy copies. It draws on rich's own console: the present one belongs to this process."""
        return {"persist": self.persist, "_console": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> ProgressBar:
        return ProgressBar(self.persist, self._console)

    @property
    def console(self) -> Console:
        """The console to draw on. Without a terminal or a notebook, it is that of standard error."""
        if self._console is not None:
            return self._console
        from rich import get_console

        console = get_console()
        return console if console.is_jupyter or can_draw(console) else standard_error()

    def attach(
        self,
        engine: Engine,
        metric_names: Sequence[str] | str | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        event_name: EventHandle | None = None,
        closing_event_name: EventHandle | None = None,
        state_attributes: Sequence[str] | None = None,
    ) -> None:
        """Show the progress of an engine, with values that are read each time the bar is drawn.

        The bar counts passes of the loop that fires ``event_name``. It opens when the state that ``closing_event_name``
        leaves is entered, and closes with that event. By default, a bar counts the iterations of each epoch. With
        ``event_name=Events.EPOCH_COMPLETED`` it counts the epochs of the run, and with
        ``closing_event_name=Events.COMPLETED`` the iterations of the run.

        Args:
            engine: the engine to show.
            metric_names: keys of ``state.metrics``, or ``"all"``.
            output_transform: ``output_transform(state.output)`` returns a dictionary of values by name, or one value.
            event_name: the event at which the bar advances, with or without a filter. By default, the end of a pass of
                the loop over the data, or of the outermost loop if no loop takes data.
            closing_event_name: the event that closes the bar: the end of a pass of an enclosing loop, or COMPLETED. By
                default, the nearest enclosing loop.
            state_attributes: names of attributes of the state.

        Raises:
            TypeError: ``engine`` is not an Engine, names are not a list of strings, or ``output_transform`` cannot be
                called.
            ValueError: the loop never fires the event, or ``closing_event_name`` does not end an enclosing loop.
        """
        if not isinstance(engine, Engine):
            raise TypeError(f"ProgressBar: engine must be an Engine, got {engine!r}")
        if metric_names != "all":
            _check_names("metric_names", metric_names)
        _check_names("state_attributes", state_attributes)
        if output_transform is not None and not callable(output_transform):
            raise TypeError(
                f"ProgressBar: output_transform must be a function of state.output, got {output_transform!r}"
            )
        loop = engine.loop
        advances_at = (loop.data_loop or loop).completed if event_name is None else event_name
        engine.handlers(advances_at)  # raises before anything is attached if this event never fires
        span = BarSpan(loop, advances_at, closing_event_name)
        if output_transform is not None:
            check_runs(f"ProgressBar: output_transform {function_name(output_transform)}", output_transform)
        bar = _Bar(self, span, _Values(metric_names, output_transform, state_attributes))
        engine.add_event_handler(event(span.started, priority=OPEN_BARS), bar.open)
        for pass_ending in span.pass_endings:
            engine.add_event_handler(event(pass_ending, priority=OPEN_BARS), bar.count)
        engine.add_event_handler(advances_at, bar.advance)
        engine.add_event_handler(event(span.completed, priority=SHOW_RESULTS), bar.fill)
        engine.add_event_handler(event(span.completed, priority=CLOSE_BARS), bar.finish)
        for ending in (Events.COMPLETED, Events.TERMINATE, Events.INTERRUPT):
            engine.add_event_handler(event(ending, priority=CLOSE_BARS), bar.close)
        if not any(handler.name == "ProgressBar.tell" for handler in engine.handlers(Events.TERMINATE)):
            engine.add_event_handler(event(Events.TERMINATE, priority=CLOSE_BARS - 1), bar.tell)
        engine.add_event_handler(event(Events.EXCEPTION_RAISED, priority=OPEN_BARS), bar.close)

    def log_message(self, message: str) -> None:
        """Print a line above the bars on their console."""
        console = self.console
        with encodable(console):
            console.print(message, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _check_names(argument: str, names: Any) -> None:
    is_list = (
        isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(name, str) for name in names)
    )
    if names is not None and not is_list:
        hint = ', or "all"' if argument == "metric_names" else ""
        raise TypeError(f"ProgressBar: {argument} must be a list of strings{hint}, got {names!r}")


# -- values beside a bar ----------------------------------------------------------------------------------------------


class _Values:
    """The values shown beside a bar: metrics, the output, and attributes of the state."""

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
        """Keep the output of a completed pass for :meth:`read`, since the next pass replaces ``state.output``."""
        if self._transform is not None and output is not None:
            self._output = output

    def read(self, state: State) -> dict[str, Any]:
        """Return the available values by name. An output is transformed only once, even if that fails."""
        names = state.metrics if self._metrics == "all" else self._metrics
        found = {name: state.metrics[name] for name in names if name in state.metrics}
        output, self._output = self._output, None
        if self._transform is not None and output is not None:
            transformed = self._transform(output)
            found |= transformed if isinstance(transformed, Mapping) else {"output": transformed}
        return found | {name: getattr(state, name) for name in self._attributes if hasattr(state, name)}

    def missing(self, found: Mapping[str, Any], state: State) -> list[str]:
        """Return the requested names that are not among the values found, without metrics that had no samples."""
        requested = [*(() if self._metrics == "all" else self._metrics), *self._attributes]
        return [name for name in requested if name not in found and not lacks_value(name, state)]


# -- one bar ----------------------------------------------------------------------------------------------------------


class _Bar:
    """One bar of one engine."""

    def __init__(self, options: ProgressBar, span: BarSpan, values: _Values) -> None:
        self._options = options
        self._span = span
        self._values = values
        # passes completed before the span began; None until known, if the bar opened in the middle of the span
        self._completed_before: int | None = 0 if span.outer is None else None
        self._completed = 0  # passes completed in the run
        self._is_shown = False
        self._title = ""
        self._display: Display | None = None
        self._task: TaskID  # set whenever there is a display
        self._value_texts: dict[str, str] = {}
        self._shown_since, self._completed_when_shown, self._next_drawing = 0.0, 0, 0.0
        self._has_warned = False

    def open(self, engine: Engine) -> None:
        """Show the bar at the start of the span."""
        self.close(engine)  # still open if the last epoch was ended with skip_epoch_completed
        self._completed = self._span.completed_passes(engine.state)
        if self._span.outer is not None:
            self._completed_before = None if engine.state.resumed else self._completed
        self._show(engine)

    def count(self, engine: Engine) -> None:
        """Count a completed pass."""
        self._completed = self._span.count(engine.state)
        self._values.keep(engine.state.output)

    def advance(self, engine: Engine) -> None:
        """Count a pass, and draw the bar if :data:`REFRESH` seconds have passed."""
        self.count(engine)
        if not self._is_shown:  # an interrupted run continues
            self._show(engine)
        if perf_counter() < self._next_drawing:
            return
        if self._completed_before is None:
            self._completed_before = self._completed - (engine.state_dict()["position"] or 0)
        self._draw(engine)
        self._next_drawing = perf_counter() + REFRESH

    def fill(self, engine: Engine) -> None:
        """Draw the full bar. It stays while other handlers and nested engines run at the closing event."""
        if self._is_shown:
            self._draw(engine)

    def finish(self, engine: Engine) -> None:
        """Close the bar at the end of the span, and warn once of values that do not exist."""
        if not self._is_shown:
            return
        self._read(engine)
        missing = self._values.missing(self._value_texts, engine.state)
        self._hide(engine)
        if missing and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"ProgressBar: {engine.name} has no {' and no '.join(missing)} to show; "
                f"its metrics are {', '.join(engine.state.metrics) or 'none'}",
                stacklevel=2,
            )

    def close(self, engine: Engine, *_: BaseException) -> None:
        """Close the bar however the run ends. An error in reading values must not hide the reason of the end."""
        if not self._is_shown:
            return
        with suppress(Exception):
            self._read(engine)
        self._hide(engine)

    def tell(self, engine: Engine) -> None:
        """Print why the run ends before its limits."""
        if engine.end_reason is not None:
            self._options.log_message(f"{engine.name} ends: {engine.end_reason}")

    for _handler in (open, count, advance, fill, finish, close, tell):  # the names in diagrams and reports
        _handler.__qualname__ = f"ProgressBar.{_handler.__name__}"
    del _handler

    def _hide(self, engine: Engine) -> None:
        self._is_shown, contents = False, self._contents(engine)
        if self._display is not None:
            self._display.remove(self._task, contents, keep=bool(self._options.persist))
        elif self._options.persist is not False:
            self._options.log_message("  ".join(filter(None, [contents.title, *contents.texts.values()])))

    def _show(self, engine: Engine) -> None:
        self._shown_since, self._next_drawing = perf_counter(), 0.0
        self._completed_when_shown = self._done(engine.state)
        self._value_texts, self._title = {}, self._span.title(engine)
        console = self._options.console
        self._display = Display.on(console) if can_draw(console) else None
        self._is_shown = True
        if self._display is not None:
            self._task = self._display.add(self._contents(engine))
            # if the generator of steps() is abandoned, nothing but the deletion of the engine closes the bar
            weakref.finalize(self, self._display.discard, self._task)

    def _draw(self, engine: Engine) -> None:
        self._read(engine)
        if self._display is not None:
            self._display.draw(self._task, self._contents(engine))

    def _read(self, engine: Engine) -> None:
        """Read the values. Those missing now, such as the output of a skipped iteration, keep their last text."""
        self._value_texts |= {name: _brief(value) for name, value in self._values.read(engine.state).items()}

    def _done(self, state: State) -> int:
        """Return the number of completed passes in the run."""
        begun = self._span.count(state)
        return begun if begun == self._completed else begun - 1

    def _contents(self, engine: Engine) -> BarContents:
        state, now = engine.state, self._done(engine.state)
        before = now if self._completed_before is None else self._completed_before
        done, total = now - before, self._span.total(state, before)
        elapsed = perf_counter() - self._shown_since
        rate = (now - self._completed_when_shown) / elapsed
        left = None if total is None or not rate else (total - done) / rate
        texts = {
            "count": str(done) if total is None else f"{done}/{total}",
            "percent": f"{100 * done // total}%" if total else "",
            "time": _duration(elapsed) + (f" < {_duration(left)}" if left else ""),
            "rate": _speed(rate),
            "values": "  ".join(f"{name}={value}" for name, value in self._value_texts.items()),
        }
        return BarContents(self._title, done, total, texts)


def _brief(value: Any) -> str:
    """Return a short text for a value. Tensors and arrays of several elements are described by their shape."""
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
