"""Handlers that end a run: when a score stops improving, an output is not finite, or a time limit is reached."""

from __future__ import annotations

import cmath
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

import torch

from camshaft._checks import check_integer
from camshaft._functions import check_runs, function_name
from camshaft.engine.attachment import EventHandler, StatefulHandler, attached_to, note_host, refuse_other_host
from camshaft.engine.engine import Engine
from camshaft.engine.state import lacks_value
from camshaft.events import EventHandle, Events

__all__ = ["EarlyStopping", "TerminateOnNan", "TimeLimit"]

ScoreFunction = Callable[[Engine], float]
"""``score_function(engine) -> score``; higher is better."""


def score_of(score_function: ScoreFunction, engine: Engine, caller: object) -> int | float | None:
    """Call a score function and return its score as a Python number.

    Args:
        score_function: the function to call.
        engine: its argument.
        caller: the handler to name in errors.

    Returns:
        The score; None, with a message in the log, if the function reads a metric that had no samples.

    Raises:
        TypeError: the score is neither a real number nor a tensor of one element.
    """
    __tracebackhide__ = True
    try:
        score: Any = score_function(engine)
    except KeyError as error:
        if not is_of_missing_value(error, engine, caller):
            raise
        return None
    if isinstance(score, torch.Tensor) and score.numel() == 1:
        score = score.item()
    if not isinstance(score, numbers.Real):
        raise TypeError(f"{type(caller).__name__}: score_function must return a number, got {score!r}")
    return int(score) if isinstance(score, numbers.Integral) else float(score)


def is_of_missing_value(error: KeyError, engine: Engine, caller: object) -> bool:
    """Return whether an error of a score function comes from a metric without samples, and log that there is no score.

    Args:
        error: the error.
        engine: the engine whose logger is used.
        caller: the handler to name in the log.
    """
    found = bool(error.args) and lacks_value(error.args[0])
    if found:
        engine.logger.warning(
            "%s: the metric %s has no value, so there is no score", type(caller).__name__, error.args[0]
        )
    return found


def check_callable(function: object, name: str, caller: object) -> None:
    """Refuse an argument that cannot be called.

    Args:
        function: the argument.
        name: the name of the argument.
        caller: the handler that received it.

    Raises:
        TypeError: ``function`` is not callable, or a call would not run it.
    """
    if not callable(function):
        raise TypeError(f"{type(caller).__name__}: {name} must be a function, got {function!r}")
    check_runs(f"{type(caller).__name__}: {name} {function_name(function)}", function)


def _itself(output: Any) -> Any:
    return output


def _is_real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


