"""Run a program that prints: for so long, and so much of it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Stopped = Literal["", "time", "output"]
_ERRORS_LIMIT: Final = 16 << 10
_PIECE: Final = 64 << 10
_TICK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Finished:
    """What a program printed, and how it ended."""

    output: bytes
    errors: bytes
    """At most 16 KiB or a little more."""
    status: int
    """As ``subprocess`` has it."""
    stopped: Stopped = ""
    """What it had too much of when it was stopped; empty if it ended itself."""


def run_bounded(
    command: Sequence[str],
    *,
    seconds: float,
    output_limit: int,
    environment: Mapping[str, str],
    directory: str,
    on_tick: Callable[[bytearray], object] | None = None,
) -> Finished:
    """Run a program without input; its group is killed if it takes too long or prints too much.

    ``on_tick`` is called with its output so far at least once a second; what it raises ends the program, too.
    Raises OSError and, for a null byte, ValueError if it cannot be started.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            output, errors, stopped = _read(process, seconds, output_limit, on_tick)
        finally:  # also if a deadline of our own interrupts
            if process.returncode is None:  # not reaped: its group's id is still its own
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return Finished(output, errors, process.returncode, stopped)


def _read(
    process: subprocess.Popen[bytes],
    seconds: float,
    limit: int,
    on_tick: Callable[[bytearray], object] | None,
) -> tuple[bytes, bytes, Stopped]:
    """Return standard output, standard error and why they were not read to their end."""
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + seconds
    output, errors = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, output)
        selector.register(process.stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return bytes(output), bytes(errors), "time"
            for key, _ in selector.select(min(remaining, _TICK_SECONDS)):
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    selector.unregister(key.fileobj)
                elif key.data is output or len(errors) < _ERRORS_LIMIT:
                    key.data.extend(piece)
            if len(output) > limit:
                return bytes(output[:limit]), bytes(errors), "output"
            if on_tick is not None:
                on_tick(output)
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return bytes(output), bytes(errors), "time"
    return bytes(output), bytes(errors), ""
