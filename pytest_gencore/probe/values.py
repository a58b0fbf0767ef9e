"""Values on the stacks of frames: the C function that is called, and what ``with`` statements hold."""

from __future__ import annotations

import struct
import sys
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_gencore.probe.codes import HAS_TABLE, VERSION, analyse, has_with
from pytest_gencore.probe.reading import field, is_a

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

try:
    from pytest_gencore.capture._native import object_at, peek
except ImportError:  # the extension is not there: the stacks of frames cannot be read
    peek = object_at = None  # type: ignore[assignment]

_WORD = struct.Struct("Q")
_IS_FREE_THREADED = object.__basicsize__ > 16
_HEAD = struct.Struct("12xIQQ" if _IS_FREE_THREADED else "QQ")
"""What an object begins with, Include/object.h: one count of references, or two, and the type."""
_INTERNAL_FRAME = _HEAD.size + 8
"""Offset of ``f_frame`` in a frame object, 3.11 and later: Include/internal/pycore_frame.h."""
_VALUE_STACK = 64
"""Offset of ``f_valuestack``, 3.10: Include/cpython/frameobject.h."""
_TAGS = 7
"""Bits of a word on the stack that are no part of an address, 3.14: Include/internal/pycore_stackref.h."""
_TAGGED_INT = 3
_METHODS = (types.BuiltinMethodType, types.MethodType, types.MethodWrapperType)
_EXITS = ("__exit__", "__aexit__")
_CALLS = ("CALL", "PRECALL")

_layout = {"locals": -1}
_classes: dict[int, bool] = {}
"""Whether there is a class, by addresses that were looked at: in a copy nothing comes or goes."""


_others: list[Any] = []
"""What to ask where the stacks of frames cannot be read: see ``read_with``."""


class _Sentinel:
    __slots__ = ()


class Call(NamedTuple):
    """A call of a C function that a frame is inside of."""

    function: Any
    owner: Any
    """What it is a method of; None for a function."""
    arguments: tuple[Any, ...]
    keywords: tuple[str, ...] = ()
    """Names of the last of them."""

    @property
    def name(self) -> str:
        """Return the name without module and class."""
        name = (
            getattr(self.function, "__name__", "")
            if is_a(self.function, (*_METHODS, types.MethodDescriptorType, types.WrapperDescriptorType, type))
            else ""
        )
        return name if type(name) is str else ""

    def argument(self, position: int, keyword: str = "") -> Any:
        """Return an argument by its position or name, None if it was not given."""
        if keyword and keyword in self.keywords:
            return self.arguments[len(self.arguments) - len(self.keywords) + self.keywords.index(keyword)]
        positional = len(self.arguments) - len(self.keywords)
        return self.arguments[position] if position < positional else None


class Held(NamedTuple):
    """What a ``with`` statement holds."""

    manager: Any
    line: int | None


def read_with(
    calls: Callable[[FrameType], Call | None], holds: Callable[[FrameType], Iterator[Held]]
) -> None:
    """Let ``call_of`` and ``held_by`` ask others."""
    _others[:] = [calls, holds]


def find_layout() -> bool:
    """Find where frames of this interpreter have their values; tell whether it is as known."""
    sentinel = _Sentinel()
    head = peek(id(sentinel), _HEAD.size)
    if head is None or _HEAD.unpack(head)[-1] != id(_Sentinel):
        return False  # a build whose objects begin with something else
    return _find_locals(sentinel)


def _find_locals(argument: object) -> bool:
    frame = sys._getframe()
    target = id(argument)  # no comprehension below may use the argument: it would be in a cell
    code = frame.f_code
    if not HAS_TABLE:
        base = _word_at(id(frame) + _VALUE_STACK)
        slots = len(code.co_varnames) + len(code.co_cellvars) + len(code.co_freevars)
        return base is not None and _word_at(base - 8 * slots) == target
    internal = _word_at(id(frame) + _INTERNAL_FRAME)
    data = peek(internal, 160) if internal else None
    words = [] if data is None else struct.unpack("20Q", data)
    found = [number for number, word in enumerate(words) if word & ~_TAGS == target and number > 3]
    _layout["locals"] = 8 * found[0] if found else -1
    return bool(found)


def _word_at(address: int) -> int | None:
    data = peek(address, 8)
    return None if data is None else _WORD.unpack(data)[0]


def _object(word: int) -> tuple[Any, bool]:
    """Return the object that a word refers to, and whether there is one."""
    if VERSION >= (3, 14) and word & _TAGGED_INT == _TAGGED_INT:
        return None, False
    address = word & ~_TAGS
    head = peek(address, _HEAD.size) if address else None
    *counts, kind = _HEAD.unpack(head) if head is not None else (0, 0)
    if not any(counts) or not _is_class(kind):  # nothing, or an object that is gone already
        return None, False
    return object_at(address), True


def _is_class(address: int) -> bool:
    """Whether there is a class: its type is ``type``, or a class that derives from that."""
    if address not in _classes:
        _classes[address] = _find_class(address)
    return _classes[address]


def _find_class(address: int) -> bool:
    head = peek(address, _HEAD.size)
    kind = _HEAD.unpack(head)[-1] if head is not None else 0
    if kind == id(type):
        return True
    head = peek(kind, _HEAD.size) if kind else None
    return head is not None and _HEAD.unpack(head)[-1] == id(type) and issubclass(object_at(kind), type)  # type: ignore[arg-type]


