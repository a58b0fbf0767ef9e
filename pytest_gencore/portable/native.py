"""What stands in for ``capture/_native``: the same functions, as far as Python can do what they do.

The snapshot is missing: facts are taken from the living process, and written by a helper. Crashes, cancels
and children are not captured, so what arms these does nothing here.
"""

from __future__ import annotations

import _thread
import json
import os
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.portable import cores, places
from pytest_gencore.portable.helper import Helper
from pytest_gencore.portable.kept import wall_ns
from pytest_gencore.portable.look import Clock, look
from pytest_gencore.portable.plan import Plan, Standby
from pytest_gencore.portable.watchdog import Watchdog
from pytest_gencore.protocol import CaptureResult, Deadline, Stage
from pytest_gencore.texts import name_subject, printable

if TYPE_CHECKING:
    from collections.abc import Callable

_getpid, _ident = os.getpid, _thread.get_ident
_join, _write = os.path.join, os.write
_decode = json.JSONDecoder().decode
"""Kept: tests patch these modules."""
_EXIT_STATUS: Final = 1
_exit = os._exit  # as the extension does it: nothing may keep a process that is over
_ENDED: Final[dict[int, str]] = {
    Deadline.GENCORE: "the test took too long, the process ends: gencore_exit_on_timeout",
    Deadline.SESSION: "the run made no progress for too long, the process ends: gencore_exit_on_timeout",
}
"""What the extension says, too."""
_NAME_LENGTH: Final = 1000
_BUSY_SECONDS: Final = 10.0
_CORE_SECONDS: Final = 30.0
_CORE_SECONDS_AT_DEADLINE: Final = 4.0
"""What a core may take: the test stands still; less than whoever waits for a deadline does."""


