"""The names of the capture methods, and what they were called before."""

from __future__ import annotations

from typing import Final, Literal

Method = Literal["auto", "kernel", "memory"]
MethodName = Literal["auto", "kernel", "memory", "crash", "copy"]
"""What users may write: a method, or its old name."""

CoreMethod = Literal["kernel", "memory"]
"""What can have made a core."""

METHODS: Final = ("auto", "kernel", "memory")
DEFAULT_METHOD: Final[CoreMethod] = "memory"
"""What ``auto`` is: see docs/adr/0015-auto-is-memory.md."""
_OLD_NAMES: Final = {"crash": "kernel", "copy": "memory"}


def parse_method(name: object) -> Method:
    """Return the method of this name, which may be an old one; raises ValueError for any other."""
    method = current_name(name) if isinstance(name, str) else name
    if method not in METHODS:
        raise ValueError("expected auto, kernel or memory")
    return method


def current_name(name: str) -> str:
    """Return what a method is called today; names that were never used are returned unchanged."""
    return _OLD_NAMES.get(name, name)


def choose_method(asked: Method, *, is_mini: bool = False, is_sealed: bool = False) -> tuple[CoreMethod, str]:
    """Return the method for what was asked, and why it is that one."""
    if is_mini:
        return "memory", "cores of type mini are made from memory"
    if is_sealed:
        return "memory", "what is sealed never touches the disk as it is"
    if asked == "auto":
        return DEFAULT_METHOD, "the default"
    return asked, "asked for"
