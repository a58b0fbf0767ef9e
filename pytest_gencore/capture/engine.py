"""The engine: everything a capture needs, made while the process is still sane."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import platform
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gencore.capture.request import Capture, CaptureRequest
from pytest_gencore.errors import CaptureError, UnavailableError
from pytest_gencore.runfolder import run_folder_name
from pytest_gencore.version import __version__

if TYPE_CHECKING:
    from types import FrameType

_START = "import sys; sys.path += sys.argv[1:]; from pytest_gencore.collector.main import main; main()"
"""The collector's program: without site-packages' start-up code, whatever way the package was found."""

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")  # noqa: PTH118, PTH120 - as co_filename

_KEPT_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "TMPDIR")
"""All that a collector inherits: no coverage hooks, no preloads, no secrets."""

_STAGES = {
    1: ("another capture is still being taken", ""),
    2: ("no memory for the table of threads", ""),
    3: (
        "cannot create a process",
        "the limit on processes (ulimit -u, or pids.max of the container) or on memory is reached",
    ),
    4: ("cannot make or open the directory {directory}", "choose another one with --gencore-dir"),
    5: ("cannot make a private folder in {directory}", "choose another directory with --gencore-dir"),
    6: ("cannot create an archive in {directory}", "choose another directory with --gencore-dir"),
    7: ("cannot create work files in {directory}", "choose another directory with --gencore-dir"),
    8: (
        "cannot fork a snapshot of the process",
        "the limit on processes (ulimit -u, or pids.max of the container) or on memory is reached",
    ),
    9: ("cannot hand over to the collector", ""),
    10: ("cannot start the collector with {executable}", "is this Python still where it was started from?"),
    11: ("the collector was killed while it started", "out of memory?"),
}
"""``enum gencore_stage`` of csrc/gencore.h: what failed, and what would help."""


class CaptureEngine:
    """Prepared once; afterwards ``capture`` calls no Python function that a test could have patched."""

    def __init__(self, directory: Path, run_id: str) -> None:
        """Import the extension and prepare the start of collectors; creates no file.

        ``directory`` must be absolute; the first capture makes it. ``run_id`` comes from
        ``pytest_gencore.capture.run.new_run_id``. Raises ``UnavailableError``.
        """
        if not directory.is_absolute():
            message = f"the artifact directory must be absolute: {directory}"
            raise ValueError(message)
        self._native = _load_extension()
        command = _collector_command()
        self._directory = directory
        self._messages = {"directory": str(directory), "executable": sys.executable}
        self._encode = json.JSONEncoder(ensure_ascii=True).encode
        self._constants = _describe_process(directory, run_folder_name(run_id))
        self._plan = self._native.prepare(
            [os.fsencode(argument) for argument in command],
            [os.fsencode(f"{name}={os.environ[name]}") for name in _KEPT_ENVIRONMENT if name in os.environ],
            os.fsencode(directory),
            os.fsencode(run_folder_name(run_id)),
        )

    def capture(self, request: CaptureRequest) -> Capture:
        """Take a snapshot of this process and start its collector; returns after about one fork.

        The archive is finished later, see ``Run``. Raises ``CaptureError``; the process is unharmed in any
        case.
        """
        text = self._encode({**self._constants, **_describe_request(request)})
        stage, error, name, pid, _, _ = self._native.capture(
            self._plan, text.encode("ascii"), request.core_filter, request.threads == "all"
        )
        if stage:
            what, help_text = _STAGES[stage]
            msg = f"{what.format(**self._messages)}: {errno.errorcode.get(error, error)} {os.strerror(error)}"
            raise CaptureError(
                msg,
                help_text=help_text,
            )
        return Capture(
            archive=self._directory / f"{name}.tar.gz",
            pid=pid,
            trigger=request.trigger,
            method=request.method,
        )


def _load_extension() -> Any:
    if sys.platform != "linux":
        message = f"captures need Linux, this is {sys.platform}"
        raise UnavailableError(message)
    try:
        from pytest_gencore.capture import _native
    except ImportError as error:
        message = f"the extension pytest_gencore.capture._native cannot be loaded: {error}"
        raise UnavailableError(message, help_text="in a checkout run: pip install --editable .") from error
    return _native


def _collector_command() -> list[str]:
    """Return the command of a collector: this interpreter, isolated, with just the paths it needs."""
    if not sys.executable or not os.access(sys.executable, os.X_OK):
        message = f"the Python interpreter cannot be started again: sys.executable is {sys.executable!r}"
        raise UnavailableError(message)
    paths = [str(Path(__file__).resolve().parents[2])]
    for optional in ("isal", "psutil"):
        spec = importlib.util.find_spec(optional)
        if spec is not None and spec.origin is not None:
            folder = str(Path(spec.origin).resolve().parents[1])
            if folder not in paths:
                paths.append(folder)
    return [sys.executable, "-I", "-S", "-c", _START, *paths]


def _describe_process(directory: Path, run_folder: str) -> dict[str, object]:
    """Return what is the same for every capture of the run."""
    uname = os.uname()
    return {
        "directory": os.fsencode(directory).decode("latin-1"),  # whatever the locale of either side is
        "run_folder": run_folder,
        "executable": str(Path(sys.executable).resolve()),
        "python": {
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
        },
        "machine": uname.machine,
        "kernel": f"{uname.sysname} {uname.release}",
        "hostname": uname.nodename,
        "pytest_gencore": __version__,
    }


def _describe_request(request: CaptureRequest) -> dict[str, object]:
    return {
        "trigger": request.trigger,
        "method": request.method,
        "threads": request.threads,
        "core_filter": request.core_filter,
        "nodeid": request.nodeid,
        "phase": request.phase,
        "attempt": request.attempt,
        "worker_id": request.worker_id,
        "failure_text": request.failure_text,
        "product": request.product,
        "stacks": _python_stacks(),
    }


def _python_stacks() -> list[dict[str, object]]:
    """Return every Python thread's frames, innermost first; no file is read."""
    own = threading.get_ident()
    known = dict(getattr(threading, "_active", {}))  # threading.enumerate() takes a lock
    stacks: list[dict[str, object]] = []
    for ident, top in sys._current_frames().items():
        frame: FrameType | None = top
        while ident == own and frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
            frame = frame.f_back  # how the capture came about says nothing about the test
        frames = []
        while frame is not None:
            code = frame.f_code
            frames.append([code.co_filename, frame.f_lineno, getattr(code, "co_qualname", code.co_name)])
            frame = frame.f_back
        thread = known.get(ident)
        stacks.append(
            {
                "ident": ident,
                "name": getattr(thread, "name", None),
                "native_id": getattr(thread, "native_id", None),
                "frames": frames,
            }
        )
    return sorted(stacks, key=lambda stack: stack["ident"] != own)
