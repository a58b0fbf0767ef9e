"""Our cores against ``gcore`` of the same process at rest: the same mappings, bytes and registers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from differential_cores import Cores, make_cores
from kernel import settings_lock
from native_builds import CSRC, SIGNAL_SAFE_SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = [
    pytest.mark.xdist_group("differential"),  # cores are made once
    pytest.mark.skipif(shutil.which("gcore") is None, reason="compares with gcore of gdb"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="knows the registers of x86_64"),
]

SUBJECT = Path(__file__).with_name("differential_subject.c")
BLOCKED_THREADS = 6
PAGE = 4096
RED_ZONE = 128
"""Bytes below the stack pointer that belong to a function, by the System V ABI."""
FRAME = 16 * 1024
"""Room for a signal frame and its handler."""
MAIN_FRAME = 1024
"""Room for the variables of ``main``, which hold the result of the capture."""
SYSCALL_SIZE = 2
"""Bytes of the instruction ``syscall``."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("subject") / "subject"
    command = [
        "cc",
        "-std=gnu11",
        "-D_GNU_SOURCE",
        "-O1",
        "-g",
        "-fno-stack-protector",
        f"-I{CSRC}",
        "-pthread",
    ]
    subprocess.run(
        [*command, "-o", path, *SIGNAL_SAFE_SOURCES, SUBJECT],
        check=True,
        timeout=120,
    )
    return path


@pytest.fixture(scope="module", params=[0x33, 0xFF], ids=hex)
def cores(
    program: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Cores]:
    folder = tmp_path_factory.mktemp("cores")
    with settings_lock(exclusive=False):
        yield make_cores(program, folder, request.param)


ONLY_OURS = {
    "[vvar] r--",  # the kernel dumps its own mappings whatever they are; gdb leaves out VM_IO
    "[vvar_vclock] r--",
    "[vsyscall] --x",  # gdb writes r-x
}
ONLY_GCORE = {
    "[vsyscall] --x",
    "never written ---",  # guard pages: gdb writes them as readable zeros
    "never written rw-",  # the kernel has no anon_vma and writes nothing
    "shared file r--",  # gdb takes any ELF header for one that bit 4 asks for; the kernel only private ones
}


@pytest.mark.parametrize("method", ["memory", "kernel"])
def test_mappings(cores: Cores, method: str) -> None:
    ours, theirs = cores.ours[method].dumped(), cores.gcore.dumped()

    assert {describe(cores, key) for key in ours.keys() - theirs.keys()} <= ONLY_OURS
    assert {describe(cores, key) for key in theirs.keys() - ours.keys()} <= ONLY_GCORE
    assert len(ours.keys() & theirs.keys()) > 20


@pytest.mark.parametrize("method", ["memory", "kernel"])
def test_memory(cores: Cores, method: str) -> None:
    ours, theirs = cores.ours[method], cores.gcore
    allowed = allowed_differences(cores)
    compared = 0
    for key, segment in ours.dumped().items():
        other = theirs.dumped().get(key)
        if other is None or cores.mappings[key[:2]].shared:
            continue
        size = min(segment.filesz, other.filesz)
        mine, its = ours.contents(segment)[:size], theirs.contents(other)[:size]
        for start in range(0, size, PAGE):
            compared += 1
            if mine[start : start + PAGE] != its[start : start + PAGE]:
                wrong = [
                    hex(segment.vaddr + at)
                    for at in range(start, min(start + PAGE, size))
                    if mine[at] != its[at]
                    and not any(low <= segment.vaddr + at < high for low, high in allowed)
                ]
                assert not wrong, f"{describe(cores, key)}: {len(wrong)} bytes from {wrong[0]} to {wrong[-1]}"
    assert compared > 500


@pytest.mark.parametrize("method", ["memory", "kernel"])
def test_registers(cores: Cores, method: str) -> None:
    """The kernel prepares an interrupted call to be made again before it runs our handler."""
    ours = {thread.tid: thread.registers for thread in cores.ours[method].headers.threads()}
    theirs = {thread.tid: thread.registers for thread in cores.gcore.headers.threads()}
    assert ours.keys() == theirs.keys()
    assert len(ours) == BLOCKED_THREADS + 1
    for tid in ours.keys() - {cores.pid}:
        different = {name for name in ours[tid] if ours[tid][name] != theirs[tid][name]}
        assert different <= {"rax", "orig_rax", "rip"}, (ours[tid], theirs[tid])
        assert theirs[tid]["rip"] - ours[tid]["rip"] in {0, SYSCALL_SIZE}
        if "rip" in different:
            assert ours[tid]["rax"] == theirs[tid]["orig_rax"], "the number of the call"


def allowed_differences(cores: Cores) -> list[tuple[int, int]]:
    """Address ranges that the capture itself writes to, or whose contents are dead."""
    allowed = [*cores.engine]
    for thread in cores.gcore.headers.threads():
        stack_pointer = thread.registers["rsp"]
        if thread.tid == cores.pid:
            allowed.append((stack_pointer - FRAME, stack_pointer + MAIN_FRAME))
        else:
            allowed.append((stack_pointer - FRAME, stack_pointer - RED_ZONE))
    return allowed


def describe(cores: Cores, key: tuple[int, int, int]) -> str:
    mapping = cores.mappings.get(key[:2])
    if mapping is None:
        return f"unknown {key[0]:x}-{key[1]:x} {key[2]}"
    name = os.fsdecode(mapping.path)
    if mapping.is_file and mapping.shared:
        name = "shared file"
    elif not name and not mapping.sizes.get("Anonymous"):
        name = "never written"
    flags = "".join(
        letter if is_set else "-"
        for letter, is_set in zip(
            "rwx", (mapping.readable, mapping.writable, mapping.executable), strict=True
        )
    )
    return f"{name} {flags}"
