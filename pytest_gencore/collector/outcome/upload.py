"""Upload what a capture has made: a program of the run's own Python does it, the collector watches it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.abort import CaptureAborted, interrupts
from pytest_gencore.collector.log import log
from pytest_gencore.collector.source.environment import read_usual_environment
from pytest_gencore.collector.source.mapped_memory import PagedMemory
from pytest_gencore.collector.source.procfs import read_mappings
from pytest_gencore.run.concurrency import collector_slot
from pytest_gencore.run.files import STORE, UPLOAD_SLOT, UPLOADED, find_size, page_beside, text_beside
from pytest_gencore.run.folder import run_id_of
from pytest_gencore.run.library_index import LibraryIndex
from pytest_gencore.run.pinned import read_regular
from pytest_gencore.store.url import join
from pytest_gencore.texts import printable
from pytest_gencore.unpatched import NO_LINK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_gencore.collector.outcome.state_file import StateFile
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot

_SECONDS: Final = 3600.0
"""For one capture."""
_PATIENCE_SECONDS: Final = 60.0
"""How long the program tries without progress; not at all where the store has failed before."""
_STALL_SECONDS: Final = 120.0
"""After so long without a part that is there the program is ended, see ``store.upload``."""
_HURRY_SECONDS: Final = 20.0
"""Likewise where the store has failed before, and has taken nothing of this capture."""
_LIST_LIMIT: Final = 1 << 20
_MEMORY: Final = 2 << 30
_OUTPUT: Final = 4 << 20
_LENGTH: Final = 400


class _NotUploadedError(Exception):
    """The archive is not in the store; what went wrong is no fault of the store's."""


class _StoreFailedError(_NotUploadedError):
    """The store said no, or could not be reached."""


