"""glibc's message in the memory of a process that may be broken, and whether it is that of this abort."""

from __future__ import annotations

import random
import re
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from capabilities import needs
from oracles import run_tool

from pytest_gencore.collector.source.abort_message import find_message
from pytest_gencore.collector.source.mapped_memory import MappedMemory
from pytest_gencore.collector.source.procfs import parse_mappings
from pytest_gencore.collector.source.symbols import find_symbol
from pytest_gencore.corefile.machines import AARCH64, X86_64, Machine
from pytest_gencore.corefile.reader import read_program_headers

PAGE = 4096
OWN = "/lib/x86_64-linux-gnu/libc.so.6"
OTHER = "/usr/aarch64-linux-gnu/lib/libc.so.6"
LIBRARIES = [
    pytest.param(X86_64, OWN, marks=pytest.mark.skipif(not Path(OWN).exists(), reason="no glibc of x86-64")),
    pytest.param(AARCH64, OTHER, marks=needs("aarch64")),
]
MESSAGE_AT = 0x70000000
STACK_AT = 0x70010000


class Process:
    """A library as the loader maps it, at address 0, with a page for a message and one of stack."""

    status = SimpleNamespace(page_size=PAGE)

    def __init__(self, path: str) -> None:
        self.reads = 0
        with Path(path).open("rb") as file:
            headers = [header for header in read_program_headers(file)[2] if header.type == 1]
            end = max(header.vaddr + header.memsz for header in headers)
            self.image = bytearray(-(-end // PAGE) * PAGE)
            for header in headers:
                file.seek(header.offset)
                self.image[header.vaddr : header.vaddr + header.filesz] = file.read(header.filesz)
        self.message, self.stack = bytearray(PAGE), bytearray(PAGE)
        self.text = (
            f"0-{len(self.image):x} rwxp 00000000 08:01 7 {path}\n"
            f"{MESSAGE_AT:x}-{MESSAGE_AT + PAGE:x} rw-p 00000000 00:00 0 \n"
            f"{STACK_AT:x}-{STACK_AT + PAGE:x} rw-p 00000000 00:00 0 [stack]\n"
        )
        self.say(b"free(): invalid pointer\n")

    def read(self, address: int, size: int) -> bytes:
        parts = ((0, self.image), (MESSAGE_AT, self.message), (STACK_AT, self.stack))
        start, data = next((at, part) for at, part in parts if at <= address < at + len(part))
        self.reads += 1
        assert address + size <= start + len(data), "only what is mapped is read"
        return bytes(data[address - start : address - start + size])

    def say(self, text: bytes, size: int = PAGE) -> None:
        data = struct.pack("<I", size) + text
        self.message[:] = data.ljust(PAGE, b"\0")[:PAGE]

    def put(self, address: int, value: int) -> None:
        self.image[address : address + 8] = struct.pack("<Q", value)

    @property
    def memory(self) -> MappedMemory:
        return MappedMemory(cast("Any", self), parse_mappings(self.text.encode()))

    def find(self, name: bytes) -> int:
        address = find_symbol(self.memory, 0, name)
        assert address is not None
        return address

    def find_message(self, machine: Machine) -> str | None:
        return find_message(self.memory, parse_mappings(self.text.encode()), machine, STACK_AT)


def calls_of(process: Process, machine: Machine, function: int) -> list[int]:
    """Return the addresses behind direct calls of a function."""
    if machine is X86_64:
        candidates = [found.start() + 5 for found in re.finditer(b"\xe8", process.image)]
    else:
        candidates = list(range(8, len(process.image), 4))
    return [
        address
        for address in candidates
        if machine.call_target(bytes(process.image[address - 5 : address]), address) == function
    ]


@pytest.fixture(scope="module")
def aborting() -> dict[str, tuple[Process, int]]:
    """Return a process for each library, with the address behind a call of ``abort`` in it."""
    return {}


def make_aborting(cache: dict[str, tuple[Process, int]], machine: Machine, path: str) -> Process:
    """Return a process that glibc has ended: pointer, message and stack are as they are then."""
    if path not in cache:
        process = Process(path)
        abort = process.find(b"abort")
        cache[path] = (process, next(at for at in calls_of(process, machine, abort) if at != abort))
    process, behind_call = cache[path]
    process.put(process.find(b"__abort_msg"), MESSAGE_AT)
    process.say(b"free(): invalid pointer\n")
    process.stack[:] = struct.pack("<QQQ", 1 << 63, STACK_AT, behind_call).ljust(PAGE, b"\0")
    return process


@pytest.mark.parametrize(("machine", "path"), LIBRARIES)
@needs("readelf")
def test_symbols(machine: Machine, path: str) -> None:
    """They are where readelf finds them."""
    listing = run_tool("readelf", "-W", "--dyn-syms", path)
    process = Process(path)
    names = ["__abort_msg", "abort", "free", "__assert_fail", "environ"]
    for name in names:
        (value,) = set(re.findall(rf": ([0-9a-f]+) +\d+ .* {name}@", listing))
        assert process.find(name.encode()) == int(value, 16)
    assert find_symbol(process.memory, 0, b"no_such_symbol") is None
    assert len(calls_of(process, machine, process.find(b"abort"))) > 10


@pytest.mark.parametrize(("machine", "path"), LIBRARIES)
def test_message(aborting: dict[str, tuple[Process, int]], machine: Machine, path: str) -> None:
    process = make_aborting(aborting, machine, path)

    assert process.find_message(machine) == "free(): invalid pointer"

    process.stack[23] = 0x2A  # as pointer authentication signs addresses
    assert process.find_message(machine) == "free(): invalid pointer"
    process.say(b"\xff" * (PAGE - 5) + b"\0")
    assert process.find_message(machine) == "\\xff" * (PAGE - 5)


@pytest.mark.parametrize(("machine", "path"), LIBRARIES)
def test_another_abort(aborting: dict[str, tuple[Process, int]], machine: Machine, path: str) -> None:
    """The message is an older one: glibc does not call abort, though there are addresses of its code.

    Before ``abort`` is a call of it, so its own address on the stack, as ctypes has it, is no proof.
    """
    process = make_aborting(aborting, machine, path)
    (behind_call,) = struct.unpack_from("<Q", process.stack, 16)
    process.stack[16:32] = struct.pack("<QQ", process.find(b"abort"), behind_call + 1)

    assert process.find_message(machine) is None


@pytest.mark.parametrize(("machine", "path"), LIBRARIES[:1])
@pytest.mark.parametrize(
    ("pointer", "size", "text"),
    [
        (0, PAGE, b"no message"),
        (8, PAGE, b"in the library"),
        (MESSAGE_AT + 8, PAGE, b"not the beginning of a page"),
        (1 << 63, PAGE, b"nothing is mapped there"),
        (2**64 - 1, PAGE, b"the last address"),
        (MESSAGE_AT, 0, b"no size"),
        (MESSAGE_AT, 100, b"no whole page"),
        (MESSAGE_AT, 1 << 31, b"larger than what is mapped"),
        (MESSAGE_AT, PAGE, b"without an end" * 400),
        (MESSAGE_AT, PAGE, b"\n \n"),
    ],
)
def test_no_message(
    aborting: dict[str, tuple[Process, int]],
    machine: Machine,
    path: str,
    pointer: int,
    size: int,
    text: bytes,
) -> None:
    process = make_aborting(aborting, machine, path)
    process.put(process.find(b"__abort_msg"), pointer)
    process.say(text, size)

    assert process.find_message(machine) is None


@pytest.mark.parametrize(("machine", "path"), LIBRARIES)
def test_damaged_library(machine: Machine, path: str) -> None:
    """Whatever headers, dynamic section and hash table say, looking a symbol up ends, without an error."""
    source = random.Random(20261127)
    process = Process(path)
    with Path(path).open("rb") as file:
        dynamic = next(header for header in read_program_headers(file)[2] if header.type == 2)
    places = [(0, 1024), (dynamic.vaddr, dynamic.memsz), (0x300, 0x8000)]
    whole = bytes(process.image)
    for _ in range(300):
        start, size = source.choice(places)
        for _ in range(source.choice([1, 4, 64])):
            at = start + source.randrange(size)
            process.image[at : at + 4] = source.choice([b"\0" * 4, b"\xff" * 4, source.randbytes(4)])
        process.reads = 0
        find_symbol(process.memory, 0, b"__abort_msg")
        assert process.reads < 5000
        process.image[:] = whole
