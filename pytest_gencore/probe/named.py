"""Values on the stacks of frames, where that memory cannot be read: looked up by the names in the code.

Only what the bytecode fetches by name right before the call or the ``with`` statement: variables, attributes,
constants. What it has fetched may be bound anew since: of a local variable that is seen, and nothing is told;
of a global or an attribute it is not.
"""

from __future__ import annotations

import builtins
import types
from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.codes import Code, analyse, has_with
from pytest_gencore.probe.reading import field, fields_of, is_a
from pytest_gencore.probe.values import Call, Held, bound, enter, unwrap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SKIPPED = frozenset(("CACHE", "EXTENDED_ARG", "KW_NAMES", "NOP", "PRECALL", "PUSH_NULL"))
_ENTERS = frozenset(("BEFORE_WITH", "BEFORE_ASYNC_WITH", "SETUP_WITH"))
_ENTERING = frozenset(("COPY", "LOAD_SPECIAL", "SWAP"))
"""What 3.14 does between the expression of a ``with`` statement and the call of ``__enter__``."""
_AWAITING = 16
"""Instructions at most between ``async with`` and its body."""
_METHODS = (types.FunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
_NONE: Any = object()


class _Unknown(Exception):  # noqa: N818 - no error: the code is of another kind
    """It cannot be told."""


class _Method:
    """A function that is called as a method."""

    __slots__ = ("function", "owner")

    def __init__(self, function: Any, owner: Any) -> None:
        self.function = function
        self.owner = owner


def call_of(frame: FrameType) -> Call | None:
    """Return the call of a C function that the innermost frame of a thread is inside of, None if of none."""
    code = analyse(frame.f_code)
    offset = code.at(frame.f_lasti) if code is not None else -1
    if code is None or offset not in code.instructions:
        return None
    try:
        return _read_call(code, frame, offset)
    except _Unknown:
        return None


def held_by(frame: FrameType) -> Iterator[Held]:
    """Yield what the ``with`` statements hold whose bodies a frame is inside of; also of helpers in them."""
    code = analyse(frame.f_code) if has_with(frame.f_code) else None
    if code is None:
        return
    for found in code.withs(code.at(frame.f_lasti)):
        try:
            start = _find_expression(code, found.after)
            manager, _ = _read(code, frame, start, found.after)
        except _Unknown:
            continue
        yield from unwrap(manager, found.line, 4)


def _find_expression(code: Code, after: int | None) -> int:
    """Return the last instruction of the expression of a ``with`` statement whose body begins there."""
    at = after
    for _ in range(_AWAITING):
        at = code.before.get(at) if at is not None else None
        if at is None:
            break
        name = code.instructions[at].name
        if name in _ENTERS:
            return _before(code, at)
        if name == "LOAD_SPECIAL":
            return _skip_entering(code, at)
    raise _Unknown


def _skip_entering(code: Code, at: int) -> int:
    while code.instructions[at].name in _ENTERING:
        at = _before(code, at)
    return at


def _before(code: Code, at: int) -> int:
    before = code.before.get(at)
    if before is None:
        raise _Unknown
    return before


def _read_call(code: Code, frame: FrameType, offset: int) -> Call | None:
    name, count, _, _ = code.instructions[offset]
    if name in ("BEFORE_WITH", "SETUP_WITH"):
        return enter(_read(code, frame, _before(code, offset), None)[0])
    if not name.startswith(("CALL", "PRECALL")) or name == "CALL_FUNCTION_EX":
        return None
    at = _before(code, offset)
    if code.instructions[at].name == "LOAD_SPECIAL":
        return enter(_read(code, frame, _skip_entering(code, at), None)[0])
    keywords: tuple[str, ...] = ()
    if name in ("CALL_KW", "CALL_FUNCTION_KW"):
        keywords, at = _keywords(code.instructions[at].value), _before(code, at)
    while code.instructions[at].name in _SKIPPED:
        if code.instructions[at].name == "KW_NAMES":  # 3.11 and 3.12
            number = code.instructions[at].argument
            keywords = _keywords(frame.f_code.co_consts[number or 0])
        at = _before(code, at)
    arguments: list[Any] = []
    for _ in range(count or 0):
        value, at = _read(code, frame, at, None)
        arguments.insert(0, value)
    function, _ = _read(code, frame, at, None, is_called=True)
    if type(function) is _Method:
        return Call(function.function, function.owner, tuple(arguments), keywords)
    return bound(function, tuple(arguments), keywords)


def _keywords(names: object) -> tuple[str, ...]:
    return names if type(names) is tuple else ()


def _read(
    code: Code, frame: FrameType, at: int, stored_after: int | None, *, is_called: bool = False
) -> tuple[Any, int]:
    """Return the value that the instructions up to one fetch, and the instruction before them, -1 if none.

    ``stored_after``: nothing may store the local variable from there on. Raises _Unknown.
    """
    if at not in code.instructions:  # the values before were fetched in another way
        raise _Unknown
    name, _, _, value = code.instructions[at]
    before = code.before.get(at, -1)
    if name in _SKIPPED:
        return _read(code, frame, _before(code, at), stored_after, is_called=is_called)
    if name in ("LOAD_ATTR", "LOAD_METHOD"):
        owner, before = _read(code, frame, before, stored_after)
        return _attribute(owner, value, is_called=is_called), before
    if name in ("LOAD_CONST", "LOAD_SMALL_INT"):
        return value, before
    if name in ("LOAD_GLOBAL", "LOAD_NAME"):
        return _find_global(frame, name, value), before
    if name.startswith("LOAD_FAST") or name == "LOAD_DEREF":
        if type(value) is tuple:  # two at once, since 3.13
            value, before = value[-1], -2
        if stored_after is not None and code.stores(value, stored_after):
            raise _Unknown
        found = frame.f_locals.get(value, _NONE)
        if found is not _NONE:
            return found, before
    raise _Unknown


def _find_global(frame: FrameType, instruction: str, name: str) -> Any:
    own = frame.f_locals if instruction == "LOAD_NAME" else {}
    for names in (own, frame.f_globals, builtins.__dict__):
        if name in names:
            return names[name]
    raise _Unknown


def _attribute(owner: Any, name: object, *, is_called: bool) -> Any:
    """Return an attribute, without code of its owner."""
    if type(name) is not str:
        raise _Unknown
    if type(owner) is types.ModuleType:
        found = owner.__dict__.get(name, _NONE)
    elif is_a(owner, type):
        found = next((cls.__dict__[name] for cls in owner.__mro__ if name in cls.__dict__), _NONE)
    elif name in fields_of(owner):
        found = fields_of(owner)[name]
    else:
        found = next((cls.__dict__[name] for cls in type(owner).__mro__ if name in cls.__dict__), _NONE)
        if is_a(found, _METHODS):
            if is_called:
                return _Method(found, owner)
            raise _Unknown
        found = field(owner, name, _NONE)
    if found is _NONE:
        raise _Unknown
    return found