class PortableNative:
    """One for the process: it knows which test runs, and on which thread."""

    def __init__(self) -> None:
        self._helpers: dict[tuple[bytes, ...], Helper] = {}
        self._cores: cores.Cores | None = None
        self._lock = _thread.allocate_lock()
        self._owner = _getpid()
        self._test = "null"
        self._phase, self._attempt = 0, 1
        self._thread = _ident()
        self._watchdog = Watchdog(self._pass_deadline)

    # ---- captures ---------------------------------------------------------------------

    def prepare(
        self,
        argv: list[bytes],
        envp: list[bytes],
        directory: bytes,
        run_name: bytes,
        messages: list[bytes],
        stderr_fd: int,
        max_captures: int,
        /,
    ) -> Plan:
        """Start the helper, while the process is as it was; raises ``UnavailableError``."""
        key = (*argv, b"%d" % stderr_fd)
        if key not in self._helpers:
            self._helpers[key] = Helper(argv, envp, stderr_fd)
        self._cores = self._cores or cores.load()
        names = os.fsdecode(directory), os.fsdecode(run_name)
        texts = [os.fsdecode(message) for message in messages]
        return Plan(self._helpers[key], *names, max_captures, self._cores, texts, stderr_fd)

    def capture(
        self,
        plan: Plan,
        text: bytes,
        test: str,
        core_filter: int,
        _stop_threads: bool,
        claim: str | None,
        _hold_seconds: float,
        /,
    ) -> CaptureResult:
        """Look at this process, whose calling thread runs the test, and have the archive written."""
        standby = Standby(plan, text, claim, 0, is_only_told=False, core_filter=core_filter)
        return self._capture(standby, test, _ident(), 0, 1)

    def prepare_standby(
        self,
        plan: Plan,
        text: bytes,
        core_filter: int,
        _stop_threads: bool,
        claim: str | None,
        _hand_on_stderr: bool,
        await_seconds: float,
        is_only_told: bool,
        /,
    ) -> Standby:
        """Prepare a capture at a deadline."""
        return Standby(plan, text, claim, await_seconds, is_only_told, core_filter)

    def capture_prepared(self, standby: Standby, /, clock: Clock | None = None) -> CaptureResult:
        """Capture, of whichever test runs; only of what ends in an archive."""
        if standby.is_only_told:
            return _fail(Stage.LAUNCH)
        return self._capture(standby, self._test, self._thread, self._phase, self._attempt, clock)

    def _capture(
        self,
        standby: Standby,
        test: str,
        thread: int,
        phase: int,
        attempt: int,
        clock: Clock | None = None,
    ) -> CaptureResult:
        if self._owner != _getpid():  # the helper is that of our parent
            return _fail(Stage.LAUNCH)
        if not self._lock.acquire(timeout=_BUSY_SECONDS):
            return _fail(Stage.BUSY)
        started_ns = wall_ns()
        plan = standby.plan
        try:
            place = places.take(plan.directory, plan.run_name, plan.max_captures, standby.claim, test)
        except places.NoPlaceError as error:
            return _fail(error.stage, error.number)
        else:
            folder = _join(plan.directory, plan.run_name, place.name)
            try:
                text = standby.text + test.encode() + b', "claim": '
                text += f'"{place.claim}"}}'.encode() if place.claim else b"null}"
                seen = look(thread, clock)
                core = None
                if standby.core_filter and plan.cores is not None:
                    core = plan.cores.make(
                        folder, _CORE_SECONDS if clock is None else _CORE_SECONDS_AT_DEADLINE
                    )
                plan.helper.send(
                    {
                        "context": text.decode(),
                        "name": place.name,
                        "slot": place.slot,
                        "state_file": place.state_file,
                        "started_ns": started_ns,
                        "phase": phase,
                        "attempt": attempt,
                        "core": core,
                        **seen,
                    }
                )
            except OSError as error:
                _give_back(place, folder)
                return _fail(Stage.HANDOVER, error.errno or 0)
            except BaseException:
                _give_back(place, folder)
                raise
            return CaptureResult(0, 0, place.name, _getpid(), plan.helper.pid, 0)
        finally:
            self._lock.release()

    # ---- deadlines --------------------------------------------------------------------

    def set_deadline(self, which: int, seconds: float, standby: Standby, exits: bool, /) -> None:
        """Capture this process in so many seconds; ``exits``: then end it with status 1.

        Raises OSError for what is only told.
        """
        if which == Deadline.SLOW:
            reason = "slow tests are not told of here"
            raise OSError(reason)
        self._watchdog.set(which, seconds, (which, standby, exits, Clock(self._thread)))

    def cancel_deadline(self, which: int, /) -> tuple[bool, CaptureResult] | None:
        """Cancel a deadline; return what it came to, None if it had not passed."""
        return None if which == Deadline.SLOW else self._watchdog.cancel(which)

    def deadline_fired(self, which: int, /) -> tuple[bool, CaptureResult] | None:
        """Return what a deadline came to, None if it has not passed."""
        return None if which == Deadline.SLOW else self._watchdog.fired(which)

    def release_deadlines(self) -> None:
        """End the watchdog's thread; it begins again with the next deadline."""
        self._watchdog.stop()

    def note_progress(self) -> bool:
        """Take notice of progress; tell whether the deadline of the run has to be set again."""
        return self._watchdog.restart(Deadline.SESSION)

    def _pass_deadline(
        self, what: tuple[int, Standby, bool, Clock], late: float
    ) -> tuple[bool, CaptureResult]:
        which, standby, exits, clock = what
        clock.late = late
        try:
            result = self.capture_prepared(standby, clock)
        except Exception:  # noqa: BLE001 - whoever waits for the deadline must learn that it has passed
            result = _fail(Stage.DIED)
        if exits:
            self._end(which, standby, result)
        return True, result

    def _end(self, which: int, standby: Standby, result: CaptureResult) -> None:
        """End the process, whatever a test has patched, and say why; what was captured the helper tells."""
        plan = standby.plan
        try:
            text = f"gencore: {_ENDED[which]}\n" if which in _ENDED else ""
            if result.stage:
                number = f" (errno {result.error})" if result.error else ""
                reason = f"{plan.messages[result.stage]}{number}"
                text = f"gencore: no core archive of {_name(self._test)}: {reason}\n{text}"
            if plan.stderr_fd >= 0:
                _write(plan.stderr_fd, text.encode(errors="backslashreplace"))
            places.await_end(plan.directory, plan.run_name, result.name, standby.await_seconds)
        finally:
            _exit(_EXIT_STATUS)

    # ---- where the process is ----------------------------------------------------------

    def set_test(self, test: str, /) -> None:
        """Say which test runs, or what else is done."""
        self._test = test
        self._phase, self._attempt = 0, 1
        self.note_progress()

    def begin_test(self, test: str, /) -> None:
        """Say that a test begins, on this thread."""
        self._thread = _ident()
        self.set_test(test)

    set_last_test = set_test

    def set_test_phase(self, phase: int, attempt: int, /) -> None:
        """Say in which phase it is."""
        self._phase, self._attempt = phase, attempt
        self.note_progress()

    def set_test_thread(self) -> None:
        """Say that tests run on this thread."""
        self._thread = _ident()

    def is_crashing(self) -> bool:
        """Return False: crashes are not seen here."""
        return False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return what arms crashes, cancels and children, which nobody captures here: it does nothing."""
        if name in _NOT_HERE:
            return _do_nothing
        raise AttributeError(name)


_NOT_HERE: Final = frozenset(
    (
        *("adopt_trace", "arm_probe", "disarm_probe", "forget_handlers", "note", "release_forked"),
        *("restore_handlers", "set_cancel_standbys", "set_crash_standby", "unwatch_cancels"),
        *("unwatch_crashes", "watch_cancels"),
    )
)


def _do_nothing(*_arguments: object) -> None:
    """Do nothing."""


def _name(test: str) -> str:
    """Return which test it is; ``test`` is as ``encode_place`` returns it."""
    found = _decode(test)
    nodeid, place = found if isinstance(found, list) else (found, "")
    return printable(name_subject(nodeid, place, "(no test)"), _NAME_LENGTH)


def _give_back(place: places.Place, folder: str) -> None:
    cores.discard(folder)
    place.give_back()


def _fail(stage: Stage, number: int = 0) -> CaptureResult:
    return CaptureResult(stage, number, "", 0, 0, 0)


NATIVE: Final = PortableNative()
