"""Functions that users give: whether a call runs them, and which arguments they accept."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial, partialmethod
from inspect import Parameter
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType, MappingProxyType, MethodType
from typing import Any

__all__ = [
    "ARGUMENT",
    "check_accepts",
    "check_ran",
    "check_runs",
    "checked_once",
    "function_name",
    "has_own_default",
    "refusing_signature",
    "taking_parameters",
]

MAX_LAYERS = 100
"""The maximal number of wrappers that are looked through. An object may answer every attribute with a new object."""

_NOT_RUN = {
    inspect.iscoroutinefunction: "a coroutine function (async def)",
    inspect.isasyncgenfunction: "an asynchronous generator function",
    inspect.isgeneratorfunction: "a generator function (it has a yield)",
}
"""The kinds of functions whose call only makes an object, by the test for each."""


_SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class _Argument:
    """A placeholder for an argument that is known only when the function is called."""


ARGUMENT = _Argument()


def function_name(function: Any) -> str:
    """Return the name of a function for messages: of what a partial calls, or the class of a callable object."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return (name if isinstance(name, str) else type(function).__name__).replace("<locals>.", "")


# -- does a call run it? -----------------------------------------------------------------------------------------------


def check_runs(what: str, function: Any, *, may_yield: bool = False) -> None:
    """Refuse a function whose call would not run it: a coroutine function or a generator function.

    Partials, methods, static and class methods and the ``__call__`` of objects are looked through. What a wrapper of
    :func:`functools.wraps` wraps does not count: the wrapper may run it, for example with ``asyncio.run()``.

    Args:
        what: the role and the name of the function, for the message.
        function: the function.
        may_yield: accept generator functions.

    Raises:
        TypeError: a call would only make a coroutine or a generator.
    """
    if _is_plain(function):
        return
    called = function
    for _ in range(MAX_LAYERS):
        for is_kind, kind in _NOT_RUN.items():
            if is_kind(called) and not (may_yield and is_kind is inspect.isgeneratorfunction):
                raise TypeError(f"{what} is {kind}: a call would not run it; give a plain function")
        inner = _called_by(called)
        if inner is None:
            return
        called = inner


def _is_plain(function: Any) -> bool:
    """Return whether a function is neither a generator or coroutine function nor marked or wrapped. This is fast."""
    return type(function) is FunctionType and not function.__dict__ and not function.__code__.co_flags & _SUSPENDS


def _called_by(function: Any) -> Any:
    """Return the function that a call of ``function`` calls; None if this is the last one."""
    if isinstance(function, partial):
        return function.func
    if isinstance(function, (MethodType, staticmethod, classmethod)):
        return function.__func__
    if inspect.isroutine(function) or isinstance(function, type):
        return None  # the code is reached, or is written in C
    call = inspect.getattr_static(type(function), "__call__", None)
    return call.func if isinstance(call, partialmethod) else call


def check_ran(what: str, result: Any) -> None:
    """Refuse a result that shows that a function was not run: a coroutine or a generator that has not begun.

    A generator expression is a value like any other.

    Args:
        what: the role and the name of the function, for the message.
        result: what its call returned.

    Raises:
        TypeError: see above.
    """
    if isinstance(result, (contextlib._GeneratorContextManager, contextlib._AsyncGeneratorContextManager)):
        kind, has_begun = "a context manager", False
    elif isinstance(result, GeneratorType):
        is_expression = result.gi_code.co_name == "<genexpr>"
        kind, has_begun = "a generator", is_expression or inspect.getgeneratorstate(result) != inspect.GEN_CREATED
    elif isinstance(result, AsyncGeneratorType):
        kind, has_begun = "an asynchronous generator", False
    elif isinstance(result, Coroutine):
        native = isinstance(result, CoroutineType)
        kind, has_begun = "a coroutine", native and inspect.getcoroutinestate(result) != inspect.CORO_CREATED
    else:
        return
    if has_begun:
        return
    if isinstance(result, Coroutine):
        result.close()  # otherwise Python warns that it was never awaited, after this error
    raise TypeError(f"{what} returned {kind}, whose code has not run: give a function that runs it")


def checked_once(
    what: str, function: Callable[..., Any], replace: Callable[[Callable[..., Any]], None]
) -> Callable[..., Any]:
    """Return ``function`` with a check of its first result by :func:`check_ran`.

    Args:
        what: the role and the name of the function, for the message.
        function: the function.
        replace: called with ``function`` after its first call, to put it in the place of the returned one. So only the
            first call costs anything.
    """

    def first_call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        result = function(*args, **kwargs)
        check_ran(what, result)
        replace(function)
        return result

    return first_call


# -- which arguments does it accept? -----------------------------------------------------------------------------------


