"""What a core of type mini has: stacks, the data of libraries, and the objects that stacks lead to.

A word of memory that can be an address is taken for one, and so are, a few times over, the words at the
beginning of what it points to: that reaches what debuggers and pystack read for frames and locals, whatever
Python it is. A core has pages, so what else is on these is filled with a byte that says so.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.collector.core.core_stream import merge_extents
from pytest_gencore.collector.core.memory_method import has_been_written, may_start_elf
from pytest_gencore.collector.core.ranges import merge, subtract
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
_WORDS_OF_STATE: Final = 128
"""How far into ``PyThreadState`` the address of its stack's chunk is looked for."""
_CHUNK_SIZES: Final = frozenset(16384 << power for power in range(12))
"""Bytes: ``DATA_STACK_CHUNK_SIZE`` of CPython's ``Python/pystate.c``, doubled for larger frames."""
_SIZE_WORD: Final = 2
"""Objects of variable size have theirs there: ``ob_size``."""
_VARIABLE_LIMIT: Final = 32768
_AT_RANDOM, _RANDOM_BYTES = 25, 16
"""Of getauxval(3): the strings of arguments and environment lie behind these bytes."""


class LivePages(NamedTuple):
    """What a core of type mini has of the memory."""

    ranges: list[tuple[int, int]]
    """(address, size) of whole pages."""
    gaps: list[tuple[int, int]]
    """Start and end of what nothing led to on these pages: filled in the core."""
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
    search.keep(memory.link_map.ranges)
    notices = []
    if search.left_out:
        missing, most = format_size(search.left_out * page_size), format_size(SIZE_LIMIT)
        notices.append(f"the core lacks {missing} that stacks and data lead to: type mini has {most} at most")
    return LivePages(search.ranges(), search.gaps(), _find_strings(memory), notices)


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
    usual = (
        mapping.readable and not mapping.is_special and not mapping.is_left_out and "ht" not in mapping.flags
    )
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
        self._kept: list[tuple[int, int]] = []
        """Start and end of what is wanted of these pages."""
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
            words.update(self._read_words(start, (end - start) // _WORD))
        for start, chunk in self._find_chunks(words):
            self._take(start, start + len(chunk) * _WORD)
            words.update(chunk)
        for _ in range(HOPS):
            words = self._follow(words)
            self._kept = list(merge(self._kept))
        for start, end in self._parts(data):
            self._take(start, end)

    def keep(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Leave what is at these (address, size) on the pages that were found."""
        self._kept.extend((address, address + size) for address, size in ranges)

    def ranges(self) -> list[tuple[int, int]]:
        """Return (address, size) of all pages that were found."""
        return list(merge_extents((page, self._page_size) for page in sorted(self._found)))

    def gaps(self) -> list[tuple[int, int]]:
        """Return start and end of what is not wanted of these pages, sorted."""
        pages = ((start, start + size) for start, size in self.ranges())
        return list(subtract(pages, list(merge(self._kept))))

    def _parts(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield start and end of what has contents in these ranges, in whole words."""
        for start, end in ranges:
            index = max(bisect.bisect_right(self._starts, start) - 1, 0)
            while index < len(self._starts) and self._starts[index] < end:
                first, last = self._contents[index]
                if start < last:
                    yield max(first, start & -_WORD), min(last, end & -_WORD)
                index += 1

    def _find_chunks(self, words: set[int]) -> Iterator[tuple[int, memoryview]]:
        """Yield address and used words of the chunks of Python's stacks: frames lie behind each other there.

        States of threads, which stacks point to, have three words of the last chunk: its address, and up to
        where it is used and ends. A chunk, ``struct _stack_chunk`` of CPython 3.11 and later, begins with the
        address of the one before, its size in bytes, and, unless it is the last, how many words are used.
        """
        chunks: dict[int, int] = {}
        for _, around, _ in self._windows(self._targets(words), 0, _WORDS_OF_STATE):
            for number, address in enumerate(around[:-2]):
                if address and address % self._page_size == 0:
                    used, end = around[number + 1 : number + 3]
                    if address < used <= end:
                        chunks[address] = used
        seen: set[int] = set()
        while chunks:
            address, used_end = chunks.popitem()
            end = self._end_of(address)
            if address in seen or end <= address:
                continue
            seen.add(address)
            previous, size, _ = self._read_words(address, 3)
            if size not in _CHUNK_SIZES or not address < used_end <= min(address + size, end):
                continue
            yield address, self._read_words(address, (used_end - address) // _WORD)
            if previous and previous % self._page_size == 0 and self._end_of(previous) > previous:
                chunks[previous] = previous + (3 + self._read_words(previous, 3)[2]) * _WORD

    def _read_words(self, address: int, count: int) -> memoryview:
        buffer = memoryview(bytearray(count * _WORD))
        self._read(address, buffer)
        return buffer.cast("Q")

    def _follow(self, words: set[int]) -> set[int]:
        """Add what the words point to, as far as it is looked at; return the words there."""
        found: set[int] = set()
        targets = self._targets(words, self._seen)
        self._seen.update(targets)
        for address, around, at in self._windows(targets, _WORDS_BEFORE, _WORDS_AFTER):
            found.update(around)
            end = address + (len(around) - at) * _WORD
            if at + _SIZE_WORD < len(around) and around[at + _SIZE_WORD] <= _VARIABLE_LIMIT:
                end = min(end + around[at + _SIZE_WORD], self._end_of(address))
            self._take(address - _WORD * _WORDS_BEFORE, end)
        return found

    def _windows(
        self, addresses: Iterable[int], before: int, after: int
    ) -> Iterator[tuple[int, memoryview, int]]:
        """Yield each address, the words around it, and which of them is there; addresses come sorted.

        As many as were asked for, as far as the page, and the part of memory, goes.
        """
        buffer = memoryview(bytearray(2 * self._page_size))
        words = buffer.cast("Q")
        page = limit = -1
        for address in addresses:
            first = address & -self._page_size
            if first != page:
                page = first
                limit = min(self._end_of(address) - page, len(buffer))
                self._read(page, buffer[:limit])
            at = (address - page) // _WORD
            begin = max(at - before, 0)
            yield address, words[begin : min(at + after, limit // _WORD)], at - begin

    def _targets(self, words: set[int], seen: Iterable[int] = ()) -> list[int]:
        """Return the addresses among the words but those that were ``seen``, sorted."""
        if not self._starts:
            return []
        low, high = self._starts[0], self._contents[-1][1]
        addresses = {word & -_WORD for word in words if low <= word < high}.difference(seen)
        return sorted(address for address in addresses if address < self._end_of(address))

    def _end_of(self, address: int) -> int:
        """Return the end of the contents around the address, 0 if there are none."""
        index = bisect.bisect_right(self._starts, address) - 1
        return self._contents[index][1] if index >= 0 else 0

    def _take(self, start: int, end: int) -> None:
        """Add the pages between, which have contents but for a first one that may have none."""
        self._kept.append((start, end))
        for page in range(start & -self._page_size, end, self._page_size):
            if page in self._found:
                continue
            if len(self._found) < self._room:
                self._found.add(page)
            else:
                self.left_out += 1
