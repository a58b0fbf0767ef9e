"""Our cores against ``gcore`` of the same process at rest: the same mappings, bytes and registers."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kernel import settings_lock, wait_until
from native_builds import CSRC, SIGNAL_SAFE_SOURCES
from subjects import open_archived_core

from pytest_gencore.capture import CaptureRequest, Run, engine, new_run_id
from pytest_gencore.collector.source.procfs import Mapping, read_mappings
from pytest_gencore.corefile.reader import CoreFile, read_core
from pytest_gencore.request.context import ContextWriter, SessionContext, encode_test
from pytest_gencore.run.folder import run_folder_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.corefile.segments import Segment

pytestmark = [
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
SUBJECT_VARIABLES = {"never", "futex_word", "pipe_ends", "texts", "pattern_in_data"}
SYSCALL_SIZE = 2
"""Bytes of the instruction ``syscall``."""


@dataclass(frozen=True, slots=True)
class Core:
    """A core and its bytes."""

    headers: CoreFile
    data: bytes

    def dumped(self) -> dict[tuple[int, int, int], Segment]:
        """Segments with contents by start, end and flags."""
        return {
            (segment.vaddr, segment.vaddr + segment.memsz, segment.flags): segment
            for segment in self.headers.segments
            if segment.filesz
        }

    def contents(self, segment: Segment) -> bytes:
        return self.data[segment.offset : segment.offset + segment.filesz]


@dataclass(frozen=True, slots=True)
class Cores:
    """Three cores of one process in one state, and what is needed to compare them."""

    pid: int
    gcore: Core
    ours: dict[str, Core]
    mappings: dict[tuple[int, int], Mapping]
    """By start and end."""
    engine: list[tuple[int, int]]
    """Address ranges that the engine writes to: its variables, and what ``gencore_prepare`` has mapped."""


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


def make_cores(program: Path, folder: Path, core_filter: int) -> Cores:
    directory = folder / "out"
    run_id = new_run_id()
    run_name = run_folder_name(run_id)
    texts = []
    for method in ("memory", "kernel"):
        request = CaptureRequest(trigger="request", method=method, core_filter=core_filter)
        # What CaptureEngine hands over; here the engine's caller is C.
        run = engine._describe_run(directory, run_id, max_bytes=0, session=SessionContext())
        writer = ContextWriter(dataclasses.replace(run, executable=str(program)))
        texts.append(folder / method)
        texts[-1].write_bytes(writer.prepare(request, exits=False) + encode_test(None, None))
    command: list[str | Path] = [
        program,
        hex(core_filter),
        directory,
        run_name,
        *texts,
        *engine._collector_command(),
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # rseq(2): the kernel writes the number of the processor into every thread's memory
        env={"GLIBC_TUNABLES": "glibc.pthread.rseq=0"},
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def tell(order: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(order.encode())
        return process.stdout.readline().decode().strip()

    try:
        assert process.stdout.readline() == b"started\n"
        without = read_by_extent(process.pid)
        assert tell("p") == "prepared"
        engine_ranges = subtract(sorted(read_by_extent(process.pid)), sorted(without))
        engine_ranges += variables_of_the_engine(program, min(start for start, _ in without))
        assert tell("t") == "running"
        tasks = Path(f"/proc/{process.pid}/task")
        wait_until(lambda: all_blocked(tasks), "all threads are blocked")
        # The first one leaves its marks: calls that were interrupted and made again.
        assert tell("c").startswith("core_")
        wait_until(lambda: all_blocked(tasks), "all threads are blocked after the first capture")
        subprocess.run(
            ["gcore", "-o", folder / "gcore", str(process.pid)], check=True, timeout=60, capture_output=True
        )
        wait_until(lambda: all_blocked(tasks), "all threads are blocked again")
        mappings = read_by_extent(process.pid)
        names = {"memory": tell("c")}
        wait_until(lambda: all_blocked(tasks), "all threads are blocked after the second capture")
        names["kernel"] = tell("k")
        outcomes = Run(directory, run_id).wait(timeout=60)
        assert [outcome.state for outcome in outcomes] == ["done"] * 3, outcomes
        Run(directory, run_id).close()
    finally:
        process.kill()
        process.communicate()
    data = (folder / f"gcore.{process.pid}").read_bytes()
    return Cores(
        pid=process.pid,
        gcore=Core(read_core(io.BytesIO(data)), data),
        ours={
            method: Core(*open_archived_core(directory / f"{name}.tar.gz")) for method, name in names.items()
        },
        mappings=mappings,
        engine=engine_ranges,
    )


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


def variables_of_the_engine(program: Path, bias: int) -> list[tuple[int, int]]:
    """Return the address ranges of all static data but the subject's."""
    listing = subprocess.run(["nm", "-S", program], check=True, timeout=60, capture_output=True, text=True)
    ranges = []
    for line in listing.stdout.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[2] in "bBdD" and fields[3] not in SUBJECT_VARIABLES:
            start = bias + int(fields[0], 16)
            ranges.append((start, start + int(fields[1], 16)))
    return ranges


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


def all_blocked(tasks: Path) -> bool:
    return all((task / "syscall").read_text()[0].isdigit() for task in tasks.iterdir())


def read_by_extent(pid: int) -> dict[tuple[int, int], Mapping]:
    return {(mapping.start, mapping.end): mapping for mapping in read_mappings(pid, with_sizes=True)}


def subtract(after: list[tuple[int, int]], before: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what is in the first list of ranges and not in the second."""
    left = []
    for start, end in after:
        position = start
        for low, high in before:
            if low < end and position < high:
                if position < low:
                    left.append((position, low))
                position = min(high, end)
        if position < end:
            left.append((position, end))
    return left