def check_accepts(what: str, function: Any, *names: str) -> None:
    """Refuse a function that cannot be called with these positional arguments, or would lose a default by the call.

    Args:
        what: the role and the name of the function, for the message.
        function: the function.
        names: the names of the arguments, for the message.

    Raises:
        TypeError: its signature does not fit, or one of the arguments would replace a default, as in ``lambda i=i: i``.
    """
    code = function.__code__ if _is_plain(function) else None
    if code is not None and not function.__defaults__ and (code.co_argcount, code.co_kwonlyargcount) == (len(names), 0):
        return
    arguments = (ARGUMENT,) * len(names)
    call = f"it will be called with ({', '.join(names)})"
    signature = refusing_signature(function, arguments)
    if signature is not None:
        raise TypeError(f"{what}{signature} does not fit: {call}")
    for name, parameter in zip(names, taking_parameters(function, arguments) or (), strict=False):
        if has_own_default(parameter):
            raise TypeError(
                f"{what} has the parameter {parameter}: {call}, and {name} would replace that default; "
                f"put the parameters {', '.join(names)} before it"
            )


def refusing_signature(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any] = MappingProxyType({}), layers: int = 0
) -> inspect.Signature | None:
    """Return the signature that does not accept these arguments; None if they fit.

    What counts is the function that is really called: a wrapper made with :func:`functools.wraps` has parameters of its
    own. A function without a signature, as some are that are written in C, is taken to fit.

    Args:
        function: the function.
        args, kwargs: the arguments of the call. :data:`ARGUMENT` may stand for any of them.
        layers: how many wrappers to look through that take all arguments as ``*args``. What such a wrapper wraps must
            then accept them too.
    """
    for own, bound, call in _calls(function, args, kwargs, layers):
        if call is None:
            return own.replace(parameters=list(own.parameters.values())[bound:])
    return None


def taking_parameters(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any] = MappingProxyType({}), layers: int = 0
) -> tuple[Parameter | None, ...] | None:
    """Return the parameter that takes each of the positional arguments; None instead of one that is not known.

    Args:
        function, args, kwargs, layers: as for :func:`refusing_signature`.

    Returns:
        The parameters of the innermost function; None if the arguments do not fit.
    """
    markers = tuple(_Argument() for _ in args)
    found: dict[int, Parameter] = {}
    for own, _, call in _calls(function, markers, kwargs, layers):
        if call is None:
            return None
        found = {id(value): own.parameters[name] for name, value in call.arguments.items()}
    return tuple(found.get(id(marker)) for marker in markers)


def has_own_default(parameter: Parameter | None) -> bool:
    """Return whether a parameter has a default other than None, which an argument would replace."""
    return parameter is not None and parameter.default is not parameter.empty and parameter.default is not None


def _calls(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], layers: int
) -> Iterator[tuple[inspect.Signature, int, inspect.BoundArguments | None]]:
    """Yield the calls that a call of a function makes, as far as they are known: its own, then that of what it wraps.

    Args:
        function, args, kwargs, layers: as for :func:`refusing_signature`.

    Yields:
        The signature of each function, the number of arguments that methods and partials add before the others, and
        its parameters with their arguments, or None if they do not fit.
    """
    bound: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    for _ in range(layers + 1):
        while isinstance(function, (partial, MethodType)):
            if isinstance(function, MethodType):
                function, bound = function.__func__, (function.__self__, *bound)
            else:
                function, bound, named = function.func, (*function.args, *bound), function.keywords | named
        own = _own_signature(function)
        if own is not None:
            call = _call(own, (*bound, *args), {**named, **kwargs})
            yield own, len(bound), call
            if call is None or not _passes_on(own, len(bound)):
                return
            named = {name: value for name, value in named.items() if name not in own.parameters}
            kwargs = {name: value for name, value in kwargs.items() if name not in own.parameters}
        function, bound = _wrapped_by(function, bound)
        if function is None:
            return


def _call(
    signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> inspect.BoundArguments | None:
    """Return the parameters of a function with their arguments; None if they do not fit."""
    try:
        return signature.bind(*args, **kwargs)
    except TypeError:
        return None


def _own_signature(function: Any) -> inspect.Signature | None:
    """Return the signature of a function itself, not of what it wraps; None if it has none."""
    try:
        return inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError):
        return None


def _passes_on(signature: inspect.Signature, bound: int) -> bool:
    """Return whether a function takes all positional arguments after the first ``bound`` ones as ``*args``."""
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    positional = sum(kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds)
    return Parameter.VAR_POSITIONAL in kinds and positional <= bound


def _wrapped_by(function: Any, bound: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Return what a wrapper wraps, and the arguments before those of a call; (None, ()) if it is no wrapper."""
    wrapped = getattr(function, "__wrapped__", None)
    if callable(wrapped):
        return wrapped, bound
    method = None if inspect.isroutine(function) else inspect.getattr_static(type(function), "__call__", None)
    wrapped = getattr(method, "__wrapped__", None)
    return (wrapped, (function, *bound)) if callable(wrapped) else (None, ())
