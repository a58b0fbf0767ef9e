"""What other tools say about a core: gdb, eu-stack, readelf, pystack, py-spy, plain tar."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capabilities import find_python_program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_STACK_ENDS = re.compile(r"\b(clone3?|__clone3?|start_thread|_start)\b")
_GDB_THREAD = re.compile(r"^Thread \d+ \(.*?LWP (\d+)\)+:", re.MULTILINE)
_SEGMENT = re.compile(r"^ +LOAD +(\S+) (\S+) \S+ (\S+) (\S+) (.{3}) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LoadSegment:
    """A PT_LOAD of a core, as readelf shows it."""

    offset: int
    address: int
    file_size: int
    size: int
    flags: str


def run_tool(*command: str | Path, timeout: float = 60, cwd: Path | None = None) -> str:
    """Return what a tool prints, both streams; it must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        cwd=cwd,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{output[-4000:]}"
    return output


def unpack(archive: Path) -> Path:
    """Unpack with plain tar beside the archive; return the folder."""
    run_tool("tar", "xzf", archive, "-C", archive.parent)
    return archive.parent / archive.name.removesuffix(".tar.gz")


def run_gdb(folder: Path, *commands: str, timeout: float = 60) -> str:
    """Open the core of an unpacked archive as its manifest says, and run commands."""
    arguments = [argument for command in commands for argument in ("-ex", command)]
    return run_tool("gdb", "-nx", "-batch", "-x", "open.gdb", *arguments, cwd=folder, timeout=timeout)


def gdb_threads(folder: Path) -> list[int]:
    """Return the thread ids of ``info threads``."""
    listing = run_gdb(folder, "echo @@\\n", "info threads").partition("@@\n")[2]
    return [int(tid) for tid in re.findall(r"LWP (\d+)\)", listing)]


def gdb_stacks(folder: Path, timeout: float = 100) -> dict[int, str]:
    """Return each thread's backtrace by thread id."""
    settings = ("set width 0", "set print frame-arguments none", "set print entry-values no", "echo @@\\n")
    text = run_gdb(folder, *settings, "thread apply all bt", timeout=timeout).partition("@@\n")[2]
    _, *parts = _GDB_THREAD.split(text)
    return {int(tid): stack.strip() for tid, stack in zip(parts[::2], parts[1::2], strict=True)}


def is_complete_stack(stack: str) -> bool:
    """Whether a backtrace ends where threads begin."""
    last = [line for line in stack.splitlines() if line.startswith("#")][-1]
    return (
        bool(_STACK_ENDS.search(last)) and "corrupt stack" not in stack and "Backtrace stopped" not in stack
    )


def eu_stack_threads(core: Path, *, frames: int = 0, timeout: float = 60) -> dict[int, str]:
    """Return what eu-stack says, by thread id; ``frames`` limits the depth."""
    limit = ["-n", str(frames)] if frames else []
    done = subprocess.run(
        ["eu-stack", *limit, "--core", str(core)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    _, *parts = re.split(r"^TID (\d+):\n", done.stdout, flags=re.MULTILINE)
    return {int(tid): stack for tid, stack in zip(parts[::2], parts[1::2], strict=True)}


def pystack_threads(core: Path, timeout: float = 60) -> dict[int, str]:
    """Return merged Python and native stacks by thread id."""
    program = find_python_program("pystack") or "pystack"
    text = run_tool(program, "--no-color", "core", core, "--native-all", timeout=timeout)
    _, *parts = re.split(r"^Traceback for thread (\d+) ", text, flags=re.MULTILINE)
    return {int(tid): stack for tid, stack in zip(parts[::2], parts[1::2], strict=True)}


def py_spy_dump(core: Path) -> str:
    """Return py-spy's listing of Python threads."""
    return run_tool(find_python_program("py-spy") or "py-spy", "dump", "--core", core)


def load_segments(core: Path) -> list[LoadSegment]:
    """Return the PT_LOAD entries that readelf shows."""
    found = _SEGMENT.findall(run_tool("readelf", "-lW", core))
    return [
        LoadSegment(int(offset, 16), int(address, 16), int(file_size, 16), int(size, 16), flags)
        for offset, address, file_size, size, flags in found
    ]


def segment_of(core: Path, address: int) -> LoadSegment | None:
    """Return the segment that an address is in."""
    for segment in load_segments(core):
        if segment.address <= address < segment.address + segment.size:
            return segment
    return None


def read_memory(core: Path, address: int, size: int) -> bytes:
    """Return bytes of a core at an address; nothing where the core has no contents."""
    segment = segment_of(core, address)
    if segment is None or address + size > segment.address + segment.file_size:
        return b""
    with core.open("rb") as file:
        file.seek(segment.offset + address - segment.address)
        return file.read(size)


def lines_with(text: str, first_word: str) -> Sequence[list[str]]:
    """Return the words after ``first_word`` of every line that begins with it."""
    return [line.split()[1:] for line in text.splitlines() if line.split()[:1] == [first_word]]


def complaints_of_readelf(path: Path) -> list[str]:
    """Return the lines in which readelf finds something wrong; none if the core is right."""
    run = subprocess.run(["readelf", "-aW", path], capture_output=True, text=True, check=True)
    complaint = re.compile("warning|error|corrupt|truncated|unable", re.IGNORECASE)
    # Of binutils 2.40 about section header 0 of PN_XNUM, as fill_extnum_info in fs/binfmt_elf.c makes it.
    known = re.compile(r"readelf: Warning: \[ 0\]: Unexpected value \(70001\) in info field\.")
    lines = (run.stdout + run.stderr).splitlines()
    return [line for line in lines if complaint.search(line) and not known.fullmatch(line)]
