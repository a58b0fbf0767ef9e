"""``stacks.json``: the frames of all threads, for programs.

The collector makes it; ``parse_stacks`` of ``pytest_gencore.archive.members`` checks it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from pytest_gencore.archive.manifest import item, to_json

STACKS_NAME: Final = "stacks.json"
STACKS_VERSION: Final = 1
STACKS_LIMIT: Final = 2 << 20
"""Bytes that are written; readers take twice as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """A local variable."""

    name: str = item("Its name; arguments come first")
    value: str = item("Its `repr`, cut")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One call."""

    file: str = item("Absolute path if it is one, else as the code object has it, such as <string>")
    line: int | None = item("1 for the first; null if not known")
    function: str = item("Qualified where that is known")
    native: bool = item("Whether it is a call of compiled code")
    library: str | None = item("Name of the executable or library of a native frame")
    project: bool = item("Whether the code is the project's or its tests', not installed, nor Python's")
    source: str | None = item("The line of source, stripped; null if it could not be read")
    locals: tuple[Local, ...] = item("Its local variables, as far as pystack has read them", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadStack:
    """One thread and its stack."""

    native_id: int | None = item("The kernel's thread id")
    ident: int | None = item("`threading.get_ident()`")
    name: str | None = item("The name that `threading` knows, else the kernel's")
    captured: bool = item("Whether it made the capture, or crashed")
    holds_gil: bool | None = item("Whether it held the GIL; null if not known")
    activity: str | None = item("What it is known to do at the end of its stack, in words; null if not known")
    frames: tuple[Frame, ...] | None = item("Outermost first; null if they are not known")
    cut: bool = item("Whether there may be outer frames that are not here: faulthandler walks 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStacks:
    """The threads of a child that has told them."""

    pid: int = item("Its process id")
    threads: tuple[ThreadStack, ...] = item("In the order in which it told them")


@dataclass(frozen=True, slots=True, kw_only=True)
class StacksFile:
    """All of ``stacks.json``."""

    rootdir: str = item("pytest's, to shorten paths; empty if not known")
    threads: tuple[ThreadStack, ...] = item("The likely culprit first, as in stacks.txt")
    unread: int = item("How many threads nobody looked at")
    failure: tuple[Frame, ...] = item("The stack where the failure was raised; empty without a failure")
    children: tuple[ChildStacks, ...] = item("Children that run Python and have answered")
    complete: bool = item("Whether everything is here; else what came last is left out, as it was too much")


def encode_stacks(stacks: StacksFile) -> str:
    """Return it as JSON in ASCII."""
    return json.dumps({"version": STACKS_VERSION, **to_json(stacks)}, separators=(",", ":")) + "\n"
