"""The loader's list in the memory of a process that may be broken: whatever it says, reading it ends."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_gencore.collector.source import link_map
from pytest_gencore.collector.source.link_map import LinkMap, find_aliases, read_link_map
from pytest_gencore.collector.source.procfs import Mapping, parse_mappings

PAGE = 4096
BASE = 0x10000
SIZE = 64 * PAGE
TABLE, DYNAMIC, DEBUG, FIRST, SECOND, NAME = (BASE + offset for offset in (64, 512, 1024, 2048, 2112, 3072))
BEHIND = BASE + SIZE
"""Nothing is mapped here."""
PT_DYNAMIC, PT_PHDR, DT_DEBUG = 2, 6, 21


class Memory:
    """One mapping, with an executable's headers and a list of two libraries; notes what is read of it."""

    status = SimpleNamespace(page_size=PAGE)

    def __init__(self) -> None:
        self.data = bytearray(SIZE)
        self.largest = self.total = 0
        self.phnum = 2
        self.put(TABLE, struct.pack("<IIQQQQQQ", PT_PHDR, 4, 64, 64, 64, 112, 112, 8))
        self.put(TABLE + 56, struct.pack("<IIQQQQQQ", PT_DYNAMIC, 4, 512, 512, 512, 48, 48, 8))
        self.put(DYNAMIC, struct.pack("<6Q", 5, 1, DT_DEBUG, DEBUG, 0, 0))
        self.put(DEBUG, struct.pack("<QQ", 1, FIRST))
        self.put(FIRST, struct.pack("<5Q", 0, NAME, DYNAMIC, SECOND, 0))
        self.put(SECOND, struct.pack("<5Q", 0, NAME + 16, DYNAMIC, 0, FIRST))
        self.put(NAME, b"/lib/a.so\0".ljust(16) + b"/lib/b.so\0")

    def put(self, address: int, data: bytes) -> None:
        self.data[address - BASE : address - BASE + len(data)] = data

    def read(self, address: int, size: int) -> bytes:
        assert address >= BASE, hex(address)
        assert address + size <= BEHIND, "only what is mapped is read"
        self.largest = max(self.largest, size)
        self.total += size
        return bytes(self.data[address - BASE : address - BASE + size])

    def walk(self) -> LinkMap:
        auxv = struct.pack("<4Q", 3, TABLE, 5, self.phnum)
        return read_link_map(cast("Any", self), auxv, mapped((BASE, BEHIND, "/bin/program")))


def mapped(*ranges: tuple[int, int, str]) -> list[Mapping]:
    lines = (f"{start:x}-{end:x} r--p 00000000 08:01 7 {path}\n" for start, end, path in ranges)
    return parse_mappings("".join(lines).encode())


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_list_is_read(memory: Memory) -> None:
    found = memory.walk()

    assert found.libraries == [(b"/lib/a.so", DYNAMIC), (b"/lib/b.so", DYNAMIC)]
    assert found.notice == ""
    assert (FIRST, 40) in found.ranges


@pytest.mark.parametrize(
    ("offset", "value"),
    [(40, 64 << 30), (40, 2**64 - 1), (16, 2**64 - 8), (16, 1 << 63), (16, SIZE)],
    ids=["p_memsz of 64 GiB", "largest p_memsz", "largest p_vaddr", "wild p_vaddr", "p_vaddr behind"],
)
def test_wild_program_header(memory: Memory, offset: int, value: int) -> None:
    memory.put(TABLE + 56 + offset, struct.pack("<Q", value))

    found = memory.walk()

    assert memory.largest <= 64 << 10
    assert len(found.libraries) == (2 if offset == 40 else 0)


@pytest.mark.parametrize("count", [1 << 16, 1 << 60])
def test_wild_number_of_program_headers(memory: Memory, count: int) -> None:
    memory.phnum = count
    assert memory.walk().libraries == []
    assert memory.total == 0


@pytest.mark.parametrize("address", [BEHIND, BEHIND - 8, 1, 2**64 - 1])
@pytest.mark.parametrize("where", [DEBUG + 8, FIRST + 24], ids=["r_map", "l_next"])
def test_wild_pointer_ends_the_list(memory: Memory, where: int, address: int) -> None:
    memory.put(where, struct.pack("<Q", address))

    found = memory.walk()

    count = int(where == FIRST + 24)
    assert len(found.libraries) == count
    assert found.notice == f"the loader's list was read as far as its entry {count}: it is broken there"


@pytest.mark.parametrize("address", [2**64 - 1, BEHIND - 2], ids=["not mapped", "no zero at its end"])
def test_wild_name(memory: Memory, address: int) -> None:
    memory.put(BEHIND - 2, b"xx")
    memory.put(FIRST + 8, struct.pack("<Q", address))
    assert memory.walk().libraries == [(b"", DYNAMIC), (b"/lib/b.so", DYNAMIC)]


def test_endless_name(memory: Memory) -> None:
    memory.put(NAME + 32, b"/" * (SIZE - 3072 - 32))
    memory.put(FIRST + 8, struct.pack("<Q", NAME + 32))

    assert memory.walk().libraries[0] == (b"", DYNAMIC)
    assert memory.total < 3 * PAGE


def test_cycle_is_told(memory: Memory) -> None:
    memory.put(SECOND + 24, struct.pack("<Q", FIRST))

    found = memory.walk()

    assert len(found.libraries) == 2
    assert found.notice == "the loader's list was read as far as its entry 2: it is broken there"


def test_long_list_is_told(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_map, "_LIBRARIES_LIMIT", 1)

    found = memory.walk()

    assert len(found.libraries) == 1
    assert found.notice == "the loader's list was read as far as its entry 1: it is longer than that"


def test_entry_may_lie_across_two_mappings(memory: Memory) -> None:
    auxv = struct.pack("<4Q", 3, TABLE, 5, 2)
    halves = mapped((BASE, FIRST + 8, "/bin/program"), (FIRST + 8, BEHIND, ""))
    assert len(read_link_map(cast("Any", memory), auxv, halves).libraries) == 2


def test_aliases_are_plain_names() -> None:
    """An archive holds no name with ``.``, ``..`` or empty components: its readers refuse them."""
    names = (
        b"/lib//./x.so",
        b"//lib/y.so",
        b"/lib/../z.so",
        b"/lib/..",
        b"relative.so",
        b"/usr/lib/./x.so.1",
    )
    found = LinkMap([(name, BASE) for name in names])

    aliases = find_aliases(found, mapped((BASE, BEHIND, "/usr/lib/x.so.1")))

    assert aliases == {b"/lib/x.so": b"/usr/lib/x.so.1", b"/lib/y.so": b"/usr/lib/x.so.1"}


def test_alias_of_nothing_mapped() -> None:
    found = LinkMap([(b"/lib/x.so", BEHIND), (b"/lib/y.so", 0)])
    assert find_aliases(found, mapped((BASE, BEHIND, "/usr/lib/x.so.1"))) == {}


@pytest.mark.parametrize("character", ["\r", "\x0b", "\x0c", "\x1c"])
def test_name_of_a_file_adds_no_mapping(character: str) -> None:
    """Of what Python ends a line at, the kernel escapes only the newline."""
    name = f"/y{character}10000-20000 rw-p 00000000 00:00 0 {character}VmFlags: dd"
    text = f"30000-40000 r--p 00000000 08:01 7 {name}\\012z\nRss: 8 kB\nVmFlags: rd mr\n".encode()

    (mapping,) = parse_mappings(text)

    assert mapping.path == f"{name}\nz".encode()
    assert mapping.sizes == {"Rss": 8192}
    assert mapping.flags == {"rd", "mr"}
