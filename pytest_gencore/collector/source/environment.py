"""The environment of the captured process: as it was started, and as it is, see environ(7)."""

from __future__ import annotations

import contextlib
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.source.symbols import find_symbol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gencore.collector.source.mapped_memory import MappedMemory
    from pytest_gencore.collector.source.procfs import Mapping

_LIBC: Final = re.compile(rb"/(?:libc(?:\.so\.6|-2\.\d+\.so)|(?:ld-musl-[^/]*|libc\.musl-[^/]*)\.so\.1)$")
_POINTER = struct.Struct("<Q")
_STRINGS_LIMIT: Final = 16384
_STRING_LIMIT: Final = 128 << 10
"""Bytes; more cannot be handed to a program: MAX_ARG_STRLEN of execve(2)."""
_BYTES_LIMIT: Final = 4 << 20
_PAGES_LIMIT: Final = 256


def read_environment(
    pid: int, memory: MappedMemory, mappings: Sequence[Mapping], executable: str
) -> Iterator[tuple[str, str]]:
    """Yield name and value of each variable, of the start and of now, as far as they can be read.

    Names may come more than once. Undecodable bytes are as by ``surrogateescape``.
    """
    with contextlib.suppress(OSError):
        yield from _split(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    bases = [mapping for mapping in mappings if not mapping.offset and mapping.is_file]
    bases.sort(key=lambda mapping: mapping.path != executable.encode("utf-8", "surrogateescape"))
    for number, base in enumerate(bases):
        # A program that uses the variable itself may have a copy of it, which counts for all.
        if number and not _LIBC.search(base.path):
            continue
        address = find_symbol(memory, base.start, b"environ")
        if address is not None:
            yield from _split(_read_strings(_Pages(memory), address))


class _Pages:
    """Memory by whole pages, each read once: the strings of an environment are close together."""

    def __init__(self, memory: MappedMemory) -> None:
        self._memory = memory
        self._pages: dict[int, bytes] = {}

    def read(self, address: int, size: int) -> bytes:
        """Return up to so many bytes, as far as the page goes; none where nothing readable is mapped."""
        offset = address % self._memory.page_size
        first = address - offset
        if first not in self._pages:
            if len(self._pages) >= _PAGES_LIMIT:  # spread on purpose
                self._pages.clear()
            self._pages[first] = self._memory.read(first, self._memory.page_size)
        return self._pages[first][offset : offset + size]

    def read_pointer(self, address: int) -> int:
        """Return a pointer; 0 where none is mapped, and for one that is not aligned."""
        data = self.read(address, _POINTER.size)
        return int(_POINTER.unpack(data)[0]) if len(data) == _POINTER.size else 0

    def read_text(self, address: int) -> bytes:
        """Return a string without its zero; empty if it does not end in time."""
        text = b""
        while b"\0" not in text and len(text) < _STRING_LIMIT:
            piece = self.read(address + len(text), self._memory.page_size)
            if not piece:
                return b""
            text += piece
        return text.partition(b"\0")[0] if b"\0" in text else b""


def _read_strings(pages: _Pages, variable: int) -> Iterator[bytes]:
    """Yield the strings of the array that a variable points to."""
    array = pages.read_pointer(variable)
    left = _BYTES_LIMIT
    for number in range(_STRINGS_LIMIT):
        address = pages.read_pointer(array + number * _POINTER.size)
        if not address or left <= 0:
            return
        text = pages.read_text(address)
        left -= len(text) + _POINTER.size
        yield text


def _split(strings: Sequence[bytes] | Iterator[bytes]) -> Iterator[tuple[str, str]]:
    for string in strings:
        name, equals, value = string.partition(b"=")
        if equals:
            yield name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape")
