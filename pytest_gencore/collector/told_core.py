"""The core that a process without the extension has let its system write: it lies in the run's folder."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from pytest_gencore.archive.manifest import Thread
from pytest_gencore.collector.abort import CaptureDropped
from pytest_gencore.collector.core.core_stream import CoreStream, find_extents
from pytest_gencore.errors import ArchiveError
from pytest_gencore.installed import NO_EXTENSION
from pytest_gencore.machine.disk import Disk
from pytest_gencore.methods import DEFAULT_METHOD
from pytest_gencore.run.files import DROP, STATE
from pytest_gencore.run.folder import remove_tree
from pytest_gencore.run.state import replace_state
from pytest_gencore.systems import METHOD_REASON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_gencore.archive.manifest import Manifest
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.stacks.model import PythonThread
    from pytest_gencore.methods import CoreMethod
    from pytest_gencore.run.state import CaptureState

_TELL_SECONDS: Final = 1.0
"""Much less than what a silent helper is given."""
_ON_DISK: Final = "the core was on the disk, unredacted, until it was in the archive"
_NO_LIBRARIES: Final = "no libraries are in the archive: they are those of the system that made it"
_OF_ANOTHER: Final = "the core has the registers of the thread that captured, and of no other"


class ToldCore(NamedTuple):
    """What the process says of it."""

    path: str | None
    """None: there is none."""
    reason: str
    """Why not; empty if none was wanted."""
    method: CoreMethod
    thread: int | None
    """The kernel's id of the thread whose registers it has; None: it has those of all."""

    @classmethod
    def of(cls, told: dict[str, Any] | None) -> ToldCore:
        """Read it; None: no core was wanted."""
        return cls(None, "", DEFAULT_METHOD, None) if told is None else cls(**told)

    def list_notices(self, *, is_redacted: bool) -> list[str]:
        """Return what readers must know of it."""
        if self.path is None:
            return [f"no core: {self.reason}"] if self.reason else []
        notices = [*([_ON_DISK] if is_redacted else []), _NO_LIBRARIES]
        return notices if self.thread is None else [*notices, _OF_ANOTHER]

    @property
    def method_reason(self) -> str:
        """Why this method."""
        return "there is no core" if self.path is None else METHOD_REASON

    @contextlib.contextmanager
    def open(self) -> Iterator[CoreStream | None]:
        """Yield the core as a stream, None if there is none; raises OSError."""
        if self.path is None:
            yield None
            return
        with Path(self.path).open("rb", buffering=0) as file:
            yield stream_file(file)

    def complete(self, manifest: Manifest, threads: Iterable[PythonThread]) -> Manifest:
        """Return a manifest with what is known of threads, and how the core is opened."""
        changes: dict[str, Any] = {"threads": tuple(map(self._describe_thread, threads))}
        if self.path is not None:
            unpack = f"gencore unpack {manifest.name}.tar.gz"
            changes["open_with"] = f"{unpack} && lldb --core {manifest.name}/core"
        return replace(manifest, **changes)

    def _describe_thread(self, thread: PythonThread) -> Thread:
        has_registers = self.path is not None and self.thread in (None, thread.native_id)
        reason = NO_EXTENSION if self.path is None else _OF_ANOTHER
        return Thread(
            tid=thread.native_id or 0,
            name=thread.name or "",
            native_registers=has_registers,
            reason=None if has_registers else reason,
        )


def remove_work(folder: Path) -> None:
    """Remove the folder of a core, if there is one."""
    with contextlib.suppress(OSError):
        remove_tree(str(folder))


def watch(handover: Handover, state: CaptureState, total: int) -> Callable[[int], None]:
    """Return what is called with the bytes done, of an archive that takes time: it says so in the state file.

    Raises GencoreError if the archive may not go on.
    """
    last = 0.0
    state.bytes_total = total

    def advance(done: int) -> None:
        nonlocal last
        if time.monotonic() - last < _TELL_SECONDS:
            return
        last = time.monotonic()
        state.bytes_done = done
        with contextlib.suppress(OSError):
            replace_state(handover.run_folder / STATE.named(handover.name), state)
        if (handover.run_folder / DROP.named(handover.name)).exists():
            raise CaptureDropped("dropped")
        Disk(handover.directory, handover.directory).check()

    return advance


def stream_file(file: BinaryIO) -> CoreStream:
    """Return a core, whatever its format, as a stream; the file must stay open, and as it is."""
    size = file.seek(0, os.SEEK_END)
    lock = threading.Lock()  # several threads read; Windows has no pread(2)

    def read(offset: int, buffer: memoryview) -> None:
        with lock:
            file.seek(offset)
            while buffer:
                count = file.readinto(buffer)  # type: ignore[attr-defined]  # a file has it
                if not count:
                    raise ArchiveError("the core has become shorter")
                buffer = buffer[count:]

    return CoreStream(size, list(find_extents(file.fileno(), size)), read)
