"""The state of an engine: counters, limits, batch and output, and the attributes that users add."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Number
from typing import TYPE_CHECKING, Any, Protocol

from camshaft.engine.data import check_data, has_certain_length, length_of
from camshaft.events import BUILT_IN, EventHandle, Events, event_key, event_name
from camshaft.loop.counting import attribute_by_event
from camshaft.loop.loop import Loop
from camshaft.loop.states import DATA, OpaqueStep

__all__ = ["State"]


class ConnectedRun(Protocol):
    """The part of a run that a state uses."""

    def assign_data(self, data: Any) -> None:
        """Take other data, that was assigned to the state."""

    def limits_changed(self) -> None:
        """Apply changed limits before the next batch is fetched."""


class EventAttributes(Mapping[EventHandle, str]):
    """The attribute of a state that numbers each event. An event may be given as any of its handles.

    Args:
        attributes: the attributes, by the key of the event.
    """

    def __init__(self, attributes: dict[str, str]) -> None:
        self._attributes = attributes

    def __getitem__(self, event: EventHandle) -> str:
        try:
            return self._attributes[event_key(event)]
        except (TypeError, ValueError):
            raise KeyError(event) from None

    def __iter__(self) -> Iterator[EventHandle]:
        return (Events(key) if key in BUILT_IN else key for key in self._attributes)

    def __len__(self) -> int:
        return len(self._attributes)

    def __repr__(self) -> str:
        return repr(dict(self))


class _OfClassOrState:
    """The attribute ``event_to_attr``: of the class for the standard loop, of a state for the loop of its engine."""

    def __get__(self, state: State | None, kind: type[State]) -> EventAttributes:
        return EventAttributes(_STANDARD if state is None else state._numbered())


_STANDARD = attribute_by_event(Loop("EPOCH", Loop("ITERATION", OpaqueStep(), over=DATA)))
"""The attribute that numbers each event of the standard loop, by key."""


class State:
    """The state of an engine: its counters, limits, batch, output and metrics.

    Users may set further attributes, for example to pass values from one phase or handler to another.

    Args:
        attributes: initial values of attributes, by name.

    Attributes:
        iteration: the number of iterations begun, over the whole run.
        epoch: the number of epochs begun. A loop of another name counts in an attribute of that name in lower case:
            ``state.episode``.
        epoch_length: the number of iterations in an epoch; None until it is known. A handler may change it, and the
            limits too. The change acts before the next batch is fetched, or the next epoch begins.
        known_length: the same, but None until the first epoch has ended, if the ``len()`` of the data may be wrong.
        expected_length: the ``len()`` of such data until then, or None.
        learned_length: the number of batches that data without ``len()`` gave in the first epoch, or None.
        max_epochs: the limit of the outermost loop, or None.
        max_iters: the limit of the loop that takes data, or None.
        batch: the present batch. A handler of GET_BATCH_COMPLETED or ITERATION_STARTED may replace it.
        output: the output of the present iteration; None until its step or a phase returned one.
        metrics: results of metrics, by name.
        times: durations in seconds: ``"EPOCH_COMPLETED"`` of the last epoch, ``"COMPLETED"`` of the run.
        has_new_data: True from the moment that data is set until a run takes it.
        dataloader: the data of the run. Assigning to it is the same as :meth:`camshaft.Engine.set_data`; but in
            an epoch of unknown length, the present data is read to its end before, which sets the length. Without a
            run, the assigned data is for the next ``run()`` that is given none.
        seed: for programs written for pytorch-ignite. camshaft does not read it: seed torch yourself.
        resumed: True while a resumed run fires STARTED and EPOCH_STARTED again.
        event_to_attr: the attribute of the state that numbers each event: that of ``event_to_attr`` in
            :meth:`camshaft.Engine.register_events`, or else the counter of the event's loop. TERMINATE and others that
            do not belong to one pass have none.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_attributes",
        "_data_counter",
        "_dataloader",
        "_given_metrics",
        "_max_iters",
        "_metrics_of_last_run",
        "_outer_counter",
        "_run",
        "batch",
        "epoch",
        "expected_length",
        "has_new_data",
        "iteration",
        "known_length",
        "learned_length",
        "max_epochs",
        "metrics",
        "output",
        "resumed",
        "seed",
        "times",
    )

    if TYPE_CHECKING:  # users may set and read any attribute

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    event_to_attr = _OfClassOrState()

    def __init__(self, **attributes: Any) -> None:
        self._attributes: dict[str, str] | Callable[[], dict[str, str]] = _STANDARD
        self._outer_counter = "epoch"
        self._data_counter: str | None = "iteration"
        self._dataloader: Any = None
        self._run: ConnectedRun | None = None
        self._given_metrics: dict[str, Any] = {}
        self._metrics_of_last_run: dict[str, Any] = {}
        self.has_new_data: bool = False
        self.iteration: int = 0
        self.epoch: int = 0
        self.known_length: int | None = None
        self.expected_length: int | None = None
        self.learned_length: int | None = None
        self.max_epochs: int | None = None
        self._max_iters: int | None = None
        self.batch: Any = None
        self.output: Any = None
        self.metrics: dict[str, Any] = {}
        self.times: dict[str, float] = {}
        self.seed: int | None = None
        self.resumed: bool = False
        for name, value in attributes.items():
            setattr(self, name, value)

    def __getstate__(self) -> Any:
        """Return the attributes for a copy. A copy is not connected to a run."""
        self._numbered()
        whole: Any = object.__getstate__(self)  # the attributes of users, and the slots
        return whole[0], whole[1] | {"_run": None}

    @property
    def epoch_length(self) -> int | None:
        """The number of iterations in an epoch, as far as it is known."""
        return self.expected_length if self.known_length is None else self.known_length

    @epoch_length.setter
    def epoch_length(self, value: int | None) -> None:
        self.known_length, self.expected_length = value, None
        self._on_changed_limit()

    @property
    def max_iters(self) -> int | None:
        """The limit of the loop that takes data, or None."""
        return self._max_iters

    @max_iters.setter
    def max_iters(self, value: int | None) -> None:
        self._max_iters = value
        self._on_changed_limit()

    def _on_changed_limit(self) -> None:
        if self._run is not None:
            self._run.limits_changed()

    @property
    def dataloader(self) -> Any:
        """The data of the run."""
        return self._dataloader

    @dataloader.setter
    def dataloader(self, data: Any) -> None:
        if self._run is not None:
            self._run.assign_data(data)
            return
        if data is not None:
            check_data(data)
        self.keep_data(data)

    def connect(self, run: ConnectedRun | None) -> None:
        """Tell a run about data and limits that are assigned. None ends this."""
        self._run = run

    def expect_length_of(self, data: Any) -> None:
        """Set the length of an epoch to that of its data. It is only expected, if the data may give more or fewer."""
        length = length_of(data)
        if has_certain_length(data):
            self.epoch_length = length
        else:
            self.known_length, self.expected_length = None, length

    def keep_data(self, data: Any) -> None:
        """Keep checked data, until a run takes it. Any thread may call this."""
        if data is not self._dataloader and self._dataloader is not None:
            self.learned_length = None
        self._dataloader = data
        self.has_new_data = data is not None  # last: another thread may take the data from here on

    def note_metrics_of_run(self) -> None:
        """Note which metrics were written by the run that ends now. Others were there before it."""
        given = self._given_metrics
        self._metrics_of_last_run = {
            name: value for name, value in self.metrics.items() if name not in given or given[name] is not value
        }

    def forget_metrics_of_last_run(self) -> None:
        """Remove the metrics that the last run has written. Those that the user has set since, or before it, stay."""
        for name, value in self._metrics_of_last_run.items():
            if name in self.metrics and self.metrics[name] is value:
                del self.metrics[name]
        self._given_metrics, self._metrics_of_last_run = dict(self.metrics), {}

    def take_data(self) -> Any:
        """Return the data for a run that reads it from now on."""
        self.has_new_data = False  # first: another thread may keep further data from here on
        return self._dataloader

    def _numbered(self) -> dict[str, str]:
        """Return the attribute that numbers each event, by key."""
        if callable(self._attributes):
            self._attributes = self._attributes()
        return self._attributes

    def count_by(
        self, outer: str, data: str | None, counters: Iterable[str], attributes: Callable[[], dict[str, str]]
    ) -> None:
        """Set the counters that the limits apply to, and the attributes that number events.

        Args:
            outer: the attribute that counts the outermost loop.
            data: the attribute that counts the loop over data; None without such a loop.
            counters: the attributes that count. One that is missing begins with 0.
            attributes: a function that returns the attribute that numbers each event, by key. It is called when
                somebody asks, as few programs do.
        """
        self._outer_counter, self._data_counter, self._attributes = outer, data, attributes
        for name in counters:
            if not hasattr(self, name):
                setattr(self, name, 0)

    def get_event_attrib_value(self, event_name: EventHandle) -> Any:
        """Return the present number of an event: the value of the attribute that :attr:`event_to_attr` names for it.

        Raises:
            RuntimeError: the event has no number.
        """
        attributes = self.event_to_attr
        if event_name not in attributes:
            raise RuntimeError(
                f"{event_name!r} has no number in this state, which numbers {', '.join(map(_name, attributes))}: "
                f"register events of your own with the engine first, with register_events()"
            )
        return getattr(self, attributes[event_name])

    def within_limits(self) -> bool:
        """Return whether the limits allow another pass of the outermost loop, or a resumed run has to finish one."""
        if self.resumed:
            return True
        counter = self._data_counter
        if self.max_iters is not None and counter is not None and getattr(self, counter) >= self.max_iters:
            return False
        return self.max_epochs is None or getattr(self, self._outer_counter) < self.max_epochs

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in _SHOWN} | self.__dict__
        return "State:\n" + "".join(f"\t{name}: {_brief(value)}\n" for name, value in values.items())


