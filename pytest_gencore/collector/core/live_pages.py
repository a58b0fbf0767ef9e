"""Which pages a core of type mini has: stacks, the data of libraries, and the objects that stacks lead to.

A word of memory that can be an address is taken for one, and so are, a few times over, the words at the
beginning of what it points to: that reaches what debuggers and pystack read for frames and locals, whatever
Python it is.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.collector.core.core_stream import merge_extents
from pytest_gencore.collector.core.memory_method import has_been_written, may_start_elf
from pytest_gencore.collector.source.mapped_memory import MappedMemory
from pytest_gencore.collector.source.pagemap import PageMap
from pytest_gencore.collector.source.procfs import find_mapping, parse_auxv
from pytest_gencore.collector.source.symbols import read_load_headers
from pytest_gencore.corefile.constants import PF_W, PT_LOAD
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pytest_gencore.collector.source.handover import ThreadRecord
    from pytest_gencore.collector.source.memory import Memory
    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot
    from pytest_gencore.corefile.machines import Machine

HOPS: Final = 4
SIZE_LIMIT: Final = 64 << 20
"""Bytes, before they are compressed."""
_STACK_LIMIT: Final = 8 << 20
"""Bytes of one stack: what ``ulimit -s`` usually allows."""
_RED_ZONE: Final = 128
"""Bytes below the stack pointer that x86-64's ABI lets a function use."""
_TLS_BEFORE, _TLS_AFTER = 8192, 4096
"""Bytes around the thread pointer: static thread-local variables, and ``struct pthread``."""
_WORD: Final = 8
_WORDS_BEFORE, _WORDS_AFTER = 4, 24
"""Where an object's pointers are looked for: Python has up to four in front of the address of an object."""
_SIZE_WORD: Final = 2
"""Objects of variable size have theirs there: ``ob_size``."""
_VARIABLE_LIMIT: Final = 32768
_AT_RANDOM, _RANDOM_BYTES = 25, 16
"""Of getauxval(3): the strings of arguments and environment lie behind these bytes."""


class LivePages(NamedTuple):
    """What a core of type mini has of the memory."""

    ranges: list[tuple[int, int]]
    """(address, size)."""
    blank: tuple[int, int]
    """Start and end of arguments and environment: zeros in the core."""
    notices: list[str]


def find_live_pages(
    snapshot: Snapshot, machine: Machine, memory: Memory, threads: Sequence[ThreadRecord]
) -> LivePages:
    """Find them, at most ``SIZE_LIMIT``: stacks first, then by distance, then data; raises OSError."""
    page_size = snapshot.status.page_size
    with PageMap(snapshot.pid, page_size) as page_map:
        private = filter(_is_private_data, memory.mappings)
        contents = [part for m in private for part in page_map.ranges(m.start, m.end)]
    search = LiveSearch(contents, snapshot.copy_into, page_size)
    roots = [
        *(_stack_of(machine, thread, memory.mappings) for thread in threads),
        *((thread.tls - _TLS_BEFORE, thread.tls + _TLS_AFTER) for thread in threads),
    ]
    data = _data_segments(MappedMemory(snapshot, memory.mappings), memory.mappings)
    search.run(roots, (word for thread in threads for word in thread.registers), data)
    notices = []
    if search.left_out:
        missing, most = format_size(search.left_out * page_size), format_size(SIZE_LIMIT)
        notices.append(f"the core lacks {missing} that stacks and data lead to: type mini has {most} at most")
    return LivePages(search.ranges(), _find_strings(memory), notices)


def _stack_of(machine: Machine, thread: ThreadRecord, mappings: Sequence[Mapping]) -> tuple[int, int]:
    """Return start and end of what of a thread's stack is in use."""
    pointer = thread.registers[machine.registers.index(machine.stack_pointer)]
    mapping = find_mapping(mappings, pointer)
    return (pointer - _RED_ZONE, min(pointer + _STACK_LIMIT, mapping.end)) if mapping else (0, 0)


def _data_segments(memory: MappedMemory, mappings: Sequence[Mapping]) -> Iterator[tuple[int, int]]:
    """Yield start and end of the data of the executable and of each library, with ``.bss``."""
    for mapping in mappings:
        if may_start_elf(mapping):
            bias, headers = read_load_headers(memory, mapping.start)
            for header in headers:
                if header.type == PT_LOAD and header.flags & PF_W:
                    yield bias + header.vaddr, bias + header.vaddr + header.memsz


