"""From the snapshot to the finished product: core, libraries, texts, manifest."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pytest_gencore.archive.manifest import encode_manifest
from pytest_gencore.archive.writer import ArchiveWriter
from pytest_gencore.collector.core.core_maker import CoreMaker
from pytest_gencore.collector.core.core_stream import write_core
from pytest_gencore.collector.core.crash_method import CoreChangedError
from pytest_gencore.collector.files.debug_files import find_debug_files, find_python_scripts, is_debug_file
from pytest_gencore.collector.files.gdb_script import format_debugger_commands
from pytest_gencore.collector.files.libraries import Library, gather_libraries
from pytest_gencore.collector.files.library_cache import PackLog, Packs, key_of
from pytest_gencore.collector.manifest_builder import build_manifest
from pytest_gencore.collector.notices import find_notices, find_shown_notices
from pytest_gencore.collector.outcome.artifact import Artifact
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator

    from pytest_gencore.collector.core.core_source import CoreSource
    from pytest_gencore.collector.core.core_stream import CoreStream
    from pytest_gencore.collector.outcome.progress import Progress
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.stacks.capture_stacks import Stacks
    from pytest_gencore.collector.stacks.sources import Sources

_MANIFEST_SLACK = 4096


def collect(
    handover: Handover,
    source: CoreSource,
    stacks: Stacks,
    file: BinaryIO,
    progress: Progress,
    started: float,
    afterwards: contextlib.ExitStack,
) -> Artifact:
    """Write the archive, or the core if that was asked for; raises GencoreError and OSError.

    ``file`` is empty, and not opened for appending; ``started`` is when the collector began, in seconds of
    ``time.monotonic``; ``afterwards`` is what can be done when nobody waits any more.
    """
    snapshot, memory = source.snapshot, source.memory
    libraries = gather_libraries(memory.mappings, snapshot, memory.link_map)
    notices: list[str] = []
    debug_files = find_debug_files(libraries, notices)
    log = PackLog()
    with (
        CoreMaker(handover, source, afterwards) as maker,
        Packs(handover.directory, handover.run_folder) as packs,
    ):
        notices += find_notices(handover, snapshot, memory.mappings)
        if stacks.notice:
            notices.append(stacks.notice)
        sources = stacks.find_sources(find_python_scripts(libraries))
        notices += sources.notices
        files = [*libraries, *debug_files]
        contents = _Contents(handover, maker, files, stacks, sources, notices, progress, packs, log)
        core = maker.make()
        try:
            _write(contents, core, file, started)
        except CoreChangedError:
            file.seek(0)
            file.truncate()
            core = maker.make_again()
            _write(contents, core, file, started)
        size = os.fstat(file.fileno()).st_size
        return Artifact(size, maker.method, find_shown_notices(handover, maker, libraries, core), log)


@dataclass(frozen=True, slots=True)
class _Contents:
    """What goes into the archive."""

    handover: Handover
    maker: CoreMaker
    libraries: list[Library]
    stacks: Stacks
    sources: Sources
    notices: list[str]
    progress: Progress
    packs: Packs
    log: PackLog

    def manifest(
        self, core: CoreStream, collect_seconds: float | None = None, more: tuple[str, ...] = ()
    ) -> bytes:
        return encode_manifest(
            build_manifest(
                self.handover,
                method=self.maker.method,
                method_reason=self.maker.reason,
                core=core,
                libraries=self.libraries,
                notices=[*self.notices, *more],
                collect_seconds=collect_seconds,
            )
        )


def _write(contents: _Contents, core: CoreStream, file: BinaryIO, started: float) -> None:
    progress = contents.progress
    if contents.handover.context.request.product == "core":
        progress.expect(core.data_size)
        write_core(core, file.fileno(), progress.advance)
    else:
        _write_archive(contents, core, file, started)


def _write_archive(contents: _Contents, core: CoreStream, file: BinaryIO, started: float) -> None:
    handover, progress = contents.handover, contents.progress
    included = [library for library in contents.libraries if library.source is not None]
    progress.expect(core.data_size + sum(library.size for library in included))
    late: list[str] = []
    mtime = handover.started_ns // 1_000_000_000
    with ArchiveWriter(file, handover.name, mtime, on_progress=progress.advance) as archive:
        archive.reserve_manifest(contents.manifest(core), _MANIFEST_SLACK)
        archive.add_top_folder()
        archive.add_bytes("stacks.txt", contents.stacks.format_full().encode(errors="replace"))
        failure = handover.context.request.failure_text
        if failure is not None:
            archive.add_bytes("failure.txt", (failure.rstrip("\n") + "\n").encode(errors="replace"))
        mapped = [library for library in included if not is_debug_file(library)]
        commands = format_debugger_commands(handover.context.run.executable, mapped)
        archive.add_bytes("open.gdb", os.fsencode(commands))
        included_paths = {library.path.lstrip("/") for library in included}
        for path, data in contents.sources.files:
            if path not in included_paths:
                archive.add_bytes(path, data)
        archive.add_sparse("core", core.size, core.extents, core.chunks())
        late += contents.maker.late_notices()
        for library in included:
            _add_library(library, archive, contents, late)
            for alias in library.aliases:
                archive.add_link(alias, library.path)
    seconds = time.monotonic() - started
    try:
        archive.rewrite_manifest(contents.manifest(core, seconds, tuple(late)))
    except ArchiveError:  # the room for it is limited
        archive.rewrite_manifest(contents.manifest(core, seconds, (f"{len(late)} notices are left out",)))


def _add_library(library: Library, archive: ArchiveWriter, contents: _Contents, notices: list[str]) -> None:
    key = key_of(library)
    pack = contents.packs.find(key, library.size)
    if pack is not None:
        place = (pack.offset, pack.length)
        start = archive.copy_pack(library.path, library.size, pack.descriptor, place, 0o700)
        contents.log.add(key, start, pack.length)
        return
    chunks = _readable_chunks(library, notices)
    missing, start, end = archive.add_pack(library.path, library.size, chunks, 0o700)
    if not missing:
        contents.log.add(key, start, end)
    elif not library.note:
        library.note = f"{missing} bytes could not be read and are zeros"


def _readable_chunks(library: Library, notices: list[str]) -> Iterator[bytes]:
    """Yield what can be read; the rest costs nothing but itself."""
    try:
        yield from library.chunks()
    except OSError as error:
        notices.append(f"{library.path} could not be read to its end: {error.strerror}")
