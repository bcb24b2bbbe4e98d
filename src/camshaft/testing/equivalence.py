"""Equivalence: check that two engines, or two builds of one engine, do the same, bit for bit."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import attrs
import torch

from camshaft.engine.engine import Engine
from camshaft.trace.log import TraceEvent
from camshaft.trace.recording import record
from camshaft.trace.trace import Trace

__all__ = ["assert_same_run"]

Build = Engine | tuple[Any, ...] | Callable[[], Any]


def assert_same_run(
    first: Build,
    second: Build,
    data: Any = None,
    *,
    max_epochs: int | None = None,
    max_iters: int | None = None,
    epoch_length: int | None = None,
    seed: int = 0,
) -> None:
    """Run two engines in the same way, and compare events, counters, outputs, metrics, weights and errors.

    Tensors are compared bit for bit. Use it to show that a change of the code does not change the computation.

    >>> from camshaft import Engine, Phase
    >>> assert_same_run(Engine([Phase("DOUBLE", lambda engine, batch: 2 * batch)]),
    ...                 Engine([Phase("DOUBLE", lambda engine, batch: batch + batch)]), [1, 2, 3])

    Args:
        first, second: an engine, or a function without arguments that builds one. The function is called after all
            random generators have been seeded. Instead of an engine, you can give or return a tuple of the engine and
            further objects, such as the model and the optimizer. Their ``state_dict()`` is compared after the run.
        data: the data of both runs, or a function without arguments that returns it for each run. An iterator needs a
            function.
        max_epochs, max_iters, epoch_length: as for ``Engine.run``.
        seed: the seed of the generators of Python, NumPy (if it is installed) and torch. They are seeded before each
            build and before each run.

    Raises:
        AssertionError: the runs differ. The message shows the first difference.
        TypeError: ``first`` or ``second`` is no engine and returns none.
    """
    __tracebackhide__ = True
    limits = {"max_epochs": max_epochs, "max_iters": max_iters, "epoch_length": epoch_length}
    runs = [_Run.of(build, data, limits, seed) for build in (first, second)]
    difference = next(_differences(*runs), None)
    if difference is not None:
        raise AssertionError(f"the two runs differ: {difference}")


@attrs.define
class _Run:
    """The result of one run.

    Attributes:
        trace: all events, also those of nested engines.
        snapshots: at each event: the length of the trace, and counters, output and metrics of the engine that fired it.
        final: the values that are compared after the run, by name.
        error: the exception that ``run()`` raised, or None.
    """

    trace: Trace
    snapshots: list[tuple[int, dict[str, Any]]]
    final: dict[str, Any] = attrs.field(factory=dict)
    error: BaseException | None = None

    @classmethod
    def of(cls, build: Build, data: Any, limits: dict[str, Any], seed: int) -> _Run:
        """Build an engine if necessary, run it, and return the result."""
        _seed(seed)
        built = build if isinstance(build, (Engine, tuple)) else build()
        engine, *objects = built if isinstance(built, tuple) else (built,)
        if not isinstance(engine, Engine):
            raise TypeError(f"first and second must be an Engine, or a function that returns one, got {engine!r}")
        loops = engine.loop.counters
        with record() as trace:
            run = cls(trace, [])

            def snap(engine: Engine, *error: BaseException) -> None:
                values = {name: getattr(engine.state, name) for name in loops if hasattr(engine.state, name)}
                values |= {"output": _frozen(engine.state.output), "metrics": _frozen(engine.state.metrics)}
                run.snapshots.append((len(trace), values))

            handles = [
                each.add_event_handler(event, snap) for each in _with_nested(engine) for event in each.loop.event_keys
            ]
            _seed(seed)
            try:
                engine.run(data() if callable(data) else data, **limits)
            except Exception as error:
                run.error = error
            finally:
                for handle in handles:
                    handle.remove()
        state = engine.state
        run.final = {name: getattr(state, name) for name in (*loops, *limits)} | {"metrics": _frozen(state.metrics)}
        run.final |= {_name(each, number): _frozen(each.state_dict()) for number, each in enumerate(objects)}
        return run


def _with_nested(engine: Engine) -> list[Engine]:
    """Return the engine and all engines that are nested in it."""
    found = [engine]
    for each in found:
        found += [nested.engine for nested in each.loop.nested if nested.engine not in found]
    return found


def _name(value: Any, number: int) -> str:
    return f"{type(value).__name__} (object {number + 1})"


def _seed(seed: int) -> None:
    """Seed the random generators of Python, torch, and NumPy if it is installed."""
    random.seed(seed)
    torch.manual_seed(seed)
    try:
        import numpy
    except ImportError:
        return
    numpy.random.seed(seed)


def _frozen(value: Any) -> Any:
    """Return a copy that later steps do not change, made of plain values and tensors."""
    if isinstance(value, torch.Tensor):
        return _frozen_tensor(value.detach())
    if hasattr(value, "tobytes") and hasattr(value, "dtype"):  # an array of NumPy
        return [str(value.dtype), [*value.shape], value.tolist()]
    if isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, deque, set, frozenset)):
        parts = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [_frozen(inner) for inner in parts]
    if hasattr(value, "__dict__") and not callable(value):
        return {"type": type(value).__qualname__} | {name: _frozen(inner) for name, inner in vars(value).items()}
    return value


def _frozen_tensor(tensor: torch.Tensor) -> Any:
    """Return a dense copy of a tensor; for a quantized one, its scheme, its integers and its values."""
    if tensor.is_quantized:
        return [repr(tensor.qscheme()), _frozen_tensor(tensor.int_repr()), _frozen_tensor(tensor.dequantize())]
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    return tensor.resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)


# -- the first difference ---------------------------------------------------------------------------------------------


def _differences(first: _Run, second: _Run) -> Iterator[str]:
    """Yield the differences of two runs, the earliest first."""
    index = next((n for n, pair in enumerate(zip_longest(first.trace, second.trace)) if not _alike(*pair)), None)
    for (number, values), (_, others) in zip(first.snapshots, second.snapshots, strict=False):
        if index is not None and number > index:
            break
        for name, value in values.items():
            for place, words in _unequal(value, others.get(name), f"state.{name}"):
                yield f"at event #{number} {first.trace[number - 1]}\n  {place}: {words}"
    if index is not None:
        yield _different_events(first.trace, second.trace, index)
    if repr(first.error) != repr(second.error):
        yield f"the first ended with {first.error!r}, the second with {second.error!r}"
    for name, value in first.final.items():
        for place, words in _unequal(value, second.final.get(name), name):
            yield f"after the run\n  {place}: {words}"
    if [*first.final] != [*second.final]:
        yield f"compared are {', '.join(first.final)} in the first, {', '.join(second.final)} in the second"


def _alike(one: TraceEvent | None, other: TraceEvent | None) -> bool:
    return one is not None and other is not None and _identity(one) == _identity(other)


def _identity(event: TraceEvent) -> tuple[str, str, int, int]:
    return event.engine, event.event, event.count, event.depth


def _different_events(first: Trace, second: Trace, index: int) -> str:
    """Return the first difference of two traces in words, with the events before it."""
    width = len(str(index + 1))
    before = [f"    {event.number:>{width}}  {event}" for event in first[max(0, index - 2) : index]]
    parts = [str(trace[index]) if index < len(trace) else "nothing more" for trace in (first, second)]
    return "\n".join(
        [
            f"event #{index + 1} is {parts[0]} in the first, {parts[1]} in the second",
            *before,
            f"  > {index + 1:>{width}}  {parts[0]} | {parts[1]}",
        ]
    )


def _unequal(one: Any, other: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield the places at which two values differ, and the differences in words."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        words = _unequal_tensors(one, other)
        if words:
            yield place, words
    elif isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        for key, value in one.items():
            yield from _unequal(value, other[key], f"{place}[{key!r}]")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, value in enumerate(one):
            yield from _unequal(value, other[number], f"{place}[{number}]")
    elif not _equal(one, other):
        yield place, f"{_brief(one)} | {_brief(other)}"


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if "__eq__" not in {name for base in type(one).__mro__[:-1] for name in vars(base)}:
        return True  # objects without __eq__ cannot be compared
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unequal_tensors(one: torch.Tensor, other: torch.Tensor) -> str:
    """Return the difference of two tensors in words; an empty string if they are equal bit for bit."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return f"{tuple(one.shape)} {one.dtype} | {tuple(other.shape)} {other.dtype}"
    one, other = one.cpu(), other.cpu()
    if one.numel() == 0 or _bits(one).equal(_bits(other)):
        return ""
    differ = (_bits(one) != _bits(other)).reshape(one.numel(), -1).any(dim=1)
    words = f"{int(differ.sum())} of {one.numel()} elements differ"
    if one.dtype.is_floating_point or one.dtype.is_complex:
        words += f", by {(one - other).abs().max().item():.3g} at most"
    index = int(differ.nonzero()[0])
    return f"{words}; the first is {one.flatten()[index].item()} | {other.flatten()[index].item()}"


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bytes of a tensor, so that NaN equals itself and -0.0 differs from 0.0."""
    return tensor.contiguous().flatten().view(torch.uint8)
