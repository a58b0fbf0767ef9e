"""Choose the method that makes the core, and make it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, BinaryIO

from pytest_gencore.collector.core.copy_method import find_contents
from pytest_gencore.collector.core.crash_method import follow_core, read_whole_core
from pytest_gencore.collector.core.kernel_dump import KernelDump, describe_dump
from pytest_gencore.errors import ArchiveError
from pytest_gencore.machine.core_pattern import CorePattern, core_limit_of, why_no_core
from pytest_gencore.machine.disk import Disk
from pytest_gencore.run.folder import NO_CORE_MARK

if TYPE_CHECKING:
    from pytest_gencore.archive.manifest import Method
    from pytest_gencore.collector.core.core_source import CoreSource
    from pytest_gencore.collector.core.core_stream import CoreStream
    from pytest_gencore.collector.source.handover import Handover

_DUMP_SECONDS = 1500
_RESERVED_LIMIT = 64 << 30
_RESERVED_PART = 16
"""The kernel looks at every page of a core, also at those that do not exist: 1 TiB takes half a minute."""


class CoreMaker:
    """Makes the core of one capture; as a context manager it removes what the kernel wrote."""

    method: Method
    """``crash`` or ``copy``: what made the core."""
    reason: str
    """Why that."""
    is_fallback = False
    """Whether the kernel let us down in this very capture."""

    def __init__(self, handover: Handover, source: CoreSource, afterwards: contextlib.ExitStack) -> None:
        """Choose: crash where the kernel will write a file that we can collect, else copy.

        What takes long and nobody waits for is left to ``afterwards``. Raises ArchiveError if method crash
        was asked for and cannot work.
        """
        self._handover = handover
        self._source = source
        self._snapshot = source.snapshot
        self._memory = source.memory
        self._stack = contextlib.ExitStack()
        self._afterwards = afterwards
        self._dump: KernelDump | None = None
        self._file: BinaryIO | None = None
        """The kernel's core. Its name is gone: so nothing is left of it, however we end."""
        self._asked: str = handover.context.request.method
        self._pattern = CorePattern.read()
        obstacle = "asked for" if self._asked == "copy" else self._find_obstacle()
        if obstacle and self._asked == "crash":
            message = f"method crash cannot work here: {obstacle}"
            raise ArchiveError(message, help_text="use --gencore-method=auto")
        self.method = "copy" if obstacle else "crash"
        self.reason = obstacle or (
            "asked for" if self._asked == "crash" else "the kernel writes core files here"
        )

    def __enter__(self) -> CoreMaker:  # noqa: PYI034 - not made for subclasses
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def make(self) -> CoreStream:
        """Make the core; its chunks may raise CoreChangedError, then ``make_again``."""
        return self._make(follow=True)

    def make_again(self) -> CoreStream:
        """Make the core from what there is now."""
        return self._make(follow=False)

    def late_notices(self) -> list[str]:
        """Return what is known about the core only when it has been read."""
        if self.method == "copy":
            unreadable = self._snapshot.unreadable_pages()
            return [f"{unreadable} pages could not be read and are zeros"] if unreadable else []
        error = self._snapshot.status.filter_error
        text = f"coredump_filter could not be set ({os.strerror(error)}): the kernel's own was in force"
        return [text] if error else []

    def _make(self, *, follow: bool) -> CoreStream:
        if self.method == "crash":
            try:
                return self._crash(follow=follow)
            except ArchiveError as error:
                with contextlib.suppress(OSError):
                    (self._handover.run_folder / NO_CORE_MARK).touch(mode=0o600)
                if self._asked != "auto":
                    raise
                self.method, self.is_fallback = "copy", True
                self.reason = f"method crash failed: {error.args[0]}"
        return self._source.build_core(self._handover.core_filter)

    def _crash(self, *, follow: bool) -> CoreStream:
        """Let the kernel write a core; a truncated one is an error if there is a better way."""
        if self._dump is None:
            contents = find_contents(self._memory.mappings, self._snapshot)  # now: later it only waits
            self._dump = KernelDump(self._snapshot, self._handover, self._pattern)
            self._stack.callback(self._dump.remove)
            followed = follow_core(self._dump, self._source.notes, contents) if follow else None
            if followed is not None:
                core, file = followed
                self._take(self._dump, file)
                return core
        if self._file is None:
            self._take(self._dump, self._dump.finish(_DUMP_SECONDS).open("rb"))
        self._dump.wait(_DUMP_SECONDS)
        assert self._file is not None
        core = read_whole_core(self._file, self._source.notes)
        if core.truncated and self._asked == "auto":
            raise ArchiveError(core.notices[0])
        return core

    def _take(self, dump: KernelDump, file: BinaryIO) -> None:
        """Keep the core open without a name; to give its space back takes half a second for a GiB."""
        dump.remove()
        self._file = self._afterwards.enter_context(file)

    def _find_obstacle(self) -> str:
        """Return why the kernel will write no core that we can collect; empty if it will."""
        snapshot = self._snapshot
        facts = describe_dump(snapshot.pid, self._handover)
        page_size = snapshot.status.page_size
        obstacle = why_no_core(self._pattern, facts, core_limit_of(snapshot.pid), page_size)
        if obstacle or self._asked != "auto":
            return obstacle
        if (self._handover.run_folder / NO_CORE_MARK).exists():
            return "an earlier core of this run did not appear"
        folder = self._pattern.fixed_directory(facts) or self._handover.work_directory
        space = Disk(folder, folder).measure()
        if space is not None and self._memory.private_size > space.spare:
            return f"too little free space in {folder} for a core that is not compressed"
        reserved = sum(mapping.size for mapping in self._memory.mappings)
        if reserved > max(_RESERVED_LIMIT, _RESERVED_PART * self._memory.private_size):
            return f"the kernel would walk all {reserved >> 30} GiB that the process reserves"
        return ""
