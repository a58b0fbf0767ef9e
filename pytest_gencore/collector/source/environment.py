"""The environment of the captured process: as it was started, and as it is, see environ(7)."""

from __future__ import annotations

import contextlib
import re
import struct
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.source.symbols import find_symbol
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_gencore.collector.source.mapped_memory import MappedMemory
    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.contents import Environment

_WIDTH: Final = 100
_LIBC: Final = re.compile(rb"/(?:libc(?:\.so\.6|-2\.\d+\.so)|(?:ld-musl-[^/]*|libc\.musl-[^/]*)\.so\.1)$")
_POINTER = struct.Struct("<Q")
_STRINGS_LIMIT: Final = 16384
_STRING_LIMIT: Final = 128 << 10
"""Bytes; more cannot be handed to a program: MAX_ARG_STRLEN of execve(2)."""
_BYTES_LIMIT: Final = 4 << 20
_SHOWN_LIMIT: Final = 32 << 10
_LEAST_VARIABLES: Final = 2
"""A title, which is one string, can look like a variable."""
_INDENT: Final = 3
"""Bytes around an entry that has a line of its own."""
_SHOWN_VALUE_LIMIT: Final = 1000
"""Characters; what is longer is cut."""


def show_environment(
    variables: Iterable[tuple[str, str]], shown: Environment, *, is_secret: Callable[[str], bool]
) -> tuple[str, ...]:
    """Return the names, with the values that are now if they are wanted, sorted; at most 32 KiB.

    Of variables for whose name ``is_secret`` holds only the name, also if the value would be too short to be
    overwritten elsewhere.
    """
    if shown == "none":
        return ()
    found = []
    left = _SHOWN_LIMIT
    for name, value in sorted(dict(variables).items()):
        cut = value if len(value) <= _SHOWN_VALUE_LIMIT else f"{value[:_SHOWN_VALUE_LIMIT]}..."
        text = name if shown == "names" or is_secret(name) else f"{name}={cut}"
        left -= len(text) + _INDENT
        if left < 0:
            break
        found.append(text)
    return tuple(found)


def format_environment(entries: Sequence[str]) -> str:
    """Return what stands at the end of a text about the process; empty if nothing is shown."""
    if not entries:
        return ""
    if any("=" in entry for entry in entries):
        lines = [f"  {entry}" for entry in entries]
    else:
        lines = textwrap.wrap(
            ", ".join(entries), _WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False
        )
    return "\n".join(("", "Environment:", *map(escape_unprintable, lines), ""))


def read_environment(
    pid: int, memory: MappedMemory, mappings: Sequence[Mapping], executable: str
) -> Iterator[tuple[str, str]]:
    """Yield name and value of each variable, of the start and of now, as far as they can be read.

    Names may come more than once. Undecodable bytes are as by ``surrogateescape``.
    """
    yield from _read_start(pid)
    yield from _read_now(memory, mappings, executable)


def read_usual_environment(
    pid: int, memory: MappedMemory, mappings: Sequence[Mapping], executable: str
) -> dict[str, str]:
    """Return the environment that a process began with, less what its loader was told to load.

    Where that is overwritten, as setproctitle does, it is the environment of now.
    """
    start = dict(_read_start(pid))
    if len(start) < _LEAST_VARIABLES:
        start = dict(_read_now(memory, mappings, executable))
    start.pop("LD_PRELOAD", None)
    return start


def _read_start(pid: int) -> Iterator[tuple[str, str]]:
    with contextlib.suppress(OSError):
        yield from _split(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))


def _read_now(
    memory: MappedMemory, mappings: Sequence[Mapping], executable: str
) -> Iterator[tuple[str, str]]:
    bases = [mapping for mapping in mappings if not mapping.offset and mapping.is_file]
    bases.sort(key=lambda mapping: mapping.path != executable.encode("utf-8", "surrogateescape"))
    for number, base in enumerate(bases):
        # A program that uses the variable itself may have a copy of it, which counts for all.
        if number and not _LIBC.search(base.path):
            continue
        address = find_symbol(memory, base.start, b"environ")
        if address is not None:
            yield from _split(_read_strings(memory, address))


def _read_strings(memory: MappedMemory, variable: int) -> Iterator[bytes]:
    """Yield the strings of the array that a variable points to."""
    (array,) = memory.unpack(_POINTER, variable) or (0,)
    left = _BYTES_LIMIT
    for number in range(_STRINGS_LIMIT):
        (address,) = memory.unpack(_POINTER, array + number * _POINTER.size) or (0,)
        if not address or left <= 0:
            return
        text = memory.read_text(address, _STRING_LIMIT)
        left -= len(text) + _POINTER.size
        yield text


def _split(strings: Sequence[bytes] | Iterator[bytes]) -> Iterator[tuple[str, str]]:
    for string in strings:
        name, equals, value = string.partition(b"=")
        if equals:
            yield name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
