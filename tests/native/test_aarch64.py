"""Notes that only aarch64 has, beside those of the kernel for the same threads.

It needs such a processor, with pointer authentication and scalable vectors: ``.ci/aarch64`` emulates one.
That has SME as well, which the kernel must know, too.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from capabilities import needs
from native_builds import PROGRAMS, compile_c
from oracles import complaints_of_readelf, gdb_stacks, is_complete_stack, run_gdb, run_tool, unpack

from pytest_gencore.corefile.constants import (
    NT_ARM_PAC_MASK,
    NT_ARM_SSVE,
    NT_ARM_SVE,
    NT_ARM_TLS,
    NT_ARM_ZA,
    NT_FPREGSET,
)
from pytest_gencore.corefile.reader import read_core

pytestmark = [
    pytest.mark.skipif(platform.machine() != "aarch64", reason="needs aarch64"),
    pytest.mark.timeout(900),
    needs("gcc", "gdb", "readelf", "plain core_pattern"),
]
THREADS = 9
LEFT_OUT = {
    0x402: "NT_ARM_HW_BREAK",
    0x403: "NT_ARM_HW_WATCH",
    0x404: "NT_ARM_SYSTEM_CALL",
    0x407: "NT_ARM_PACA_KEYS",
    0x408: "NT_ARM_PACG_KEYS",
    0x409: "NT_ARM_TAGGED_ADDR_CTRL",
    0x40A: "NT_ARM_PAC_ENABLED_KEYS",
    0x40E: "NT_ARM_FPMR",
    0x40F: "NT_ARM_POE",
    0x410: "NT_ARM_GCS",
}
"""Notes of the kernel's core that ours has not: the table is in ``docs/reference/limits.md``."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What two cores say of the same threads."""

    folder: Path
    """The archive, unpacked."""
    spinning: int
    in_matrix: bool
    """That thread is in the streaming mode, its matrix is on."""
    ours: dict[int, dict[int, bytes]]
    kernel: dict[int, dict[int, bytes]]
    """A thread that waited for the archive may be among them."""


def read_notes(core: Path) -> dict[int, dict[int, bytes]]:
    with core.open("rb") as file:
        return {
            thread.tid: {note.type: note.desc for note in thread.notes}
            for thread in read_core(file).threads()
        }


def has_feature(name: str) -> bool:
    return f" {name}" in Path("/proc/cpuinfo").read_text()


def without_longest(note: bytes | None) -> tuple[bytes, ...] | None:
    """Leave out of a header the largest size and the longest vector, which a process does not know."""
    return None if note is None else (note[:4], note[8:10], note[12:])


@pytest.fixture(scope="module", params=["memory", "kernel"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["spin_vectors", "spin_matrix"])
def notes(request: pytest.FixtureRequest, method: str, tmp_path_factory: pytest.TempPathFactory) -> Notes:
    in_matrix = request.param == "spin_matrix"
    if in_matrix and not has_feature("sme"):
        pytest.skip("no SME")
    path = tmp_path_factory.mktemp(f"notes-{method}")
    library = path / "libscalable.so"
    compile_c(library, [PROGRAMS / "scalable.c"], ["-shared", "-fPIC", "-mbranch-protection=pac-ret+leaf"])
    (path / "out").mkdir(mode=0o700)
    command = [sys.executable, PROGRAMS / "aarch64_notes.py", method, path / "out", library, request.param]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    (kernel,) = path.glob("core*")
    folder = unpack(Path(report["archive"]))
    return Notes(folder, report["spinning"], in_matrix, read_notes(folder / "core"), read_notes(kernel))


def test_every_thread_has_what_the_kernel_gives_it(notes: Notes) -> None:
    listing = run_tool("readelf", "-nW", notes.folder / "core")
    print(re.sub(r" +description data: .*", "", listing))
    expected = {
        "NT_PRSTATUS": THREADS,
        "NT_ARM_PAC_MASK": THREADS * has_feature("paca"),
        "NT_ARM_SVE": THREADS * has_feature("sve") - notes.in_matrix,
        "NT_ARM_SSVE": THREADS * has_feature("sme"),
        "NT_ARM_ZA": THREADS * has_feature("sme"),
    }

    assert len(notes.ours) == THREADS
    assert {name: len(re.findall(rf"\b{name}\b", listing)) for name in expected} == expected
    assert complaints_of_readelf(notes.folder / "core") == []
    for tid, ours in notes.ours.items():
        kernel = notes.kernel[tid]
        assert ours.get(NT_ARM_PAC_MASK) == kernel.get(NT_ARM_PAC_MASK)
        assert ours[NT_ARM_TLS].ljust(16, b"\0") == kernel[NT_ARM_TLS], "TPIDR2 is 0 without SME"
        assert without_longest(ours.get(NT_ARM_ZA)) == without_longest(kernel.get(NT_ARM_ZA))


def test_notes_that_are_left_out_are_known(notes: Notes) -> None:
    """In the streaming mode there are no other vectors; the kernel's note of them has none."""
    left_out: set[int] = set()
    for tid, ours in notes.ours.items():
        left_out |= notes.kernel[tid].keys() - ours.keys()
    print("left out:", *(LEFT_OUT.get(kind, hex(kind)) for kind in sorted(left_out)))

    assert left_out - {NT_ARM_SVE} <= LEFT_OUT.keys()


def test_registers_of_a_thread_that_runs(notes: Notes) -> None:
    """The kernel's header also has the longest vector that there is, and the largest note."""
    ours, kernel = notes.ours[notes.spinning], notes.kernel[notes.spinning]
    kind = NT_ARM_SSVE if notes.in_matrix else NT_ARM_SVE
    scalable = ours[kind]

    assert ours[NT_FPREGSET] == kernel[NT_FPREGSET]
    assert without_longest(scalable) == without_longest(kernel[kind])
    assert scalable[12:14] == b"\1\0", "the vectors were in use"
    length = int.from_bytes(scalable[8:10], "little")
    assert length > 16, "longer than those of NT_FPREGSET"
    assert scalable[16 + 7 * length : 16 + 8 * length] == b"\x5a" * length
    if notes.in_matrix:
        rows = ours[NT_ARM_ZA][16:]
        assert rows == bytes(length) + b"\x3c" * length + bytes(length * (length - 2))


def test_gdb_unwinds_through_signed_addresses(notes: Notes) -> None:
    stacks = gdb_stacks(notes.folder, timeout=600)
    inner, outer = ("keep_matrix", "spin_matrix") if notes.in_matrix else ("keep_value", "spin_vectors")
    shown = "$za[1][1]" if notes.in_matrix else "$z7.b.u[17]"

    assert len(stacks) == THREADS
    assert {tid: stack for tid, stack in stacks.items() if not is_complete_stack(stack)} == {}
    assert re.search(rf"\b{inner} \(.*\n.*\b{outer} \(", stacks[notes.spinning])
    values = run_gdb(notes.folder, f"thread apply all print/x {shown}", timeout=600)
    assert len(re.findall(r"= 0x(5a|3c)$", values, re.MULTILINE)) == 1, values
