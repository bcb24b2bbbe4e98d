"""The state of an engine: counters, limits, batch and output, and the attributes that users add."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["State"]


class State:
    """The state of an engine: its counters, limits, batch, output and metrics.

    Users may set further attributes, for example to pass values from one phase or handler to another.

    Args:
        attributes: initial values of attributes, by name.

    Attributes:
        iteration: the number of iterations begun, over the whole run.
        epoch: the number of epochs begun. A loop of another name counts in an attribute of that name in lower case:
            ``state.episode``.
        epoch_length: the number of iterations in an epoch; None until it is known.
        max_epochs: the limit of the outermost loop, or None.
        max_iters: the limit of the loop that takes data, or None.
        batch: the present batch. A handler of GET_BATCH_COMPLETED or ITERATION_STARTED may replace it.
        output: the output of the present iteration; None until its step or a phase returned one.
        metrics: results of metrics, by name.
        times: durations in seconds: ``"EPOCH_COMPLETED"`` of the last epoch, ``"COMPLETED"`` of the run.
        dataloader: the data of the run.
        resumed: True while a resumed run fires STARTED and EPOCH_STARTED again.
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

    if TYPE_CHECKING:  # users may set and read any attribute

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
        """Set the counters that the limits apply to.

        Args:
            outer: the attribute that counts the outermost loop.
            data: the attribute that counts the loop over data; None without such a loop.
        """
        self._outer_counter, self._data_counter = outer, data

    def within_limits(self) -> bool:
        """Return whether the limits allow another pass of the outermost loop, or a resumed run has to finish one."""
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