class Uploader:
    """Uploads one capture; before ``look`` it knows no credentials, and is not to be used."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._environment: Mapping[str, str] = {}
        self._folder = join(handover.context.run.session.store, run_id_of(handover.context.run.run_folder))
        self._mark: Path = handover.run_folder / STORE.named()
        self._uploaded: Path = handover.run_folder / UPLOADED.named()
        self._moved_at = 0.0
        self._done = -1
        self.is_news = True
        """Whether the store has not failed before, if it has now."""

    @property
    def is_wanted(self) -> bool:
        """Whether what is made is uploaded; never a core alone, which belongs to whoever asked for it."""
        context = self._handover.context
        return bool(context.run.session.upload_command and context.request.product == "archive")

    def look(self, snapshot: Snapshot) -> None:
        """Read the environment of the captured process, with the credentials, while its snapshot is there."""
        if not self.is_wanted:
            return
        with contextlib.suppress(OSError):
            mappings = read_mappings(snapshot.pid, with_sizes=False)
            memory = PagedMemory(snapshot, mappings)
            executable = self._handover.context.run.executable
            self._environment = read_usual_environment(snapshot.pid, memory, mappings, executable)

    def upload(self, archive: Path, state: StateFile, check: Callable[[], None]) -> str:
        """Upload an archive and what lies beside it; return why that failed, empty if all is there.

        Never raises. The archive itself comes last. ``check`` is called about once a second.
        """
        try:
            with (
                interrupts(),
                collector_slot(self._handover.run_folder, lambda: None, check, kind=UPLOAD_SLOT),
            ):
                self._run_and_note(archive, state, check)
        except (_NotUploadedError, CaptureAborted, OSError, ValueError) as error:
            return self._tell(str(error))
        return ""

    def find_url(self, archive: Path) -> str:
        """Return where an archive is, once it is uploaded."""
        return join(self._folder, archive.name)

    def _run_and_note(self, archive: Path, state: StateFile, check: Callable[[], None]) -> None:
        """Run the program, and note how the store is: the next one to have the slot knows it."""
        try:
            self._run(archive, state, check)
        except _StoreFailedError:
            self._note_failure()
            raise
        with contextlib.suppress(OSError):
            self._mark.unlink(missing_ok=True)

    def _note_failure(self) -> None:
        """Note that the store has failed, and whether that is known of another upload."""
        with contextlib.suppress(OSError):  # the folder of the run is gone
            try:
                os.close(os.open(self._mark, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600))
            except FileExistsError:
                self.is_news = False

    def _has_failed(self) -> bool:
        """Whether the store has failed before; where the folder of the run is gone that is not known."""
        try:
            return self._mark.exists()
        except OSError:
            return False

    def _run(self, archive: Path, state: StateFile, check: Callable[[], None]) -> None:
        """Run the program; raises _NotUploadedError, CaptureAborted, OSError and ValueError."""
        from pytest_gencore.sandbox.bounded import run_bounded
        from pytest_gencore.sandbox.limits import Limits, limited

        libraries = self._find_libraries(archive)
        beside = [
            path for path in (text_beside(archive), page_beside(archive)) if find_size(path) is not None
        ]
        paths = [*beside, *libraries, archive]
        session = self._handover.context.run.session
        patience = 0.0 if self._has_failed() else _PATIENCE_SECONDS
        command = [*session.upload_command, str(patience), self._folder, *map(str, paths)]
        total = sum(find_size(path) or 0 for path in paths)

        def look(output: bytes | bytearray) -> None:
            self._look(output, state, total)
            check()

        self._moved_at, self._done = time.monotonic(), -1
        ended = run_bounded(
            limited(command, Limits(memory=_MEMORY)),
            seconds=_SECONDS,
            output_limit=_OUTPUT,
            environment=self._environment,
            directory=_find_directory(session.folders.invocation_dir),
            on_tick=look,
        )
        if ended.stopped:
            message = f"it was not finished after {_SECONDS:g} s"
            raise _StoreFailedError(message)
        if ended.status:
            lines = ended.errors.decode(errors="replace").strip().splitlines()
            kind = _NotUploadedError if ended.status == os.EX_NOINPUT else _StoreFailedError
            raise kind(lines[-1] if lines else f"status {ended.status}")
        self._note_uploaded(libraries)

    def _find_libraries(self, archive: Path) -> list[Path]:
        """Return the archives of libraries that the run shares and that are not in the store yet."""
        if not self._handover.context.request.shares_libraries:
            return []
        names = set(LibraryIndex(self._handover.run_folder).find(archive.parent).values())
        with contextlib.suppress(OSError):  # none is there, or the folder of the run is gone
            names.difference_update(os.fsdecode(read_regular(self._uploaded, _LIST_LIMIT)).splitlines())
        return [path for path in map(archive.with_name, sorted(names)) if find_size(path) is not None]

    def _note_uploaded(self, libraries: list[Path]) -> None:
        """Note that they are in the store; if that cannot be done, others upload them again."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINK
        with contextlib.suppress(OSError), os.fdopen(os.open(self._uploaded, flags, 0o600), "wb") as file:
            file.write(b"".join(os.fsencode(path.name) + b"\n" for path in libraries))

    def _look(self, output: bytes | bytearray, state: StateFile, total: int) -> None:
        """See how far it is; raises _StoreFailedError if that has not changed for too long."""
        number = output.rpartition(b"\n")[0].rpartition(b"\n")[2]
        done = int(number) if number.isdigit() else 0
        if done != self._done:
            self._done, self._moved_at = done, time.monotonic()
            state.upload(done, total)
            return
        stall = _HURRY_SECONDS if done == 0 and self._has_failed() else _STALL_SECONDS
        if time.monotonic() - self._moved_at > stall:
            message = f"the store took no further part within {stall:g} s"
            raise _StoreFailedError(message)

    def _tell(self, reason: str) -> str:
        store = self._handover.context.run.session.store
        problem = f"not uploaded to {store}: {printable(reason, _LENGTH)}"
        log(problem)
        return problem


def _find_directory(invoked_in: str) -> str:
    """Return where relative paths of the environment begin, as for a file with credentials."""
    return invoked_in if invoked_in and os.access(f"{invoked_in}/.", os.X_OK) else "/"
