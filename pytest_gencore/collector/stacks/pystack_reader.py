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
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.core.core_stream import write_core
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_gencore.collector.core.core_stream import CoreStream

TIMEOUT_SECONDS: Final = 10.0
OUTPUT_LIMIT: Final = 8 << 20
"""Bytes that are read of what pystack prints."""
CORE_LIMIT: Final = 1 << 30
"""Bytes of core data (``CoreStream.data_size``) up to which a core is worth writing for pystack alone."""

_ERRORS_LIMIT: Final = 16 << 10
_PIECE: Final = 64 << 10
_REASON_LENGTH: Final = 200
_ENVIRONMENT: Final = {
    "NO_COLOR": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONIOENCODING": "utf-8:backslashreplace",
    "PYTHONUTF8": "1",  # pystack opens source files with the locale's encoding
}
_NOT_INHERITED: Final = ("DEBUGINFOD_URLS",)  # a collector makes no network connection


@dataclass(frozen=True, slots=True)
class PystackOutput:
    """What pystack printed, and what was wrong."""

    text: str
    """For ``parse_pystack``; what there is of it if there is a reason; empty if there is nothing."""
    reason: str
    """Why there is no text, or not all of it; empty if all went well."""


def find_command(pystack: object) -> list[str] | None:
    """Return the command that a request names: a path, or a list of arguments; None if it names none."""
    parts = [pystack] if isinstance(pystack, str) else pystack
    if not isinstance(parts, list) or not parts:
        return None
    command = [part for part in parts if isinstance(part, str) and part]
    return command if len(command) == len(parts) and os.path.isabs(command[0]) else None  # noqa: PTH117 - a str


def read_stacks(
    command: Sequence[str], pid: int, core: CoreStream | None, path: Path, executable: str
) -> PystackOutput:
    """Return what pystack says of a snapshot: by its core, else, without native frames, by the process.

    ``core`` is written to ``path``, a new file of mode 0600, which is removed again. Its chunks are read,
    so the archive needs another one; ``build_core`` with coredump_filter 0x11 makes one that is enough. No
    core or too large a one (``CORE_LIMIT``, free space) is no error.
    """
    reason = ""
    if core is not None and core.data_size <= CORE_LIMIT:
        output = _read_written_core(command, core, path, executable)
        if output.text:
            return output
        reason = output.reason
    output = read_snapshot_stacks(command, pid)
    return output if output.text or not reason else PystackOutput("", f"{reason}; {output.reason}")


def _read_written_core(
    command: Sequence[str], core: CoreStream, path: Path, executable: str
) -> PystackOutput:
    try:
        free = os.statvfs(path.parent)
        if core.data_size > free.f_bavail * free.f_frsize // 2:
            return PystackOutput("", "too little free space for a core that pystack can read")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return PystackOutput("", f"no core for pystack: {error.strerror}")
    try:
        write_core(core, descriptor)
        return read_core_stacks(command, path, executable)
    except OSError as error:
        return PystackOutput("", f"no core for pystack: {error.strerror}")
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.unlink()


def read_snapshot_stacks(
    command: Sequence[str], pid: int, *, timeout: float = TIMEOUT_SECONDS, limit: int = OUTPUT_LIMIT
) -> PystackOutput:
    """Return Python stacks and locals of a snapshot; it is not stopped, and has no native frames.

    Needs the right to trace it: with Yama's ``ptrace_scope`` 1 or more only privileged users have it.
    """
    options = ["--no-color", "remote", "--no-block", "--locals", str(pid)]
    return _run([*command, *options], timeout, limit)


def read_core_stacks(
    command: Sequence[str],
    core: Path,
    executable: str,
    *,
    timeout: float = TIMEOUT_SECONDS,
    limit: int = OUTPUT_LIMIT,
) -> PystackOutput:
    """Return Python and native stacks, merged, and locals of a core file; needs no privilege."""
    options = ["--no-color", "core", "--native-all", "--locals", str(core), executable]
    return _run([*command, *options], timeout, limit)


def _run(command: list[str], timeout: float, limit: int) -> PystackOutput:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env={**environment, **_ENVIRONMENT},
            start_new_session=True,
        )
    except OSError as error:
        return PystackOutput("", f"pystack cannot be started: {error.strerror}")
    except ValueError as error:  # a null byte
        return PystackOutput("", f"pystack cannot be started: {error}")
    with process:
        try:
            output, errors, reason = _read(process, timeout, limit)
        except OSError as error:
            output, errors, reason = b"", b"", f"pystack's output cannot be read: {error.strerror}"
        finally:  # also if the collector's own deadline interrupts
            if process.returncode is None:  # not reaped: its group's id is still its own
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    text = output.decode(errors="replace")
    if not reason and process.returncode:
        reason = _find_reason(errors.decode(errors="replace"), process.returncode)
    if not reason and not text:
        reason = "pystack printed nothing"
    return PystackOutput(text, reason)


def _read(process: subprocess.Popen[bytes], timeout: float, limit: int) -> tuple[bytes, bytes, str]:
    """Return standard output, standard error and why it was not read to its end."""
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + timeout
    output, errors = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, output)
        selector.register(process.stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return (
                    bytes(output),
                    bytes(errors),
                    f"pystack was not finished after {format_duration(timeout)}",
                )
            for key, _ in selector.select(remaining):
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    selector.unregister(key.fileobj)
                elif key.data is output or len(errors) < _ERRORS_LIMIT:
                    key.data.extend(piece)
            if len(output) > limit:
                return bytes(output[:limit]), bytes(errors), f"pystack printed more than {limit} bytes"
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return bytes(output), bytes(errors), f"pystack was not finished after {format_duration(timeout)}"
    return bytes(output), bytes(errors), ""


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
