"""Handlers that end a run: scores that no longer improve, outputs that are no numbers any more, time that is over."""

from __future__ import annotations

import cmath
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from time import monotonic
from typing import Any

import torch

from camshaft._checks import check_integer
from camshaft.engine.engine import Engine
from camshaft.events import EventHandle, Events

__all__ = ["EarlyStopping", "TerminateOnNan", "TimeLimit"]

ScoreFunction = Callable[[Engine], float]


def score_of(score_function: ScoreFunction, engine: Engine, asked_by: object) -> int | float:
    """What a score function gives, as a plain number.

    Raises:
        TypeError: it is no real number, nor a tensor of one element.
    """
    score: Any = score_function(engine)
    if isinstance(score, torch.Tensor) and score.numel() == 1:
        score = score.item()
    if not isinstance(score, numbers.Real):
        raise TypeError(
            f"{type(asked_by).__name__}: score_function gave {score!r}, which is no number; have it return one"
        )
    return int(score) if isinstance(score, numbers.Integral) else float(score)


def check_callable(function: object, name: str, asked_by: object) -> None:
    """Refuse what cannot be called.

    Raises:
        TypeError: with the names of the argument and of the class that it was given to.
    """
    if not callable(function):
        raise TypeError(f"{type(asked_by).__name__}: {name}={function!r} is no function; give one")


def _is_real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


class EarlyStopping:
    """Terminates the training once a score has not improved for a while.

    Attach it to the evaluator: ``evaluator.add_event_handler(Events.COMPLETED, handler)``. A score of NaN is no
    improvement, be it the first.

    Args:
        patience: so many scores in a row without improvement end the training.
        score_function: ``score_function(evaluator) -> float``; higher is better.
        trainer: the engine to terminate.
        min_delta: a score improves when it is higher than the best by more than this.
        cumulative: measure ``min_delta`` from the score that improved last, so that small steps add up, instead of
            from the best score so far.

    Attributes:
        counter: scores without improvement since the last one with.
        best_score: what the next score is compared to; None until there is one.

    Raises:
        TypeError, ValueError: an argument that cannot work.
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
            raise TypeError(f"EarlyStopping: trainer={trainer!r} is no Engine; give the one to terminate")
        if not _is_real(min_delta) or not 0 <= min_delta < math.inf:
            raise ValueError(f"EarlyStopping: min_delta={min_delta!r} is no number of 0 or more")
        self.patience = patience
        self.score_function = score_function
        self.trainer = trainer
        self.min_delta = min_delta
        self.cumulative = cumulative
        self.counter = 0
        self.best_score: float | None = None

    def __call__(self, engine: Engine) -> None:
        """Judge the present score."""
        score = score_of(self.score_function, engine, self)
        if self._improves(score):
            self.best_score, self.counter = score, 0
            return
        self.counter += 1
        if self.best_score is not None and score > self.best_score and not self.cumulative:
            self.best_score = score
        if self.counter >= self.patience:
            self.trainer.logger.info(
                "EarlyStopping: %d scores without improvement over %s, training ends", self.counter, self.best_score
            )
            self.trainer.terminate()

    def _improves(self, score: float) -> bool:
        if self.best_score is None:
            return not math.isnan(score)
        return score > self.best_score + self.min_delta

    def state_dict(self) -> dict[str, Any]:
        """The counter and the best score."""
        return {"counter": self.counter, "best_score": self.best_score}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises:
            ValueError: it is not of this handler.
        """
        if not isinstance(state_dict, Mapping) or set(state_dict) != {"counter", "best_score"}:
            raise ValueError(f"EarlyStopping: {state_dict!r} is no state of it; give what state_dict() returned")
        self.counter, self.best_score = state_dict["counter"], state_dict["best_score"]


class TerminateOnNan:
    """Terminates the run when there is NaN or infinity in the output, and logs where.

    Attach it with ``trainer.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())``.

    Args:
        output_transform: makes of ``state.output`` what is looked through: numbers and tensors, in mappings, lists and
            tuples nested to any depth. Anything else in it is passed over.

    Raises:
        TypeError: ``output_transform`` is no function.
    """

    def __init__(self, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        check_callable(output_transform, "output_transform", self)
        self.output_transform = output_transform

    def __call__(self, engine: Engine) -> None:
        """Look through the present output."""
        found = next(_not_finite(self.output_transform(engine.state.output), "output"), None)
        if found is not None:
            engine.logger.warning("TerminateOnNan: %s, in %s; the run ends", found, engine.place)
            engine.terminate()


def _not_finite(value: Any, place: str) -> Iterator[str]:
    """What is NaN or infinite in a nest, in words, as ``output['loss'][1] is nan``."""
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
    """Terminates a run at the first event after its time is over.

    ``TimeLimit(3600).attach(trainer)`` counts from the start of each run, without the time in which it was paused by
    ``interrupt()``. Attached with ``add_event_handler`` alone, it counts from when it was made.

    Args:
        limit_sec: seconds.

    Raises:
        ValueError: ``limit_sec`` is no positive number.
    """

    def __init__(self, limit_sec: float) -> None:
        if not _is_real(limit_sec) or not 0 < limit_sec < math.inf:
            raise ValueError(f"TimeLimit: limit_sec={limit_sec!r} is no number of seconds above 0")
        self.limit_sec = limit_sec
        self._spent = 0.0
        self._since: float | None = monotonic()
        self._loaded = False

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken so far."""
        return self._spent + (monotonic() - self._since if self._since is not None else 0.0)

    def attach(self, engine: Engine, event: EventHandle = Events.ITERATION_COMPLETED) -> None:
        """Limit each run of an engine.

        Args:
            engine: whose runs.
            event: where the time is looked at, and the run ends when it is over.

        Raises:
            ValueError: the engine does not know the event.
        """
        engine.add_event_handler(event, self)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.INTERRUPT, self._pause)
        engine.add_event_handler(Events.TERMINATE | Events.COMPLETED | Events.EXCEPTION_RAISED, self._stop)

    def __call__(self, engine: Engine) -> None:
        """Terminate the run if its time is over."""
        self._go_on()
        if self.elapsed >= self.limit_sec:
            engine.logger.info("TimeLimit: the run has taken its %s s and ends", self.limit_sec)
            engine.terminate()

    def _start(self) -> None:
        if not self._loaded:
            self._spent = 0.0
        self._loaded = False
        self._since = monotonic()

    def _stop(self, *_: object) -> None:
        self._spent, self._since = self.elapsed, None

    def _go_on(self) -> None:
        if self._since is None:
            self._since = monotonic()

    def _pause(self, engine: Engine) -> None:
        """Stop the clock until the next event, whichever it is."""
        self._stop()

        def go_on(*_: object) -> None:
            self._go_on()
            attached.remove()

        attached = engine.add_event_handler(list(engine.loop.event_keys), go_on)

    def state_dict(self) -> dict[str, float]:
        """The seconds that the run has taken."""
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Have the next run count from where :meth:`state_dict` was called.

        Raises:
            ValueError: it is not of this handler.
        """
        if not isinstance(state_dict, Mapping) or set(state_dict) != {"elapsed"}:
            raise ValueError(f"TimeLimit: {state_dict!r} is no state of it; give what state_dict() returned")
        self._spent, self._since, self._loaded = state_dict["elapsed"], None, True