_SHOWN = (
    "iteration",
    "epoch",
    "epoch_length",
    "max_epochs",
    "max_iters",
    "output",
    "batch",
    "metrics",
    "dataloader",
    "seed",
    "times",
)
"""The attributes that ``repr()`` shows before those of users."""


_WITHOUT_VALUE: weakref.WeakKeyDictionary[State, set[str]] = weakref.WeakKeyDictionary()


def note_value(state: State, name: str, has_value: bool) -> None:
    """Note whether a metric has a value. If it has none, it is removed from ``state.metrics``."""
    if has_value:
        _WITHOUT_VALUE.get(state, set()).discard(name)
    else:
        state.metrics.pop(name, None)
        _WITHOUT_VALUE.setdefault(state, set()).add(name)


def lacks_value(name: object, state: State | None = None) -> bool:
    """Return whether a metric is missing because it had no samples, and not because there is no such metric.

    Args:
        name: the key of ``state.metrics`` that is missing.
        state: the state; by default that of any engine, since a function may read the metrics of another engine.
    """
    states = list(_WITHOUT_VALUE) if state is None else [state]
    if not isinstance(name, str):  # a key of another mapping, which may not be hashable
        return False
    return any(name in _WITHOUT_VALUE.get(one, ()) and name not in one.metrics for one in states)


def _brief(value: Any) -> Any:
    """Return a number or a string, or the class of another value: tensors and batches would be too long."""
    return value if isinstance(value, (Number, str)) else type(value)


def _name(event: EventHandle) -> str:
    return event_name(event_key(event))
