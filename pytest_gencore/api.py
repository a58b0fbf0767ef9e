"""Captures on request: the public functions."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from pytest_gencore.capture import Capture, CaptureRequest, Threads
    from pytest_gencore.contents import DumpType, Libraries
    from pytest_gencore.methods import MethodName
    from pytest_gencore.run.opening import AnyRun
    from pytest_gencore.run.outcome import Outcome

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
    return _request(directory, method, threads=threads, core_filter=core_filter, product="core")


def collect_core(
    directory: str | os.PathLike[str] | None = None,
    *,
    method: MethodName = "auto",
    threads: Threads = "all",
    core_filter: int = 0xFF,
    type: DumpType = "full",  # noqa: A002 - as the option is called
    libraries: Libraries = "each",
) -> Future[Path]:
    """Make a ``.tar.gz`` with a core of this process and all that is needed to open it elsewhere.

    As ``create_core``, but the future's result is the finished archive. ``type`` and ``libraries`` are what
    ``--gencore-type`` and ``--gencore-libraries`` take; ValueError for anything else.
    """
    from pytest_gencore.contents import parse_dump_type, parse_libraries

    return _request(
        directory,
        method,
        threads=threads,
        core_filter=core_filter,
        type=parse_dump_type(type),
        libraries=parse_libraries(libraries),
    )


def _request(directory: str | os.PathLike[str] | None, method: MethodName, **fields: Any) -> Future[Path]:
    """Start a capture; ``fields`` are more of ``CaptureRequest``."""
    from pytest_gencore.capture import CaptureRequest
    from pytest_gencore.methods import parse_method

    request = CaptureRequest(trigger="request", method=parse_method(method), **fields)
    return start_capture(Path(DEFAULT_DIRECTORY if directory is None else directory), request)


def start_capture(directory: Path, request: CaptureRequest, **options: Any) -> Future[Path]:
    """Take a snapshot now; a thread waits for its collector. Raises as ``create_core``.

    ``options`` are those of ``CaptureEngine``.
    """
    from pytest_gencore.capture import CaptureEngine

    folder = directory.absolute()
    requests = _requests_to(folder)
    run_id = requests.begin()
    try:
        capture = CaptureEngine(folder, run_id, **options).capture(request)
    except BaseException:
        requests.end()
        raise
    future: Future[Path] = Future()
    future.set_running_or_notify_cancel()
    waiter = threading.Thread(
        target=_wait_for_result, args=(requests, capture, future), name="gencore-wait", daemon=True
    )
    waiter.start()
    return future


class _Requests:
    """The requests of this process to one directory: a run, so that few collectors of them work at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._run_id = ""
        self._count = 0

    def begin(self) -> str:
        """Return the id of the run; ``end`` must follow. Raises UnavailableError."""
        from pytest_gencore.run.folder import new_run_id

        with self._lock:
            self._run_id = self._run_id or new_run_id()
            self._count += 1
            return self._run_id

    def wait_for(self, name: str) -> Outcome:
        """Wait for the capture of this name."""
        return self._run().wait_for(name)

    def end(self) -> None:
        """Close the run behind the last request."""
        with self._lock:
            self._count -= 1
            if not self._count:
                self._run().close()
                self._run_id = ""

    def _run(self) -> AnyRun:
        from pytest_gencore.run.opening import open_run

        return open_run(self._directory, self._run_id)


_REQUESTS: dict[tuple[int, Path], _Requests] = {}
"""By process, as a fork has a copy of this, and directory."""


def _requests_to(directory: Path) -> _Requests:
    return _REQUESTS.setdefault((os.getpid(), directory), _Requests(directory))


def _wait_for_result(requests: _Requests, capture: Capture, future: Future[Path]) -> None:
    try:
        try:
            outcome = requests.wait_for(capture.name)
        finally:
            requests.end()
    except Exception as error:  # noqa: BLE001 - whoever waits for the future must learn of it
        future.set_exception(error)
        return
    if outcome.state == "done":
        future.set_result(outcome.archive)
    else:
        message = f"no {capture.archive.name}: {outcome.reason}"
        future.set_exception(ArchiveError(message))
