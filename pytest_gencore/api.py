"""Captures on request: the public functions."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    import os

    from pytest_gencore.capture import Capture, CaptureRequest, Run, Threads
    from pytest_gencore.methods import MethodName

DEFAULT_DIRECTORY = "gencore-artifacts"


def create_core(
    directory: str | os.PathLike[str] | None = None,
    *,
    method: MethodName = "auto",
    threads: Threads = "all",
    core_filter: int = 0xFF,
) -> Future[Path]:
    """Make a core file of this process as it is now; the process goes on.

    The snapshot is taken before this returns. The future's result is the finished core file in
    ``directory`` (default: ``gencore-artifacts`` in the working directory), which belongs to the caller;
    its exception is an ``ArchiveError``. ``core_filter`` are the bits of ``coredump_filter``, see core(5).
    Raises ``UnavailableError`` or ``CaptureError`` if no snapshot can be taken, ValueError for a method that
    does not exist.
    """
    return _request(directory, product="core", method=method, threads=threads, core_filter=core_filter)


def collect_core(
    directory: str | os.PathLike[str] | None = None,
    *,
    method: MethodName = "auto",
    threads: Threads = "all",
    core_filter: int = 0xFF,
) -> Future[Path]:
    """Make a ``.tar.gz`` with a core of this process and all that is needed to open it elsewhere.

    As ``create_core``, but the future's result is the finished archive.
    """
    return _request(directory, product="archive", method=method, threads=threads, core_filter=core_filter)


def _request(
    directory: str | os.PathLike[str] | None,
    *,
    product: Literal["archive", "core"],
    method: MethodName,
    threads: Threads,
    core_filter: int,
) -> Future[Path]:
    from pytest_gencore.capture import CaptureRequest
    from pytest_gencore.methods import parse_method

    request = CaptureRequest(
        trigger="request",
        method=parse_method(method),
        threads=threads,
        core_filter=core_filter,
        product=product,
    )
    return start_capture(Path(DEFAULT_DIRECTORY if directory is None else directory), request)


def start_capture(directory: Path, request: CaptureRequest) -> Future[Path]:
    """Take a snapshot now; a thread waits for its collector. Raises as ``create_core``."""
    from pytest_gencore.capture import CaptureEngine, Run, new_run_id

    folder = directory.absolute()
    run_id = new_run_id()
    capture = CaptureEngine(folder, run_id).capture(request)
    future: Future[Path] = Future()
    future.set_running_or_notify_cancel()
    waiter = threading.Thread(
        target=_wait_for_result, args=(Run(folder, run_id), capture, future), name="gencore-wait", daemon=True
    )
    waiter.start()
    return future


def _wait_for_result(run: Run, capture: Capture, future: Future[Path]) -> None:
    try:
        (outcome,) = run.wait()
        run.close()
    except Exception as error:  # noqa: BLE001 - whoever waits for the future must learn of it
        future.set_exception(error)
        return
    if outcome.state == "done":
        future.set_result(outcome.archive)
    else:
        message = f"no {capture.archive.name}: {outcome.reason}"
        future.set_exception(ArchiveError(message))