def _find_strings(memory: Memory) -> tuple[int, int]:
    """Return start and end of arguments and environment as the kernel laid them out, (0, 0) if not known."""
    random = parse_auxv(memory.auxv).get(_AT_RANDOM, 0)
    stack = find_mapping(memory.mappings, random)
    return (random + _RANDOM_BYTES, stack.end) if stack else (0, 0)


def _is_private_data(mapping: Mapping) -> bool:
    usual = mapping.readable and not mapping.is_special and not {"dd", "io", "ht"} & mapping.flags
    return usual and has_been_written(mapping)


class LiveSearch:
    """The pages that were found so far."""

    def __init__(
        self,
        contents: Iterable[tuple[int, int]],
        read: Callable[[int, memoryview], None],
        page_size: int,
    ) -> None:
        """Search memory whose parts have these starts and ends; ``read`` fills a buffer from an address."""
        self._contents = sorted(contents)
        self._starts = [start for start, _ in self._contents]
        self._read = read
        self._page_size = page_size
        self._room = SIZE_LIMIT // page_size
        self.left_out = 0
        """Pages that were found and have no room."""
        self._found: set[int] = set()
        """Addresses of pages."""
        self._seen: set[int] = set()
        """Addresses that were followed."""

    def run(
        self,
        roots: Iterable[tuple[int, int]],
        pointers: Iterable[int],
        data: Iterable[tuple[int, int]],
    ) -> None:
        """Find what stacks and registers lead to; ranges are start and end. Data is not followed."""
        words = set(pointers)
        for start, end in self._parts(roots):
            self._take(start, end)
            buffer = memoryview(bytearray(end - start))
            self._read(start, buffer)
            words.update(buffer.cast("Q"))
        for _ in range(HOPS):
            words = self._follow(words)
        for start, end in self._parts(data):
            self._take(start, end)

    def ranges(self) -> list[tuple[int, int]]:
        """Return (address, size) of all that were found."""
        return list(merge_extents((page, self._page_size) for page in sorted(self._found)))

    def _parts(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield start and end of what has contents in these ranges, in whole words."""
        for start, end in ranges:
            index = max(bisect.bisect_right(self._starts, start) - 1, 0)
            while index < len(self._starts) and self._starts[index] < end:
                first, last = self._contents[index]
                if start < last:
                    yield max(first, start & -_WORD), min(last, end & -_WORD)
                index += 1

    def _follow(self, words: set[int]) -> set[int]:
        """Add what the words point to, as far as it is looked at; return the words there."""
        found: set[int] = set()
        buffer = memoryview(bytearray(2 * self._page_size))
        page_words = buffer.cast("Q")
        page = limit = -1
        for address in self._targets(words):
            first = address & -self._page_size
            if first != page:
                page = first
                limit = min(self._end_of(address) - page, len(buffer))
                self._read(page, buffer[:limit])
            at = (address - page) // _WORD
            last = min(at + _WORDS_AFTER, limit // _WORD)
            found.update(page_words[max(at - _WORDS_BEFORE, 0) : last])
            end = page + last * _WORD
            if at + _SIZE_WORD < last and page_words[at + _SIZE_WORD] <= _VARIABLE_LIMIT:
                end = min(end + page_words[at + _SIZE_WORD], self._end_of(address))
            self._take(address - _WORD * _WORDS_BEFORE, end)
        return found

    def _targets(self, words: set[int]) -> list[int]:
        """Return the addresses among the words that were not followed yet, sorted."""
        if not self._starts:
            return []
        low, high = self._starts[0], self._contents[-1][1]
        addresses = {word & -_WORD for word in words if low <= word < high} - self._seen
        self._seen |= addresses
        return sorted(address for address in addresses if address < self._end_of(address))

    def _end_of(self, address: int) -> int:
        """Return the end of the contents around the address, 0 if there are none."""
        index = bisect.bisect_right(self._starts, address) - 1
        return self._contents[index][1] if index >= 0 else 0

    def _take(self, start: int, end: int) -> None:
        """Add the pages between, which have contents but for a first one that may have none."""
        for page in range(start & -self._page_size, end, self._page_size):
            if page in self._found:
                continue
            if len(self._found) < self._room:
                self._found.add(page)
            else:
                self.left_out += 1
