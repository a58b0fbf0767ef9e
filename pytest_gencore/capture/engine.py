"""The engine: everything a capture needs, made while the process is still sane."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Literal, NamedTuple

from pytest_gencore.capture import start
from pytest_gencore.capture.python_stacks import read_stacks
from pytest_gencore.capture.stages import ERRNO_SAYS_NOTHING, STAGES, find_help
from pytest_gencore.errors import AlreadyCapturedError, CaptureError, LimitError
from pytest_gencore.installed import NO_EXTENSION, has_extension
from pytest_gencore.machine.memory import judge, read_headroom, read_rss
from pytest_gencore.protocol import LIST_HEAD, LIST_SLOT, CaptureResult, Stage
from pytest_gencore.request.context import (
    NO_SECRETS,
    USUAL_PROTECTION,
    ContextWriter,
    SessionContext,
    encode_place,
)
from pytest_gencore.request.model import Capture, CaptureRequest
from pytest_gencore.run.files import ANSWER, FULL, QUOTA
from pytest_gencore.run.folder import run_folder_name
from pytest_gencore.triggers import TRIGGERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_gencore.capture._native import Plan, Standby
    from pytest_gencore.request.context import GivenSecrets, Protection

_access = os.access
"""Kept as it is: a test of this process may have patched ``os``."""
_KEPT_ENVIRONMENT = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "TMPDIR")
"""All that a collector inherits: no coverage hooks, no preloads, no secrets."""

HOLD_SECONDS = 600.0
"""How long a process stands still for its collector at most, if memory is short."""


class CaptureEngine:
    """Prepared once; afterwards ``capture`` calls no Python function that a test could have patched."""

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
        """Import the extension and prepare the start of collectors; creates no file.

        ``directory`` must be absolute; the first capture makes it. ``run_id`` comes from
        ``pytest_gencore.run.folder.new_run_id``. ``max_captures`` and ``max_bytes`` (of finished archives)
        bound all processes of the run together; None and 0: no bound. Signal handlers write to
        ``stderr_fd``, which stays the caller's. ``protection`` is for all that collectors write;
        ``find_secrets`` is asked for more secret values when a capture is made or prepared.
        Raises ``UnavailableError``.
        """
        if not directory.is_absolute():
            message = f"the artifact directory must be absolute: {directory}"
            raise ValueError(message)
        self.native = start.load_extension()
        """The extension, for handlers and deadlines; or what stands in for it."""
        self.is_portable = not has_extension()
        """Whether it is that: only failures and deadlines are captured."""
        self._has_cores = self.is_portable and start.may_have_cores(seals=bool(protection.recipients))
        command = start.collector_command(seals=bool(protection.recipients))
        self._directory = directory
        folder = directory / run_folder_name(run_id)
        self.answers = os.fsencode(folder / ANSWER.named())
        """Where children answer collectors: the path without their id."""
        slot = os.fsencode(folder / QUOTA.named())
        numbers = range(max_captures or 0, 0, -1)
        self._slots = None if max_captures is None else [b"%b%d" % (slot, number) for number in numbers]
        self._full = os.fsencode(folder / FULL.named())
        self._messages = {
            "directory": str(directory),
            "executable": sys.executable,
            "max_captures": str(max_captures),
        }
        self.writer = ContextWriter(  # encodes what collectors are told
            start.describe_run(
                directory,
                run_id,
                max_bytes=max_bytes,
                session=session or SessionContext(),
                protection=protection,
            )
        )
        self._find_secrets = find_secrets
        self._secrets = NO_SECRETS
        limit = -1 if max_captures is None else max_captures
        common = (
            [os.fsencode(argument) for argument in command],
            [os.fsencode(f"{name}={os.environ[name]}") for name in _KEPT_ENVIRONMENT if name in os.environ],
            os.fsencode(directory),
            os.fsencode(run_folder_name(run_id)),
            [os.fsencode(self._describe_stage(stage)) for stage in Stage],
        )
        self.plan: Plan = self.native.prepare(*common, stderr_fd, limit)
        self._plan_of_children = (*common, -1, limit)

    @staticmethod
    def check_available() -> None:
        """Raise ``UnavailableError`` if this process cannot start captures; nothing is prepared or opened."""
        start.load_extension()
        start.collector_command()

    def capture(self, request: CaptureRequest) -> Capture:
        """Take a snapshot of this process and start its collector; returns after about one fork.

        The archive is finished later, see ``Run``. Raises ``CaptureError``; the process is unharmed in any
        case.
        """
        request = self._limit(request)
        result = self.native.capture(
            self.plan,
            self.writer.encode(request, stacks=read_stacks(), secrets=self._ask_secrets()),
            encode_place(request.nodeid, request.place),
            request.effective_filter,
            request.threads == "all",
            find_claim(request),
            HOLD_SECONDS if self.find_room() == "hold" else 0.0,
        )
        return self.read_result(request, CaptureResult(*result))

    def is_full(self) -> bool:
        """Tell whether a capture would be refused: the run has as many, or as large ones, as it may have.

        A capture that fails makes place for another one: so it can be false again.
        """
        has_all = self._slots is not None and all(_access(slot, os.F_OK) for slot in self._slots)
        return has_all or _access(self._full, os.F_OK)

    def find_room(self) -> Literal["go", "hold"]:
        """Say whether this process must stand still until its snapshot is read: see ``headroom``.

        Raises CaptureError if there is too little memory even for that.
        """
        if self.is_portable:
            return "go"  # it makes no copy of itself
        rss_bytes = read_rss()
        verdict = judge(read_headroom(), rss_bytes)
        if verdict == "refuse":
            message = f"too little memory is left to capture a process of {rss_bytes >> 20} MiB"
            raise CaptureError(message, help_text="free memory, or raise the memory limit of the container")
        return verdict

    def read_result(self, request: CaptureRequest, result: CaptureResult) -> Capture:
        """Return the capture that the extension tells of; raises as ``capture``."""
        stage = Stage(result.stage)
        if stage is Stage.NONE:
            return Capture(
                archive=self._directory / f"{result.name}.tar.gz",
                pid=result.pid,
                trigger=request.trigger,
                method=request.method,
            )
        message = self._describe_stage(stage)
        if stage is Stage.CLAIMED:
            raise AlreadyCapturedError(message)
        if stage in (Stage.LIMIT, Stage.FULL):
            raise LimitError(message, help_text=STAGES[stage][1])
        if stage not in ERRNO_SAYS_NOTHING:
            message += f": {errno.errorcode.get(result.error, result.error)} {os.strerror(result.error)}"
        raise CaptureError(message, help_text=find_help(stage, result.error))

    def prepare_capture(
        self, request: CaptureRequest, *, await_seconds: float = 0, exits: bool = False
    ) -> PreparedCapture:
        """Prepare a capture by a signal handler: of a crash, at a deadline, or of a run that is cancelled.

        ``await_seconds``: the process is about to end then (``exits``: in any case), and waits for its
        collector that long at most, which tells what it found on the plan's ``stderr_fd``. Test, phase and
        attempt of the request do not count: they are those of ``set_test`` and ``set_test_phase``.
        """
        exits |= await_seconds > 0
        request = self._limit(request)
        secrets = self._ask_secrets()
        arguments = self._describe_standby(request, secrets, await_seconds=await_seconds, exits=exits)
        return PreparedCapture(request, self.native.prepare_standby(self.plan, *arguments))

    def tell(self, request: CaptureRequest) -> Capture:
        """Have this process described, whichever test runs, without an archive; raises as ``capture``.

        Called by a thread that does not run the tests. It counts for no limit of the run.
        """
        seconds = HOLD_SECONDS if self.find_room() == "hold" else 0.0
        arguments = self._describe_standby(request, self._secrets, await_seconds=seconds)
        standby = self.native.prepare_standby(self.plan, *arguments)
        return self.read_result(request, CaptureResult(*self.native.capture_prepared(standby)))

    def describe_children(
        self, requests: Iterable[CaptureRequest | None], *, signal: int, started: Path
    ) -> dict[str, object]:
        """Return what ``spawned`` needs: requests of a child, the signal that asks it, the list of tests.

        It goes into a file, so it has no secrets: a child's are those of its own environment.
        """
        standbys = [request and self._describe_standby(request, NO_SECRETS) for request in requests]
        return {
            "library": self.native.__file__,
            "plan": self._plan_of_children,
            "standbys": standbys,
            "answers": self.answers,
            "signal": signal,
            "started": (os.fsencode(started), LIST_HEAD, LIST_SLOT),
        }

    def _limit(self, request: CaptureRequest) -> CaptureRequest:
        """Return what can be had of a request where the extension is not built."""
        if not self.is_portable:
            return request
        if request.product == "core":
            message = f"a core cannot be made: {NO_EXTENSION}"
            raise CaptureError(message, help_text="collect_core makes an archive of type text")
        has_core = self._has_cores and request.type == "full" and request.core_filter != 0
        return request._replace(
            type="full" if has_core else "text",
            core_filter=request.core_filter if has_core else 0,  # 0: what stands in makes no core
            method="auto",
            moment="report",
            dumps_children=False,
        )

    def _ask_secrets(self) -> GivenSecrets:
        self._secrets = self._find_secrets()
        return self._secrets

    def _describe_standby(
        self,
        request: CaptureRequest,
        secrets: GivenSecrets,
        *,
        await_seconds: float = 0,
        exits: bool = False,
    ) -> tuple[object, ...]:
        kind = TRIGGERS[request.trigger]
        tells = exits or kind.is_told_at_once or kind.may_go_on
        return (
            self.writer.prepare(request, exits=exits, secrets=secrets),
            request.effective_filter,
            request.threads == "all",
            find_claim(request),
            tells and not request.child_of,  # which may have closed the descriptor
            await_seconds,
            kind.is_only_told,
        )

    def _describe_stage(self, stage: Stage) -> str:
        what, _ = STAGES[stage]
        return what.format(**self._messages)


class PreparedCapture(NamedTuple):
    """A capture that a signal handler may make, of whichever test runs then."""

    request: CaptureRequest
    standby: Standby
    """What the handler uses, as it is."""
    slow: Standby | None = None
    """For a deadline: what tells that a part of it has passed; None: nobody shall."""


def find_claim(request: CaptureRequest) -> str | None:
    """Return with what only one capture of each test is made; None if there may be several: on request.

    What belongs to no test counts as one: all workers crash in the same module that they import.
    """
    claim = TRIGGERS[request.trigger].claim
    if claim is not None and request.child_of:
        claim = f"child {claim}"
    return claim if claim is None or not request.once_a_worker else f"{claim}{request.worker_id} "