def values_of(frame: FrameType, count: int) -> list[tuple[Any, bool]]:
    """Return the lowest values on a frame's stack, each with whether there is one."""
    code = frame.f_code
    if not 0 < count <= code.co_stacksize:
        return []
    if HAS_TABLE:
        cells = sum(name not in code.co_varnames for name in code.co_cellvars)
        internal = _word_at(id(frame) + _INTERNAL_FRAME)
        if internal is None or _layout["locals"] < 0:
            return []
        base: int | None = internal + _layout["locals"]
        assert base is not None
        base += 8 * (len(code.co_varnames) + cells + len(code.co_freevars))
    else:
        base = _word_at(id(frame) + _VALUE_STACK)
    data = peek(base, 8 * count) if base else None
    return [] if data is None else [_object(word) for word in struct.unpack(f"{count}Q", data)]


def call_of(frame: FrameType) -> Call | None:
    """Return the call of a C function that the innermost frame of a thread is inside of, None if of none."""
    if _others:
        return _others[0](frame)  # type: ignore[no-any-return]
    code = analyse(frame.f_code)
    if code is None:
        return None
    offset = code.at(frame.f_lasti)
    if offset not in code.depths:
        return None
    name, count, _, _ = code.instructions[offset]
    depth = code.depths[offset]
    before = code.before.get(offset)
    if name == "CALL" and before is not None and code.instructions[before].name == "PRECALL":  # 3.11
        depth = code.depths[before]
    values = values_of(frame, depth)
    if not values:
        return None
    if name in ("BEFORE_WITH", "SETUP_WITH"):
        return enter(values[-1][0])
    if name == "CALL_FUNCTION_EX":
        found = [value for value, there in values[-4:] if there and is_a(value, _METHODS)]
        return bound(found[-1], ()) if found else None
    if not name.startswith(_CALLS):
        return None
    return _split(name, values, count or 0, frame)


def _split(name: str, values: list[tuple[Any, bool]], count: int, frame: FrameType) -> Call | None:
    keywords: tuple[str, ...] = ()
    if name in ("CALL_KW", "CALL_FUNCTION_KW"):
        names = values.pop()[0]
        keywords = names if type(names) is tuple else ()
    elif VERSION in ((3, 11), (3, 12)):
        keywords = _find_keywords(frame)
    if count > len(values):
        return None
    arguments = tuple(value for value, _ in values[len(values) - count :])
    rest = values[: len(values) - count]
    if name.startswith("CALL_FUNCTION"):  # 3.10
        return bound(rest[-1][0], arguments, keywords) if rest else None
    if len(rest) < 2:
        return None
    (first, has_first), (second, has_second) = rest[-2:]
    if name == "CALL_METHOD" or VERSION < (3, 13):  # method and self, or nothing and callable
        return Call(first, second, arguments, keywords) if has_first else bound(second, arguments, keywords)
    return Call(first, second, arguments, keywords) if has_second else bound(first, arguments, keywords)


def _find_keywords(frame: FrameType) -> tuple[str, ...]:
    """Return the names that KW_NAMES of 3.11 and 3.12 has set for the call."""
    code = analyse(frame.f_code)
    assert code is not None
    at: int | None = code.at(frame.f_lasti)
    for _ in range(2):
        at = code.before.get(at) if at is not None else None
        if at is None:
            return ()
        name, number, _, _ = code.instructions[at]
        if name == "KW_NAMES" and number is not None:
            names = frame.f_code.co_consts[number]
            return names if type(names) is tuple else ()
    return ()


def enter(manager: Any) -> Call:
    """Return the call of ``__enter__`` of a context manager, or of what its method is."""
    owner = manager.__self__ if is_a(manager, _METHODS) else manager
    method = next(
        (cls.__dict__["__enter__"] for cls in type(owner).__mro__ if "__enter__" in cls.__dict__), None
    )
    return Call(method, owner, ())


def bound(function: Any, arguments: tuple[Any, ...], keywords: tuple[str, ...] = ()) -> Call:
    """Return the call of a function or bound method."""
    owner = function.__self__ if is_a(function, _METHODS) else None
    return Call(function, None if is_a(owner, types.ModuleType) else owner, arguments, keywords)


def held_by(frame: FrameType) -> Iterator[Held]:
    """Yield what the ``with`` statements hold whose bodies a frame is inside of; also of helpers in them."""
    if _others:
        yield from _others[1](frame)
        return
    if not has_with(frame.f_code):
        return
    code = analyse(frame.f_code)
    if code is None:
        return
    withs = code.withs(code.at(frame.f_lasti))
    values = values_of(frame, max((found.slot for found in withs), default=-1) + 1)
    for slot, line, _ in withs:
        value: Any = values[slot][0] if slot < len(values) else None
        if value is None:
            continue
        if is_a(value, _METHODS):
            if value.__name__ not in _EXITS:
                continue
            value = value.__self__
        elif VERSION < (3, 14):
            continue
        yield from unwrap(value, line, 4)


def unwrap(manager: Any, line: int | None, depth: int) -> Iterator[Held]:
    """Yield a context manager, and what a generator or an ExitStack behind it holds."""
    yield Held(manager, line)
    if depth == 0:
        return
    generator = field(manager, "gen")
    frame = getattr(generator, "gi_frame", None) if is_a(generator, types.GeneratorType) else None
    if frame is None and is_a(generator, types.AsyncGeneratorType):
        frame = generator.ag_frame
    if frame is not None:
        for held in held_by(frame):
            yield Held(held.manager, line)
    callbacks = field(manager, "_exit_callbacks")
    for entry in (
        list(callbacks)[:100] if callbacks is not None and type(callbacks).__name__ == "deque" else ()
    ):
        if type(entry) is tuple and len(entry) == 2 and is_a(entry[1], _METHODS):
            yield from unwrap(entry[1].__self__, line, depth - 1)
