"""A pytest plugin that replaces the engine: captures are small files, their outcome is what the test wants.

``FAKE_CAPTURE`` in the environment: ``done`` (default), ``failed`` (the collector fails), ``error`` (the
capture raises), ``bug`` (it raises something unexpected), ``unavailable``, ``slow`` (done after three looks).

The protocols say what the plugin asks of both; mypy holds the real classes and these to them.
"""

from __future__ import annotations

import json
import os
import tarfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_gencore import capture
from pytest_gencore.errors import CaptureError, UnavailableError
from pytest_gencore.request.context import NO_SECRETS, USUAL_PROTECTION
from pytest_gencore.run import run as run_module
from pytest_gencore.run.folder import Refusals
from pytest_gencore.run.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.request.context import GivenSecrets, Protection, SessionContext

MODE = os.environ.get("FAKE_CAPTURE", "done")


class EngineLike(Protocol):
    """What takes captures."""

    native: Any
    answers: bytes
    is_portable: bool

    def check_available(self) -> None: ...

    def prepare_capture(
        self, request: capture.CaptureRequest, *, await_seconds: float = 0, exits: bool = False
    ) -> capture.PreparedCapture: ...

    def is_full(self) -> bool: ...

    def capture(self, request: capture.CaptureRequest) -> capture.Capture: ...


class MakeEngine(Protocol):
    """How an engine is made."""

    def __call__(
        self,
        directory: Path,
        run_id: str,
        *,
        max_captures: int | None = None,
        max_bytes: int = 0,
        stderr_fd: int = -1,
        session: SessionContext | None = None,
        protection: Protection = USUAL_PROTECTION,
        find_secrets: Callable[[], GivenSecrets] = lambda: NO_SECRETS,
    ) -> EngineLike: ...


class RunLike(Protocol):
    """What knows the captures of a run."""

    def outcomes(self) -> list[Outcome]: ...

    def wait(
        self,
        *,
        progress: Callable[[list[Outcome]], None] | None = None,
        timeout: float | None = None,
    ) -> list[Outcome]: ...

    def find_problem(self) -> str: ...

    def end_reports(self) -> None: ...

    def refusals(self) -> Refusals: ...

    def close(self) -> None: ...


class MakeRun(Protocol):
    """How that is made."""

    def __call__(self, directory: Path, run_id: str) -> RunLike: ...


REAL_ENGINE: MakeEngine = capture.CaptureEngine
REAL_RUN: MakeRun = run_module.Run


class FakeNative:
    """Handlers and deadlines that never come."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class FakeEngine:
    """Writes at once what the real one lets a collector write."""

    is_portable = False

    native: Any = FakeNative()

    def __init__(
        self,
        directory: Path,
        run_id: str,
        *,
        max_captures: int | None = None,
        max_bytes: int = 0,
        stderr_fd: int = -1,
        session: SessionContext | None = None,
        protection: Protection = USUAL_PROTECTION,
        find_secrets: Callable[[], GivenSecrets] = lambda: NO_SECRETS,
    ) -> None:
        self.check_available()
        self.directory = directory
        self.state = directory / f".run-{run_id}"
        self.answers = b""
        self.count = 0

    def describe_children(self, *_: object, **_more: object) -> dict[str, object]:
        return {}

    @staticmethod
    def check_available() -> None:
        if MODE == "unavailable":
            raise UnavailableError("no extension", help_text="install a wheel")

    def prepare_capture(
        self, request: capture.CaptureRequest, *, await_seconds: float = 0, exits: bool = False
    ) -> capture.PreparedCapture:
        return capture.PreparedCapture(request, None)  # type: ignore[arg-type]

    def is_full(self) -> bool:
        return False

    def capture(self, request: capture.CaptureRequest) -> capture.Capture:
        if MODE == "error":
            raise CaptureError("core_pattern is a pipe", help_text="use another machine")
        if MODE == "bug":
            raise ZeroDivisionError("oops")
        self.count += 1
        top = f"core_20260101.000000.{os.getpid()}.{self.count:03}"
        archive = self.directory / f"{top}.tar.gz"
        self.state.mkdir(parents=True, exist_ok=True)
        content = json.dumps(
            {
                "nodeid": request.nodeid,
                "phase": request.phase,
                "attempt": request.attempt,
                "failure": request.failure_text,
            }
        ).encode()
        if MODE != "failed":
            with tarfile.open(archive, "x:gz") as tar:
                info = tarfile.TarInfo(f"{top}/gencore.json")
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
        facts = {"archive": str(archive), "nodeid": request.nodeid, "phase": request.phase}
        (self.state / f"{top}.json").write_text(json.dumps(facts))
        return capture.Capture(
            archive=archive, pid=os.getpid(), trigger=request.trigger, method=request.method
        )


class FakeRun:
    """Reads what FakeEngine left."""

    def __init__(self, directory: Path, run_id: str) -> None:
        self.state = directory / f".run-{run_id}"

    def outcomes(self, *, working: bool = False) -> list[Outcome]:
        outcomes = []
        for path in sorted(self.state.glob("*.json")):
            facts = json.loads(path.read_text())
            archive = Path(facts["archive"])
            failed = MODE == "failed"
            state = "working" if working else "failed" if failed else "done"
            outcomes.append(
                Outcome(
                    archive=archive,
                    state=state,  # type: ignore[arg-type]
                    reason="disk full" if failed else "",
                    nodeid=facts["nodeid"],
                    phase=facts["phase"],
                    worker_id=None,
                    trigger="failure",
                    method="kernel",
                    size_bytes=0 if failed else archive.stat().st_size,
                    bytes_done=0,
                    bytes_total=1000,
                )
            )
        return outcomes

    def wait(
        self,
        *,
        progress: Callable[[list[Outcome]], None] | None = None,
        timeout: float | None = None,
    ) -> list[Outcome]:
        for _ in range(3 if MODE == "slow" else 0):
            assert progress is not None
            progress(self.outcomes(working=True))
        return self.outcomes()

    def find_problem(self) -> str:
        return ""

    def end_reports(self) -> None:
        pass

    def refusals(self) -> Refusals:
        return Refusals(number=0, size=0, again=0)

    def close(self) -> None:
        for path in self.state.glob("*.json"):
            path.unlink()
        if self.state.exists():
            self.state.rmdir()


FAKE_ENGINE: MakeEngine = FakeEngine
FAKE_RUN: MakeRun = FakeRun
capture.CaptureEngine = FAKE_ENGINE  # type: ignore[misc,assignment]
run_module.Run = FAKE_RUN  # type: ignore[misc,assignment]
