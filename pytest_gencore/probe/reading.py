"""Read attributes of objects without running code of theirs."""

from __future__ import annotations

import gc
import types
from typing import Any

_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)
_TEXT_LENGTH = 80
_PLAIN = (type(None), bool, int, float, str, tuple)
"""Types of defaults in a class; anything else may be a descriptor, whose code would run."""
_get = object.__getattribute__
_mro_of = type.__dict__["__mro__"].__get__


def field(thing: object, name: str, default: Any = None) -> Any:
    """Return what an instance holds under a name: in its dict, in a slot, or in a field of a type in C."""
    for cls in _mro_of(type(thing)):
        found = cls.__dict__.get(name)
        if type(found) in _DESCRIPTORS:
            try:
                return found.__get__(thing)
            except Exception:  # a slot that is empty
                return default
        if name in cls.__dict__ and type(found) not in _PLAIN:
            return fields_of(thing).get(name, default)
    try:
        return _get(thing, name)
    except Exception:  # there is none
        return default


def fields_of(thing: object) -> dict[str, Any]:
    """Return the instance's dict; empty if it has none, or one of the project's making."""
    for cls in _mro_of(type(thing)):
        if "__dict__" in cls.__dict__:
            if type(cls.__dict__["__dict__"]) not in _DESCRIPTORS:
                return {}
            break
    try:
        found = _get(thing, "__dict__")
    except Exception:  # no dict
        return {}
    return found if type(found) is dict else {}


def is_a(thing: object, kind: type | tuple[type, ...]) -> bool:
    """Whether an object's type derives from another; ``isinstance`` would ask the object's ``__class__``."""
    return issubclass(type(thing), kind)


def type_name(thing: object) -> str:
    """Return the name of an object's type."""
    return type.__dict__["__qualname__"].__get__(type(thing))  # type: ignore[no-any-return]


def module_name(thing: object) -> str:
    """Return the name of the module of an object's type; empty if that is no text."""
    name = type.__dict__["__module__"].__get__(type(thing))
    return name if type(name) is str else ""


def length_of(thing: object) -> int | None:
    """Return how much a deque or list holds; None for anything else."""
    return len(thing) if type(thing).__name__ in ("deque", "list") else None  # type: ignore[arg-type]


def function_name(function: object) -> str:
    """Return the qualified name of a function or method; empty if it has none."""
    if is_a(function, types.MethodType):
        function = function.__func__  # type: ignore[attr-defined]
    if is_a(
        function,
        (
            types.FunctionType,
            types.BuiltinFunctionType,
            types.MethodDescriptorType,
            types.WrapperDescriptorType,
            types.MethodWrapperType,
        ),
    ):
        name = getattr(function, "__qualname__", "")
        return name if type(name) is str else ""
    if is_a(function, type):
        return type.__dict__["__qualname__"].__get__(function)  # type: ignore[no-any-return]
    return ""


def short(value: object) -> str:
    """Return a short text for a value: its ``repr`` only where that is of a built-in type, without others."""
    kind = type(value)
    if value is None or kind in (bool, float):
        return repr(value)
    if kind is int:
        return repr(value) if value.bit_length() < 256 else "<int>"  # type: ignore[attr-defined]
    if kind in (str, bytes):
        text = repr(value[: _TEXT_LENGTH + 1])  # type: ignore[index]
        return text if len(text) <= _TEXT_LENGTH else f"{text[:_TEXT_LENGTH]}..."
    if kind in (list, tuple) and len(value) <= 20 and all(type(item) in (str, int) for item in value):  # type: ignore[arg-type, attr-defined]
        text = repr(value)
        return text if len(text) <= 2 * _TEXT_LENGTH else f"{text[: 2 * _TEXT_LENGTH]}..."
    return f"<{type_name(value)}>"


def instances_of(kind: type) -> list[Any]:
    """Return all instances of a type and of those that derive from it; by who refers to the types."""
    kinds: list[type] = [kind]
    for cls in kinds:
        found: list[type] = type.__subclasses__(cls)
        kinds += [sub for sub in found if sub not in kinds]
    return [thing for thing in gc.get_referrers(*kinds) if is_a(thing, kind)]
