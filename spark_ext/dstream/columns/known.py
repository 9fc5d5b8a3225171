"""Functions whose work is known: read from their byte code, or recognised by identity, as expressions over their arguments.

What flows in: a callable. What flows out: an expression of a small language, or None for anything else: branches, loops,
assignments, defaults, other people's objects, names that are not the real built-ins. Names and closures count as the
constants they hold, so a function is read in the worker that would call it, after it has been unpickled.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Final, Literal, TypeAlias

__all__ = ["Apply", "Argument", "Constant", "Expression", "Reduction", "Tuple", "expression", "reduction"]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument, by position."""

    place: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant of a simple type."""

    value: int | float | str | bool | bytes | None


@dataclass(frozen=True, slots=True)
class Tuple:
    """A tuple."""

    fields: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """A built-in, an operator (``+ - * / // % < <= == != > >= [] in not is``) or a method (``.split``) on operands."""

    what: str
    operands: tuple[Expression, ...]


Expression: TypeAlias = Argument | Constant | Tuple | Apply
Reduction: TypeAlias = Literal["add", "sub", "min", "max"] | tuple["Reduction", ...]

BUILTINS: Final = {"len": len, "min": min, "max": max, "str": str, "int": int, "float": float, "abs": abs, "bool": bool}
OPERATORS: Final = {operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
                    operator.mod: "%", operator.lt: "<", operator.le: "<=", operator.eq: "==", operator.ne: "!=", operator.gt: ">",
                    operator.ge: ">=", operator.iadd: "+", operator.isub: "-"}  # fmt: skip
SIGNS: Final = frozenset(OPERATORS.values())
METHODS: Final = {"split", "lower", "upper", "strip", "lstrip", "rstrip", "startswith", "endswith", "replace"}
SIMPLE: Final = (int, float, str, bool, bytes, type(None))
NEUTRAL: Final = {"RESUME", "CACHE", "NOP", "PRECALL", "COPY_FREE_VARS"}
NOT_PLAIN: Final = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
NOTHING: Final = object()  # what CPython keeps on its stack under a function to call
REDUCTIONS: Final[dict[str, Reduction]] = {"+": "add", "min": "min", "max": "max"}


class _UnknownError(Exception):
    """Not of the language."""


@dataclass(frozen=True, slots=True)
class _Callee:
    what: str
    bound: tuple[Expression, ...] = ()


def expression(function: Callable[..., Any], arguments: int = 1) -> Expression | None:
    """Return what a function of so many arguments gives, as an expression; None if that is not known."""
    try:
        if isinstance(function, FunctionType):
            return _of_code(function, arguments)
        return _by_identity(function, arguments)
    except (_UnknownError, LookupError, ValueError, TypeError, AttributeError):  # another interpreter's byte code among them
        return None


def reduction(function: Callable[[Any, Any], Any]) -> Reduction | None:
    """Return what a function does to put two values together: add, subtract the second, least, greatest; or that per field."""
    found = expression(function, 2)
    return None if found is None else _reduction(found, Argument(0), Argument(1))


def _reduction(found: Expression, left: Expression, right: Expression) -> Reduction | None:
    match found:
        case Apply("-", operands) if operands == (left, right):
            return "sub"
        case Apply(what, operands) if what in REDUCTIONS and operands in {(left, right), (right, left)}:
            return REDUCTIONS[what]
        case Tuple(fields) if len(fields) > 0:
            made = tuple(
                _reduction(field, Apply("[]", (left, Constant(place))), Apply("[]", (right, Constant(place))))
                for place, field in enumerate(fields)
            )
            return None if None in made else made  # type: ignore[return-value]
    return None


def _by_identity(function: Any, arguments: int) -> Expression:
    given = tuple(Argument(place) for place in range(arguments))
    if type(function) is operator.itemgetter:
        places = function.__reduce__()[1]
        if arguments != 1:
            raise _UnknownError
        made = tuple(_item(given[0], _constant(place)) for place in places)
        return made[0] if len(made) == 1 else Tuple(made)
    if type(function) is operator.methodcaller:
        made_by: Any
        name: Any
        made_by, (name, *rest) = function.__reduce__()  # type: ignore[str-unpack]  # typeshed has a str or a tuple
        if arguments != 1 or made_by is not operator.methodcaller or name not in METHODS:
            raise _UnknownError  # with keywords it is made by a partial
        return Apply(f".{name}", (*given, *map(_constant, rest)))
    for name in METHODS:
        if function is getattr(str, name):
            return Apply(f".{name}", (*given,))
    for name, known in BUILTINS.items():
        if function is known:
            return Apply(name, given)
    for known, name in OPERATORS.items():
        if function is known:
            return Apply(name, given)
    raise _UnknownError


def _of_code(function: FunctionType, arguments: int) -> Expression:
    code: CodeType = function.__code__
    is_plain = code.co_argcount == arguments and not code.co_kwonlyargcount and not code.co_flags & NOT_PLAIN
    if not is_plain or function.__defaults__:
        raise _UnknownError
    stack: list[Any] = []
    for step in dis.get_instructions(code):
        if step.opname in NEUTRAL:
            continue
        if step.opname == "RETURN_VALUE":
            (made,) = stack
            return _checked(made)
        if step.opname == "RETURN_CONST":
            return _constant(step.argval)
        _do(step, stack, function)
    raise _UnknownError


def _do(step: dis.Instruction, stack: list[Any], function: FunctionType) -> None:  # noqa: PLR0912 (a case per instruction)
    match step.opname:
        case "LOAD_FAST" if step.arg is not None and step.arg < function.__code__.co_argcount:
            stack.append(Argument(step.arg))
        case "LOAD_CONST":
            stack.append(_constant(step.argval))
        case "LOAD_DEREF" if function.__closure__ is not None:
            stack.append(_constant(function.__closure__[function.__code__.co_freevars.index(step.argval)].cell_contents))
        case "LOAD_GLOBAL":
            if (step.arg or 0) & 1:
                stack.append(NOTHING)
            stack.append(_global(function, step.argval))
        case "LOAD_METHOD" | "LOAD_ATTR" if step.argval in METHODS and (step.opname == "LOAD_METHOD" or (step.arg or 0) & 1):
            stack[-1:] = [NOTHING, _Callee(f".{step.argval}", (_checked(stack[-1]),))]
        case "CALL":
            count = step.arg or 0
            operands = _popped(stack, count)
            callee = stack.pop()
            if stack and stack[-1] is NOTHING:
                stack.pop()
            stack.append(Apply(callee.what, (*callee.bound, *operands)))
        case "BINARY_OP" if step.argrepr.removesuffix("=") in SIGNS:
            stack.append(Apply(step.argrepr.removesuffix("="), _popped(stack, 2)))
        case "COMPARE_OP":
            stack.append(Apply(str(step.argval), _popped(stack, 2)))
        case "BINARY_SUBSCR":
            of, place = _popped(stack, 2)
            stack.append(_item(of, place))
        case "BUILD_TUPLE" if step.arg:
            stack.append(Tuple(_popped(stack, step.arg)))
        case "CONTAINS_OP" | "IS_OP":
            made = Apply("in" if step.opname == "CONTAINS_OP" else "is", _popped(stack, 2))
            stack.append(Apply("not", (made,)) if step.arg else made)
        case "UNARY_NOT":
            stack.append(Apply("not", _popped(stack, 1)))
        case _:
            raise _UnknownError


def _popped(stack: list[Any], count: int) -> tuple[Expression, ...]:
    if count > len(stack):
        raise _UnknownError
    found = tuple(map(_checked, stack[len(stack) - count :]))
    del stack[len(stack) - count :]
    return found


def _checked(made: Any) -> Expression:
    if not isinstance(made, Argument | Constant | Tuple | Apply):
        raise _UnknownError
    return made


def _constant(value: Any) -> Expression:
    if type(value) is tuple and value:
        return Tuple(tuple(map(_constant, value)))
    if type(value) not in SIMPLE:
        raise _UnknownError
    return Constant(value)


def _item(of: Expression, place: Expression) -> Expression:
    if not isinstance(place, Constant) or type(place.value) is not int:  # constants that are equal may differ in type
        raise _UnknownError
    return Apply("[]", (of, place))


def _global(function: FunctionType, name: str) -> Expression | _Callee:
    if name in function.__globals__:
        return _constant(function.__globals__[name])
    asked: Any = function  # type checkers do not agree on whether it has them
    found = asked.__builtins__[name]  # what the interpreter asks
    if BUILTINS.get(name, NOTHING) is not found or getattr(builtins, name) is not found:
        raise _UnknownError
    return _Callee(name)
