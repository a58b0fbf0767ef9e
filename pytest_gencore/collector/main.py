"""The collector's work from start to end: see docs/explanation/how-a-capture-works.md."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pytest_gencore.collector.archive import ArchiveWriter
from pytest_gencore.collector.core_maker import CoreMaker, Memory
from pytest_gencore.collector.crash_method import CoreChangedError
from pytest_gencore.collector.handover import Handover, parse_handover
from pytest_gencore.collector.libraries import Library, gather_libraries
from pytest_gencore.collector.link_map import read_link_map
from pytest_gencore.collector.manifest import build_manifest, encode_manifest
from pytest_gencore.collector.procfs import read_auxv, read_mappings
from pytest_gencore.collector.snapshot import Snapshot
from pytest_gencore.collector.state import StateFile
from pytest_gencore.collector.texts import format_debugger_commands, format_stacks
from pytest_gencore.errors import ArchiveError, GencoreError
from pytest_gencore.runfolder import is_awaited, remove_if_idle, remove_traces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from pytest_gencore.collector.cores import CoreStream
    from pytest_gencore.collector.procfs import Mapping

_HANDOVER_FD, _ARCHIVE_FD, _STATE_FD, _REQUEST_FD, _REPLY_FD = 3, 4, 5, 6, 7
"""GENCORE_FD_* of csrc/gencore.h."""
_DEADLINE_SECONDS = 1800
_MANIFEST_SLACK = 4096


def main() -> None:
    """Collect the capture that this process was started for."""
    os.chdir("/")
    with open(_HANDOVER_FD, "rb") as file:
        handover = parse_handover(file.read())
    about = {key: handover.request[key] for key in ("nodeid", "phase", "worker_id", "trigger", "method")}
    state = StateFile(_STATE_FD, about)
    signal.signal(signal.SIGALRM, _on_deadline)
    signal.alarm(_DEADLINE_SECONDS)
    partial = handover.directory / f"{handover.name}.tar.gz.partial"
    try:
        product = _collect(handover, state)
        result = handover.name if handover.request["product"] == "core" else f"{handover.name}.tar.gz"
        _publish(partial, handover.directory / result)
    except GencoreError as error:
        _give_up(partial, state, str(error))
    except OSError as error:
        _give_up(partial, state, f"{error.strerror}: {error.filename or handover.directory}")
    except MemoryError:
        _give_up(partial, state, "the collector ran out of memory")
    except Exception as error:
        _give_up(partial, state, f"{type(error).__name__}: {error}; this is a bug in pytest-gencore")
        raise
    else:
        state.finish(result=result, size=product.size, method=product.method, notices=product.notices)
    finally:
        _tidy_up(handover, state)


@dataclass(frozen=True, slots=True)
class _Product:
    size: int
    method: str
    notices: list[str]


def _collect(handover: Handover, state: StateFile) -> _Product:
    started = time.monotonic()
    snapshot = Snapshot(handover.snapshot_pid, _REQUEST_FD, _REPLY_FD)
    try:
        mappings = read_mappings(snapshot.pid, with_sizes=True)
        auxv = read_auxv(snapshot.pid)
        link_map = read_link_map(snapshot, auxv)
        libraries = gather_libraries(mappings, snapshot, link_map)
        with CoreMaker(handover, snapshot, Memory(mappings, auxv, link_map)) as maker:
            contents = _Contents(handover, maker, libraries, _notices(handover, snapshot, mappings))
            with os.fdopen(_ARCHIVE_FD, "wb", buffering=0) as file:
                core = maker.make()
                try:
                    _write(contents, core, file, state, started)
                except CoreChangedError:
                    file.seek(0)
                    file.truncate()
                    core = maker.make_again()
                    _write(contents, core, file, state, started)
                size = os.fstat(file.fileno()).st_size
            return _Product(size, maker.method, _shown_notices(contents, core))
    finally:
        snapshot.end()


def _write(contents: _Contents, core: CoreStream, file: BinaryIO, state: StateFile, started: float) -> None:
    if contents.handover.request["product"] == "core":
        _write_core(core, file, state)
    else:
        _write_archive(contents, core, file, state, started)


@dataclass(frozen=True, slots=True)
class _Contents:
    """What goes into the archive."""

    handover: Handover
    maker: CoreMaker
    libraries: list[Library]
    notices: list[str]

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


def _write_archive(
    contents: _Contents, core: CoreStream, file: BinaryIO, state: StateFile, started: float
) -> None:
    handover = contents.handover
    included = [library for library in contents.libraries if library.source is not None]
    state.expect(core.data_size + sum(library.size for library in included))
    late: list[str] = []
    mtime = handover.started_ns // 1_000_000_000
    with ArchiveWriter(file, handover.name, mtime, on_progress=state.progress) as archive:
        archive.reserve_manifest(contents.manifest(core), _MANIFEST_SLACK)
        archive.add_top_folder()
        archive.add_bytes("stacks.txt", format_stacks(handover).encode(errors="replace"))
        failure = handover.request["failure_text"]
        if failure is not None:
            archive.add_bytes("failure.txt", (failure.rstrip("\n") + "\n").encode(errors="replace"))
        commands = format_debugger_commands(handover.request["executable"], included)
        archive.add_bytes("open.gdb", os.fsencode(commands))
        archive.add_sparse("core", core.size, core.extents, core.chunks())
        late += contents.maker.late_notices()
        for library in included:
            missing = archive.add_stream(library.path, library.size, _readable_chunks(library, late), 0o700)
            if missing and not library.note:
                library.note = f"{missing} bytes could not be read and are zeros"
            for alias in library.aliases:
                archive.add_link(alias, library.path)
    seconds = time.monotonic() - started
    try:
        archive.rewrite_manifest(contents.manifest(core, seconds, tuple(late)))
    except ArchiveError:  # the room for it is limited
        archive.rewrite_manifest(contents.manifest(core, seconds, (f"{len(late)} notices are left out",)))


def _readable_chunks(library: Library, notices: list[str]) -> Iterator[bytes]:
    """Yield what can be read; the rest costs nothing but itself."""
    try:
        yield from library.chunks()
    except OSError as error:
        notices.append(f"{library.path} could not be read to its end: {error.strerror}")


def _write_core(core: CoreStream, file: BinaryIO, state: StateFile) -> None:
    """Write the bare core, with its holes."""
    state.expect(core.data_size)
    chunks = core.chunks()
    rest: bytes | memoryview = b""
    done = 0
    for offset, length in core.extents:
        position = offset
        while position < offset + length:
            piece = rest or next(chunks)
            now, rest = piece[: offset + length - position], piece[offset + length - position :]
            position += os.pwrite(file.fileno(), now, position)
            done += len(now)
        state.progress(done)
    os.ftruncate(file.fileno(), core.size)


def _notices(handover: Handover, snapshot: Snapshot, mappings: list[Mapping]) -> list[str]:
    notices = []
    if handover.request["threads"] == "calling":
        notices.append("only the capturing thread was asked for: the others are memory without registers")
    elif not handover.stop_signal:
        notices.append("the other threads were not stopped: no real-time signal is free, or no /proc")
    shared = sum(mapping.shared and mapping.writable for mapping in mappings)
    if shared:
        notices.append(
            f"{shared} shared writable mappings were read after the fork: they may have changed since"
        )
    wiped = sum(mapping.size for mapping in mappings if "wf" in mapping.flags)
    if wiped:
        notices.append(f"{wiped} bytes are zeros in the core: MADV_WIPEONFORK")
    notices += _not_copied(handover.pid, mappings)
    if snapshot.hello.oom_error:
        notices.append(f"oom_score_adj could not be set: {os.strerror(snapshot.hello.oom_error)}")
    return notices


def _shown_notices(contents: _Contents, core: CoreStream) -> list[str]:
    """Return what whoever reads the summary should know; the manifest has the details."""
    handover, libraries = contents.handover, contents.libraries
    shown = list(core.notices) if core.truncated else []
    if contents.maker.is_fallback:
        shown.append(contents.maker.reason)
    unreached = sum(not thread.reached for thread in handover.threads)
    if unreached:
        shown.append(f"registers of {unreached} of {len(handover.threads)} threads are not known")
    left_out = sum(library.source is None for library in libraries)
    if left_out:
        shown.append(f"{left_out} libraries could not be included")
    return shown


def _not_copied(pid: int, mappings: list[Mapping]) -> list[str]:
    """Say what of the live process fork leaves out: MADV_DONTFORK."""
    try:
        live = read_mappings(pid, with_sizes=False)
        known = {mapping.start for mapping in mappings}
        if all(mapping.start in known for mapping in live):
            return []
        left_out = [mapping for mapping in read_mappings(pid, with_sizes=True) if "dc" in mapping.flags]
    except OSError:
        return []  # it has ended
    size = sum(mapping.size for mapping in left_out if mapping.start not in known)
    return [f"{size} bytes are not in the core: MADV_DONTFORK"] if size else []


def _publish(partial: Path, result: Path) -> None:
    """Give the finished file its name; never over an existing one where the file system can tell."""
    try:
        os.link(partial, result)
    except FileExistsError as error:
        message = f"{result} exists already"
        raise ArchiveError(message) from error
    except OSError:  # a file system without hard links
        partial.rename(result)
    else:
        partial.unlink()


def _give_up(partial: Path, state: StateFile, reason: str) -> None:
    with contextlib.suppress(OSError):
        partial.unlink()
    state.fail(reason)


def _tidy_up(handover: Handover, state: StateFile) -> None:
    """Leave only the state for those who wait; if nobody does, not even that."""
    folder = handover.run_folder
    with contextlib.suppress(OSError):
        for path in sorted(handover.work_directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        handover.work_directory.rmdir()
    state.close()  # before the question: of two who tidy up at the same time at least one sees the other
    if not is_awaited(folder):
        remove_traces(folder, handover.name)
        remove_if_idle(folder)


def _on_deadline(_signal: int, _frame: FrameType | None) -> None:
    message = f"the collector was not finished after {_DEADLINE_SECONDS} s"
    raise ArchiveError(message)


if __name__ == "__main__":
    sys.exit("started by pytest_gencore.capture only")
