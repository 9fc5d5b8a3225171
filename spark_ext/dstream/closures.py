"""The user's functions that travel to workers: that they can be pickled is seen before anything runs."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any, Final

from pyspark import cloudpickle

__all__ = ["argument_count", "required_count", "unpicklable", "users_functions"]

HERE: Final = str(Path(__file__).parent)
ONE_PLACE: Final = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}


def argument_count(function: Callable[..., Any]) -> int:
    """Return how many arguments a function is to be called with, those that it must get.

    Of plain functions those with a default as well, as `pyspark.streaming` counts; it takes no other callables than these.
    """
    if isinstance(function, FunctionType) and not hasattr(function, "__wrapped__"):
        return function.__code__.co_argcount
    return required_count(function)


def required_count(function: Callable[..., Any]) -> int:
    """Return how many arguments any callable must get by place.

    Raises
    ------
    TypeError, ValueError
        It cannot be called, or does not tell.
    """
    parameters = inspect.signature(function).parameters.values()
    return sum(one.kind in ONE_PLACE and one.default is one.empty for one in parameters)


def users_functions(held: Any) -> Iterator[Any]:
    """Yield the user's functions that a step, or a function of this package, has been given."""
    if isinstance(held, FunctionType) and held.__code__.co_filename.startswith(HERE):
        for part in _captured(held).values():
            yield from users_functions(part)
    elif isinstance(held, partial):
        for part in (held.func, *held.args, *held.keywords.values()):
            yield from users_functions(part)
    elif is_dataclass(held) and type(held).__module__.startswith(__package__ or ""):
        for field in fields(held):
            yield from users_functions(getattr(held, field.name))
    elif isinstance(held, tuple):
        for part in held:
            yield from users_functions(part)
    elif callable(held) and not isinstance(held, type):
        yield held


def unpicklable(function: Any) -> str | None:
    """Return which part of a function cannot be pickled, and why; None if all of it can."""
    why = _refusal(function)
    return None if why is None else f"{_culprit(function)}: {why}"


def _refusal(value: Any) -> str | None:
    try:
        cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 (any object may raise anything)
        return " ".join(str(error).split())[:200] or type(error).__name__
    return None


def _culprit(value: Any) -> str:
    """Follow closures, globals and defaults down to the object itself."""
    name, seen = "", {id(value)}
    while True:
        bad = ((inner, part) for inner, part in _parts(value) if id(part) not in seen and _refusal(part) is not None)
        inner, part = next(bad, ("", None))
        if not inner:
            return f"{name!r} ({type(value).__name__})" if name else repr(value)
        name, value = inner, part
        seen.add(id(value))


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, MethodType):
        yield "self", value.__self__
    elif isinstance(value, FunctionType):
        yield from _captured(value).items()
        called = value.__globals__
        yield from ((name, called[name]) for name in _names(value.__code__) if name in called)
        yield from ((f"default of {value.__qualname__}", part) for part in value.__defaults__ or ())
    elif isinstance(value, partial):
        yield from ((f"argument of partial {position}", part) for position, part in enumerate((value.func, *value.args)))
        yield from value.keywords.items()


def _captured(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # nothing has been assigned to it yet
            found[name] = cell.cell_contents
    return found


def _names(code: CodeType) -> set[str]:
    """Return the globals and attributes that a function names, and functions in it."""
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*map(_names, inner))
