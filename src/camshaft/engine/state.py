"""State: what a run knows about itself, and what its handlers leave there for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["State"]


class State:
    """Counters, limits, the present batch and output, metrics; and any attribute that a user sets.

    Attributes:
        iteration: iterations begun, over the whole run.
        epoch: epochs begun. Loops of other names count in attributes of theirs: ``state.episode``.
        epoch_length: iterations in an epoch; None until it is known.
        max_epochs: limit of the outermost loop, or None.
        max_iters: limit of the loop that takes data, or None.
        batch: the present batch, which a handler may replace before the step.
        output: what the present iteration gave; None until then.
        metrics: results by name.
        times: seconds, under ``"EPOCH_COMPLETED"`` for the last epoch and ``"COMPLETED"`` for the run.
        dataloader: the data of the run.
        resumed: True while events that began before a restart fire again.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_data_counter",
        "_outer_counter",
        "batch",
        "dataloader",
        "epoch",
        "epoch_length",
        "iteration",
        "max_epochs",
        "max_iters",
        "metrics",
        "output",
        "resumed",
        "times",
    )

    if TYPE_CHECKING:  # whatever a user sets can be read

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    def __init__(self, **attributes: Any) -> None:
        self._outer_counter = "epoch"
        self._data_counter: str | None = "iteration"
        self.iteration: int = 0
        self.epoch: int = 0
        self.epoch_length: int | None = None
        self.max_epochs: int | None = None
        self.max_iters: int | None = None
        self.batch: Any = None
        self.output: Any = None
        self.metrics: dict[str, Any] = {}
        self.times: dict[str, float] = {}
        self.dataloader: Any = None
        self.resumed: bool = False
        for name, value in attributes.items():
            setattr(self, name, value)

    def count_by(self, outer: str, data: str | None) -> None:
        """Let limits count these attributes: of the outermost loop, and of the one that takes data."""
        self._outer_counter, self._data_counter = outer, data

    def within_limits(self) -> bool:
        """Whether the limits allow another pass of the outermost loop, or the rest of one left in the middle."""
        if self.resumed:
            return True
        counter = self._data_counter
        if self.max_iters is not None and counter is not None and getattr(self, counter) >= self.max_iters:
            return False
        return self.max_epochs is None or getattr(self, self._outer_counter) < self.max_epochs

    def __repr__(self) -> str:
        names = ("iteration", "epoch", "epoch_length", "max_epochs", "max_iters", "batch", "output", "metrics", "times")
        lines = [f"\t{name}: {_brief(getattr(self, name))}" for name in names]
        lines += [f"\t{name}: {_brief(value)}" for name, value in self.__dict__.items()]
        return "State:\n" + "\n".join(lines) + "\n"


def _brief(value: Any) -> str:
    if value is None or isinstance(value, (int, float, str, bool)):
        return repr(value)
    if isinstance(value, dict) and all(isinstance(inner, (int, float)) for inner in value.values()):
        return repr(value)
    return f"<{type(value).__module__}.{type(value).__qualname__}>"
