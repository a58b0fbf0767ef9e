"""Let pystack read the stacks of a snapshot or of its core, in a process of its own and under limits.

pystack (https://github.com/bloomberg/pystack, 1.4 to 1.7) reads native frames only of processes that it may
stop with ptrace, or of cores. A snapshot has one thread, which is none of the captured process's: so its
Python stacks and locals are read without stopping it, and native frames come from a core only. CPython before
3.11 does not keep native ids; pystack looks for them by the process id, which is another one in a snapshot:
there only a core works.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.collector.core.core_stream import write_core
from pytest_gencore.sandbox.bounded import run_bounded
from pytest_gencore.sandbox.limits import Limits, limited
from pytest_gencore.sandbox.pystack_command import pystack_command
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.collector.core.core_stream import CoreStream

TIMEOUT_SECONDS: Final = 10.0
OUTPUT_LIMIT: Final = 8 << 20
"""Bytes that are read of what pystack prints."""
CORE_LIMIT: Final = 1 << 30
"""Bytes of core data (``CoreStream.data_size``) up to which a core is worth writing for pystack alone."""
MEMORY_CORE_LIMIT: Final = 128 << 20
"""The same of a core that is written to memory."""

_LIMITS: Final = Limits(memory=1 << 30, cpu_seconds=2 * int(TIMEOUT_SECONDS), file_size=0)
_REASON_LENGTH: Final = 200
_ENVIRONMENT: Final = {
    "NO_COLOR": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONIOENCODING": "utf-8:backslashreplace",
    "PYTHONUTF8": "1",  # pystack opens source files with the locale's encoding
}
_NOT_INHERITED: Final = ("DEBUGINFOD_URLS",)  # a collector makes no network connection


class PystackOutput(NamedTuple):
    """What pystack printed, and what was wrong."""

    text: str
    """For ``parse_pystack``; what there is of it if there is a reason; empty if there is nothing."""
    reason: str
    """Why there is no text, or not all of it; empty if all went well."""


def find_program(pystack: object) -> str | None:
    """Return the path that a request names; None if it names none."""
    return pystack if isinstance(pystack, str) and os.path.isabs(pystack) else None  # noqa: PTH117 - a str


def read_stacks(
    program: str, pid: int, core: CoreStream | None, path: Path | None, executable: str
) -> PystackOutput:
    """Return what pystack says of a snapshot: by its core, else, without native frames, by the process.

    ``core`` is written to ``path``, a new file of mode 0600, which is removed again; None: to memory. Its
    chunks are read, so the archive needs another one; ``build_core`` with coredump_filter 0x11 makes one that
    is enough. No core or too large a one (``CORE_LIMIT``, free space) is no error.
    """
    reason = ""
    if core is not None and core.data_size <= (CORE_LIMIT if path else MEMORY_CORE_LIMIT):
        output = _read_written_core(program, core, path, executable)
        if output.text:
            return output
        reason = output.reason
    output = read_snapshot_stacks(program, pid)
    return output if output.text or not reason else PystackOutput("", f"{reason}; {output.reason}")


def _read_written_core(program: str, core: CoreStream, path: Path | None, executable: str) -> PystackOutput:
    try:
        if path is not None and core.data_size > _free_space(path) // 2:
            return PystackOutput("", "too little free space for a core that pystack can read")
        with _new_file(path) as (descriptor, readable):
            write_core(core, descriptor)
            return read_core_stacks(program, readable, executable)
    except OSError as error:
        return PystackOutput("", f"no core for pystack: {error.strerror}")


def _free_space(path: Path) -> int:
    status = os.statvfs(path.parent)
    return status.f_bavail * status.f_frsize


@contextlib.contextmanager
def _new_file(path: Path | None) -> Iterator[tuple[int, Path]]:
    """Give a new file, removed at the end, and where it can be read; one in memory without a path."""
    if path is None:
        descriptor = os.memfd_create("gencore-pystack")
        readable = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    else:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        readable = path
    try:
        yield descriptor, readable
    finally:
        os.close(descriptor)
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()


def read_snapshot_stacks(
    program: str, pid: int, *, timeout: float = TIMEOUT_SECONDS, limit: int = OUTPUT_LIMIT
) -> PystackOutput:
    """Return Python stacks and locals of a snapshot; it is not stopped, and has no native frames.

    Needs the right to trace it: with Yama's ``ptrace_scope`` 1 or more only privileged users have it.
    """
    options = ["--no-color", "remote", "--no-block", "--locals", str(pid)]
    return _run(program, options, timeout, limit)


def read_core_stacks(
    program: str,
    core: Path,
    executable: str,
    *,
    timeout: float = TIMEOUT_SECONDS,
    limit: int = OUTPUT_LIMIT,
) -> PystackOutput:
    """Return Python and native stacks, merged, and locals of a core file; needs no privilege."""
    options = ["--no-color", "core", "--native-all", "--locals", str(core), executable]
    return _run(program, options, timeout, limit)


def _run(program: str, options: list[str], timeout: float, limit: int) -> PystackOutput:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    try:
        command = pystack_command(program, "/", options)
        if command is None:
            return PystackOutput("", f"pystack is no script of Python: {program}")
        finished = run_bounded(
            limited(command, _LIMITS),
            seconds=timeout,
            output_limit=limit,
            environment={**environment, **_ENVIRONMENT},
            directory="/",
        )
    except OSError as error:
        return PystackOutput("", f"pystack cannot be started: {error.strerror}")
    except ValueError as error:  # a null byte
        return PystackOutput("", f"pystack cannot be started: {error}")
    text = finished.output.decode(errors="replace")
    reason = ""
    if finished.stopped == "time":
        reason = f"pystack was not finished after {format_duration(timeout)}"
    elif finished.stopped == "output":
        reason = f"pystack printed more than {limit} bytes"
    elif finished.status:
        reason = _find_reason(finished.errors.decode(errors="replace"), finished.status)
    if not reason and not text:
        reason = "pystack printed nothing"
    return PystackOutput(text, reason)


def _find_reason(errors: str, status: int) -> str:
    """Return the line of standard error that says most: of a traceback the last, of a message the first."""
    lines = [line.strip("💀 \t") for line in errors.splitlines() if line.strip("💀 \t")]
    message = "" if not lines else lines[-1] if lines[0].startswith(("Traceback", "usage:")) else lines[0]
    ending = f"signal {-status}" if status < 0 else f"status {status}"
    return (
        f"pystack ended with {ending}: {message[:_REASON_LENGTH]}"
        if message
        else f"pystack ended with {ending}"
    )