class EarlyStopping(StatefulHandler):
    """Handler that terminates training when a score has not improved for a number of evaluations.

    Attach it to the evaluator: ``evaluator.add_event_handler(Events.COMPLETED, handler)``. A score of NaN never counts
    as an improvement, not even the first score. A metric without samples gives no score, and is not counted.

    Args:
        patience: the number of consecutive scores without improvement that ends the training.
        score_function: ``score_function(evaluator) -> float``; higher is better.
        trainer: the engine to terminate.
        min_delta: the smallest improvement, exclusive: a score must exceed the best one by more than this.
        cumulative: compare with the last score that counted as an improvement, so that small improvements add up. By
            default, a score is compared with the highest one so far.

    Attributes:
        counter: the number of scores since the last improvement.
        best_score: the score with which the next one is compared, or None before the first.

    Raises:
        TypeError, ValueError: an argument is invalid.
    """

    def __init__(
        self,
        patience: int,
        score_function: ScoreFunction,
        trainer: Engine,
        min_delta: float = 0.0,
        cumulative: bool = False,
    ) -> None:
        check_integer("EarlyStopping: patience", patience)
        check_callable(score_function, "score_function", self)
        if not isinstance(trainer, Engine):
            raise TypeError(f"EarlyStopping: trainer must be an Engine, got {trainer!r}: give the one to terminate")
        if not _is_real(min_delta) or not 0 <= min_delta < math.inf:
            raise ValueError(f"EarlyStopping: min_delta must be a number of 0 or more, got {min_delta!r}")
        self.patience = patience
        self.score_function = score_function
        self.trainer = trainer
        self.min_delta = min_delta
        self.cumulative = cumulative
        self.counter = 0
        self.best_score: float | None = None

    def __call__(self, engine: Engine) -> None:
        """Compare the current score with the best one, and terminate the trainer if patience is exhausted."""
        __tracebackhide__ = True
        score = score_of(self.score_function, engine, self)
        if score is None:
            return
        if self._improves(score):
            self.best_score, self.counter = score, 0
            return
        self.counter += 1
        if self.best_score is not None and score > self.best_score and not self.cumulative:
            self.best_score = score
        if self.counter >= self.patience:
            self.trainer.terminate(
                reason=f"EarlyStopping: {self.counter} scores without improvement over {self.best_score}"
            )

    def _improves(self, score: float) -> bool:
        if self.best_score is None:
            return not math.isnan(score)
        return score > self.best_score + self.min_delta

    def state_dict(self) -> dict[str, Any]:
        """Return the counter and the best score."""
        return {"counter": self.counter, "best_score": self.best_score}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` returned.

        Raises:
            ValueError: ``state_dict`` does not come from this handler.
        """
        if not isinstance(state_dict, Mapping) or set(state_dict) != {"counter", "best_score"}:
            raise ValueError(
                f"EarlyStopping: state_dict must have counter and best_score, got {state_dict!r}: "
                f"give the result of state_dict()"
            )
        self.counter, self.best_score = state_dict["counter"], state_dict["best_score"]


class TerminateOnNan(EventHandler):
    """Handler that terminates the run if the output contains NaN or infinity, and logs the place.

    Attach it with ``trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())``.

    Args:
        output_transform: ``output_transform(state.output)`` returns the values to check: numbers and tensors, in
            mappings, lists and tuples nested to any depth. Other values are ignored.

    Raises:
        TypeError: ``output_transform`` is not a function.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = _itself) -> None:
        check_callable(output_transform, "output_transform", self)
        self.output_transform = output_transform

    def __call__(self, engine: Engine) -> None:
        """Check the current output, and terminate the run if a value is not finite."""
        __tracebackhide__ = True
        found = next(_not_finite(self.output_transform(engine.state.output), "output"), None)
        if found is not None:
            engine.logger.warning("TerminateOnNan: %s, in %s; the run ends", found, engine.place)
            engine.terminate(reason=f"TerminateOnNan: {found}")


def _not_finite(value: Any, place: str) -> Iterator[str]:
    """Yield a description of each value that is NaN or infinite, such as ``output['loss'][1] is nan``."""
    if isinstance(value, torch.Tensor):
        finite = torch.isfinite(value)
        if not finite.all():
            yield f"{place} has {int((~finite).sum())} of {value.numel()} values that are NaN or infinite"
    elif isinstance(value, numbers.Number):
        if not isinstance(value, numbers.Rational) and not cmath.isfinite(value):  # type: ignore[arg-type]
            yield f"{place} is {value}"
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{place}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, f"{place}[{index}]")


class TimeLimit:
    """Handler that terminates a run at the first event after a time limit.

    With ``TimeLimit(3600).attach(trainer)`` the time counts from the start of each run, without pauses by
    ``interrupt()``. If the handler is attached with ``add_event_handler`` alone, the time counts from its creation.

    Args:
        limit_sec: the limit in seconds.

    Raises:
        ValueError: ``limit_sec`` is not a positive number.
    """

    def __init__(self, limit_sec: float) -> None:
        if not _is_real(limit_sec) or not 0 < limit_sec < math.inf:
            raise ValueError(f"TimeLimit: limit_sec must be a number of seconds above 0, got {limit_sec!r}")
        self.limit_sec = limit_sec
        self._elapsed_before = 0.0  # up to the last stop of the clock
        self._since: float | None = monotonic()  # None while the clock is stopped
        self._loaded = False

    @property
    def elapsed(self) -> float:
        """The duration of the run so far, in seconds."""
        return self._elapsed_before + (monotonic() - self._since if self._since is not None else 0.0)

    def attach(self, engine: Engine, event: EventHandle = Events.ITERATION_COMPLETED) -> None:
        """Limit each run of an engine.

        Args:
            engine: the engine to limit.
            event: the event at which the time is checked, and the run is terminated.

        Raises:
            ValueError: the engine never fires the event, or the handler limits an engine already.
        """
        refuse_other_host(self, attached_to(self, self._start_clock), engine)
        engine.add_event_handler(event, self)
        note_host(self, engine)
        engine.add_event_handler(Events.STARTED, self._start_clock)
        engine.add_event_handler(Events.INTERRUPT, self._stop_clock_until_next_event)
        engine.add_event_handler(Events.TERMINATE | Events.COMPLETED | Events.EXCEPTION_RAISED, self._stop_clock)

    def __call__(self, engine: Engine) -> None:
        """Terminate the run if it has reached its time limit."""
        self._resume_clock()
        if self.elapsed >= self.limit_sec:
            engine.terminate(reason=f"TimeLimit: the run has reached its limit of {self.limit_sec} s")

    def _start_clock(self) -> None:
        if not self._loaded:
            self._elapsed_before = 0.0
        self._loaded = False
        self._since = monotonic()

    def _stop_clock(self, *_: object) -> None:
        self._elapsed_before, self._since = self.elapsed, None

    def _resume_clock(self) -> None:
        if self._since is None:
            self._since = monotonic()

    def _stop_clock_until_next_event(self, engine: Engine) -> None:
        """Stop the clock. The next event of any kind starts it again."""
        self._stop_clock()

        def resume(*_: object) -> None:
            self._resume_clock()
            attached.remove()

        attached = engine.add_event_handler(list(engine.loop.event_keys), resume)

    def state_dict(self) -> dict[str, float]:
        """Return the duration of the run so far, in seconds."""
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Let the next run count from the duration that :meth:`state_dict` returned.

        Raises:
            ValueError: ``state_dict`` does not come from this handler.
        """
        if not isinstance(state_dict, Mapping) or set(state_dict) != {"elapsed"}:
            raise ValueError(
                f"TimeLimit: state_dict must have elapsed, got {state_dict!r}: give the result of state_dict()"
            )
        self._elapsed_before, self._since, self._loaded = state_dict["elapsed"], None, True
