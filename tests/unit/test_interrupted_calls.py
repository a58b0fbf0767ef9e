"""Which system call a thread was in, by registers and code; a disassembler and headers judge."""

from __future__ import annotations

import platform
import re
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from capabilities import needs

from pytest_gencore.collector.diagnosis.system.call_tables import CALLS
from pytest_gencore.collector.diagnosis.system.interrupted import RawCall, find_call
from pytest_gencore.collector.diagnosis.system.mutexes import find_mutex_owner
from pytest_gencore.collector.diagnosis.system.x86_code import number_set_before
from pytest_gencore.collector.source.mapped_memory import MappedMemory
from pytest_gencore.corefile.aarch64 import REGISTERS as AARCH64_REGISTERS
from pytest_gencore.corefile.x86_64 import REGISTERS as X86_REGISTERS

EINTR = 2**64 - 4
BASE = 0x400000


def call_at(machine: str, code: bytes, at: int, **values: int) -> RawCall | None:
    """Find the call of a thread that is ``at`` bytes into the code."""
    names, counter = (X86_REGISTERS, "rip") if machine == "x86_64" else (AARCH64_REGISTERS, "pc")
    registers = {name: values.get(name, 0) for name in names} | {counter: BASE + at}

    def read(address: int, size: int) -> bytes:
        start = address - BASE
        return code[max(0, start) : max(0, start + size)] if start >= 0 else b""

    return find_call(machine, registers, read)


POLL = bytes(100) + bytes.fromhex("b807000000 0f05")


def test_x86_64_started_again() -> None:
    call = call_at("x86_64", POLL, len(POLL) - 2, rax=7, rdi=1, rsi=2, rdx=3, r10=4, r8=5, r9=6)
    assert call == RawCall(7, (1, 2, 3, 4, 5, 6))


def test_x86_64_interrupted() -> None:
    assert call_at("x86_64", POLL, len(POLL), rax=EINTR, rdi=9) == RawCall(7, (9, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("rax", [0, 1, 2**64 - 11])
def test_x86_64_has_returned(rax: int) -> None:
    assert call_at("x86_64", POLL, len(POLL), rax=rax) is None


def test_x86_64_at_the_begin_of_a_mapping() -> None:
    code = POLL[-7:]
    assert call_at("x86_64", code, len(code), rax=EINTR) == RawCall(7, (0,) * 6)


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("b8ca000000 0f05", 202),
        ("31c0 0f05", 0),
        ("b807000000 4889fe 0f05", 7),
        ("b8ca000000 4531d2 31d2 0f05", 202),
        ("b8ca000000 7510 0f05", 202),
        ("b8ca000000 89d0 0f05", None),  # mov %edx, %eax
        ("b8ca000000 c3 0f05", None),  # ret
        ("b8ca000000 eb00 0f05", None),  # jmp
        ("b8ca000000 e800000000 0f05", None),  # call
        ("b8ca000000 0f1080b8070000 0f05", 202),  # a constant inside of another instruction
        ("b8ca000000 58 0f05", None),  # pop %rax
        ("b8ca000000 8b442408 0f05", None),  # mov 8(%rsp), %eax
        ("b8ca000000 04 01 0f05", None),  # add $1, %al
        ("b8ca000000 80f481 0f05", None),  # xor $0x81, %ah
        ("", None),
    ],
)
def test_number_in_code(code: str, number: int | None) -> None:
    assert number_set_before(bytes.fromhex(code.removesuffix("0f05"))) == number


LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")


