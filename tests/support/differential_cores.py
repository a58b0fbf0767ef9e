"""Cores of the same process at rest by ``gcore`` and by us, and its mappings."""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernel import wait_until
from subjects import open_archived_core

from pytest_gencore.capture import CaptureRequest, new_run_id
from pytest_gencore.capture.start import collector_command, describe_run
from pytest_gencore.collector.source.procfs import Mapping, read_mappings
from pytest_gencore.corefile.reader import CoreFile, read_core
from pytest_gencore.request.context import NO_SECRETS, ContextWriter, Protection, SessionContext
from pytest_gencore.run.folder import run_folder_name
from pytest_gencore.run.run import Run

if TYPE_CHECKING:
    from pytest_gencore.corefile.segments import Segment
SUBJECT_VARIABLES = {"never", "futex_word", "pipe_ends", "texts", "pattern_in_data"}


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


def make_cores(program: Path, folder: Path, core_filter: int) -> Cores:
    directory = folder / "out"
    run_id = new_run_id()
    run_name = run_folder_name(run_id)
    texts = []
    for method in ("memory", "kernel"):
        request = CaptureRequest(trigger="request", method=method, core_filter=core_filter)
        # What CaptureEngine hands over; here the engine's caller is C.
        run = describe_run(
            directory, run_id, max_bytes=0, session=SessionContext(), protection=Protection(redaction=None)
        )
        writer = ContextWriter(run._replace(executable=str(program)))
        texts.append(folder / method)
        texts[-1].write_bytes(
            writer.prepare(request, exits=False, secrets=NO_SECRETS) + b'null, "claim": null}'
        )
    command: list[str | Path] = [
        program,
        hex(core_filter),
        directory,
        run_name,
        *texts,
        *collector_command(),
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
