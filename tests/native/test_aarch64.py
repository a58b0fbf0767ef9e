"""Notes that only aarch64 has, beside those of the kernel for the same threads.

It needs such a processor, with pointer authentication and scalable vectors: ``.ci/aarch64`` emulates one.
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

from pytest_gencore.corefile.constants import NT_ARM_PAC_MASK, NT_ARM_SVE, NT_ARM_TLS, NT_FPREGSET
from pytest_gencore.corefile.reader import read_core

pytestmark = [
    pytest.mark.skipif(platform.machine() != "aarch64", reason="needs aarch64"),
    pytest.mark.timeout(900),
    needs("gcc", "gdb", "readelf", "plain core_pattern"),
]
THREADS = 9


@dataclass(frozen=True, slots=True)
class Notes:
    """What two cores say of the same threads."""

    folder: Path
    """The archive, unpacked."""
    spinning: int
    ours: dict[int, dict[int, bytes]]
    kernel: dict[int, dict[int, bytes]]


def read_notes(core: Path) -> dict[int, dict[int, bytes]]:
    with core.open("rb") as file:
        return {
            thread.tid: {note.type: note.desc for note in thread.notes}
            for thread in read_core(file).threads()
        }


@pytest.fixture(scope="module", params=["memory", "kernel"])
def notes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Notes:
    path = tmp_path_factory.mktemp(f"notes-{request.param}")
    library = path / "libscalable.so"
    compile_c(library, [PROGRAMS / "scalable.c"], ["-shared", "-fPIC", "-mbranch-protection=pac-ret+leaf"])
    (path / "out").mkdir(mode=0o700)
    command = [sys.executable, PROGRAMS / "aarch64_notes.py", request.param, path / "out", library]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    (kernel,) = path.glob("core*")
    folder = unpack(Path(report["archive"]))
    return Notes(folder, report["spinning"], read_notes(folder / "core"), read_notes(kernel))


def test_every_thread_has_what_the_kernel_gives_it(notes: Notes) -> None:
    features = Path("/proc/cpuinfo").read_text()
    listing = run_tool("readelf", "-nW", notes.folder / "core")
    print(listing)

    assert len(notes.ours) == len(notes.kernel) == THREADS
    assert listing.count("NT_PRSTATUS") == THREADS
    assert listing.count("NT_ARM_PAC_MASK") == (THREADS if " paca" in features else 0)
    assert listing.count("NT_ARM_SVE") == (THREADS if " sve" in features else 0)
    assert complaints_of_readelf(notes.folder / "core") == []
    for tid, kernel in notes.kernel.items():
        assert notes.ours[tid].get(NT_ARM_PAC_MASK) == kernel.get(NT_ARM_PAC_MASK)
        assert notes.ours[tid][NT_ARM_TLS] == kernel[NT_ARM_TLS][:8], "TPIDR2 of SME follows"


def test_registers_of_a_thread_that_runs(notes: Notes) -> None:
    """The kernel's header also has the longest vector that there is, and the largest note."""
    ours, kernel = notes.ours[notes.spinning], notes.kernel[notes.spinning]

    assert ours[NT_FPREGSET] == kernel[NT_FPREGSET]
    scalable, expected = ours[NT_ARM_SVE], kernel[NT_ARM_SVE]
    assert (scalable[:4], scalable[8:10], scalable[12:]) == (expected[:4], expected[8:10], expected[12:])
    assert scalable[12:14] == b"\1\0", "the vectors were in use"
    length = int.from_bytes(scalable[8:10], "little")
    assert length > 16, "longer than those of NT_FPREGSET"
    assert scalable[16 + 7 * length : 16 + 8 * length] == b"\x5a" * length


def test_gdb_unwinds_through_signed_addresses(notes: Notes) -> None:
    stacks = gdb_stacks(notes.folder, timeout=600)

    assert len(stacks) == THREADS
    assert {tid: stack for tid, stack in stacks.items() if not is_complete_stack(stack)} == {}
    assert re.search(r"\bkeep_value \(.*\n.*\bspin \(", stacks[notes.spinning])
    values = run_gdb(notes.folder, "thread apply all print/x $z7.d.u[1]", timeout=600)
    assert len(re.findall(r"= 0x5a5a5a5a5a5a5a5a$", values, re.MULTILINE)) == 1, values