@pytest.mark.skipif(platform.machine() != "x86_64" or not LIBC.exists(), reason="no such library here")
@needs("gcc", "readelf")
def test_numbers_in_the_c_library() -> None:
    """What we read in front of each call of libc is what a disassembler shows there."""
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(LIBC)]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout
    lines = [match.groups() for match in re.finditer(r"^ *([0-9a-f]+):\t(.*)$", text, re.MULTILINE)]
    headers = subprocess.run(["readelf", "-lW", LIBC], check=True, capture_output=True, text=True, timeout=60)
    segments = [
        tuple(int(value, 16) for value in match.groups())
        for match in re.finditer(r"LOAD +0x(\w+) 0x(\w+) 0x\w+ 0x(\w+)", headers.stdout)
    ]
    data = LIBC.read_bytes()
    right = 0
    for index, (address, instruction) in enumerate(lines):
        if instruction.strip() != "syscall":
            continue
        position = int(address, 16)
        offset = next(
            position - start + file for file, start, size in segments if start <= position < start + size
        )
        found = number_set_before(data[offset - 64 : offset])
        if found is not None:
            assert found == constant_before([text for _, text in lines[index - 25 : index]]), address
            right += 1
    assert right > 20, "in newer ones most calls are in one place, with the number in a register"


def constant_before(instructions: list[str]) -> int | str:
    """Return the constant that the last instruction which writes ``eax`` loads, or that instruction."""
    for instruction in reversed(instructions):
        text = instruction.partition("#")[0].strip()
        match = re.fullmatch(r"mov +\$0x(\w+),%eax", text)
        if match:
            return int(match[1], 16)
        if re.fullmatch(r"xor +%eax,%eax", text):
            return 0
        if re.search(r",%[er]?ax$|,%a[lh]$", text) and not text.startswith(("cmp", "test")):
            return text
    return "nothing"


SVC = bytes(8) + bytes.fromhex("010000d4")


def test_aarch64_started_again() -> None:
    assert call_at("aarch64", SVC, 8, x8=63, x0=5, x1=6) == RawCall(63, (5, 6, 0, 0, 0, 0))


def test_aarch64_interrupted() -> None:
    """The first argument is gone: its register has the result."""
    assert call_at("aarch64", SVC, 12, x8=22, x0=EINTR, x1=6) == RawCall(22, (None, 6, 0, 0, 0, 0))


def test_aarch64_has_returned() -> None:
    assert call_at("aarch64", SVC, 12, x8=22, x0=1) is None


@pytest.mark.parametrize(
    ("machine", "compiler"),
    [
        pytest.param("x86_64", "gcc", marks=needs("gcc")),
        pytest.param("aarch64", "aarch64-linux-gnu-gcc", marks=needs("aarch64")),
    ],
)
def test_numbers_are_those_of_the_kernel(machine: str, compiler: str) -> None:
    if compiler == "gcc" and platform.machine() != machine:
        pytest.skip("the compiler is for another machine")
    command = [compiler, "-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    numbers = {name: int(value) for name, value in re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", text)}
    for kind in CALLS:
        number = getattr(kind, machine)
        if kind.name in numbers or number is None:
            assert numbers.get(kind.name) == number, kind.name


# ---- mutexes -------------------------------------------------------------------------------------------


class OnePage:
    """A snapshot with one page."""

    status = SimpleNamespace(page_size=4096)

    def __init__(self, data: bytes) -> None:
        self.data = data.ljust(4096, b"\0")

    def read(self, address: int, size: int) -> bytes:
        return self.data[address - BASE : address - BASE + size]


def owner_in(*words: int) -> int | None:
    data = OnePage(struct.pack(f"<{len(words)}I", *words))
    mapping = SimpleNamespace(readable=True, start=BASE, end=BASE + 4096)
    memory = MappedMemory(cast("Any", data), [cast("Any", mapping)])
    return find_mutex_owner(memory, BASE, {77, 78})


def test_owner_of_a_mutex() -> None:
    assert owner_in(2, 1, 77, 1, 0) == 77
    assert owner_in(1, 3, 78, 1, 1) == 78
    assert owner_in(0x80000000 | 77, 1, 77, 1, 0x10) == 77, "robust"


@pytest.mark.parametrize(
    "words",
    [
        (0, 0, 77, 1, 0),  # not locked
        (2, 1, 76, 1, 0),  # no thread of the process
        (2, 1, 77, 0, 0),  # no users
        (2, 1, 77, 1, 0x1000),  # no kind of a mutex
        (3, 1, 77, 1, 0),
        (2, 0, 0, 0, 0),  # another lock: a word alone
    ],
)
def test_what_is_no_held_mutex(words: tuple[int, ...]) -> None:
    assert owner_in(*words) is None
