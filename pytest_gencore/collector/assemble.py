"""From the snapshot to the finished product: core, libraries, texts, manifest."""

from __future__ import annotations

import dataclasses
import io
import os
import time
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from pytest_gencore.archive.manifest import encode_manifest
from pytest_gencore.archive.writer import ManifestTooLongError
from pytest_gencore.collector.core.core_stream import write_core
from pytest_gencore.collector.core.make_core import make_core
from pytest_gencore.collector.files.debug_files import find_debug_files, find_python_scripts, is_debug_file
from pytest_gencore.collector.files.gdb_script import format_debugger_commands
from pytest_gencore.collector.files.libraries import Library, gather_libraries, only_name, set_aside
from pytest_gencore.collector.files.members import add_libraries
from pytest_gencore.collector.files.names import limit_listing, settle_names
from pytest_gencore.collector.manifest_builder import build_manifest, build_manifest_of_libraries
from pytest_gencore.collector.notices import find_notices, find_shown_notices
from pytest_gencore.collector.outcome.artifact import Artifact
from pytest_gencore.collector.outcome.os_errors import describe_os_error
from pytest_gencore.collector.shared_libraries import keep_libraries
from pytest_gencore.collector.stacks.sources import OF_A_TEXT, SourceLimits
from pytest_gencore.collector.texts import list_texts, open_writer
from pytest_gencore.errors import ArchiveError
from pytest_gencore.methods import DEFAULT_METHOD, choose_method

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.archive.manifest import Manifest
    from pytest_gencore.collector.core.core_source import CoreSource
    from pytest_gencore.collector.core.core_stream import CoreStream
    from pytest_gencore.collector.outcome.progress import Progress
    from pytest_gencore.collector.redaction import Redaction
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.stacks.capture_stacks import Stacks
    from pytest_gencore.collector.stacks.sources import Sources
    from pytest_gencore.methods import CoreMethod
    from pytest_gencore.request.model import CaptureRequest

_MANIFEST_SLACK = 4096
_UNWANTED = "it was not wanted (--gencore-libraries=none)"
_ASIDE = "it is in one of the run's libraries_*.tar.gz (--gencore-libraries=once)"
_NOT_KEPT = "it could not be kept: a notice says why"
"""Shorter than what it replaces: the room for the manifest is limited."""


def collect(
    handover: Handover,
    source: CoreSource,
    stacks: Stacks,
    file: BinaryIO,
    progress: Progress,
    redaction: Redaction,
    started: float,
) -> Artifact:
    """Write the archive, or the core if that was asked for; raises GencoreError and OSError.

    ``file`` is empty, and not opened for appending; ``started`` is when the collector began, in seconds of
    ``time.monotonic``.
    """
    snapshot, memory = source.snapshot, source.memory
    request = handover.context.request
    libraries = gather_libraries(memory.mappings, snapshot, memory.link_map)
    if not request.has_libraries:
        is_small = request.is_mini or not request.has_core
        why = f"archives of type {request.type} hold none" if is_small else _UNWANTED
        only_name(libraries, why)
    for library in libraries:
        if isinstance(library.source, io.BytesIO):  # from memory
            library.source.getbuffer()[:] = redaction.redactor.clean(library.source.getvalue())
    notices: list[str] = list(redaction.notices)
    debug_files = find_debug_files(libraries, notices)
    method, reason = DEFAULT_METHOD, "there is no core"
    if request.has_core:
        is_sealed = bool(handover.context.run.recipients)
        if is_sealed and request.product == "core":
            raise ArchiveError("a core file cannot be sealed", help_text="collect_core makes an archive")
        method, reason = choose_method(request.method, is_mini=request.is_mini, is_sealed=is_sealed)
        notices += find_notices(handover, snapshot, memory.mappings, method)
    if method == "kernel" and redaction.redactor:
        notices.append("the kernel's own core was on the disk, unredacted, until the collector had read it")
    if stacks.notice:
        notices.append(stacks.notice)
    if memory.link_map.notice:
        notices.append(memory.link_map.notice)
    sources = _find_sources(request, stacks, libraries)
    notices += sources.notices
    files = limit_listing([*libraries, *debug_files], notices)
    source_files = settle_names(handover.name, files, sources.files, notices)
    shared = set_aside(files, _ASIDE) if request.shares_libraries else []
    core = make_core(method, handover, source, progress.check) if request.has_core else None
    shown: list[str] = []
    if core is not None and request.product == "core":
        progress.expect(core.data_size)
        write_core(core, file.fileno(), progress.advance)
    else:
        about = (handover, source, method, reason, core)
        contents = _Contents(*about, files, shared, stacks, source_files, notices, progress, redaction)
        shown = _write_archive(contents, file, started)
    size = os.fstat(file.fileno()).st_size
    return Artifact(size, method, [*find_shown_notices(handover, libraries, core), *shown])


def _find_sources(request: CaptureRequest, stacks: Stacks, libraries: list[Library]) -> Sources:
    if not request.has_core:
        return stacks.find_sources(request.failure_text, (), OF_A_TEXT)
    return stacks.find_sources(request.failure_text, find_python_scripts(libraries), SourceLimits())


class _Contents(NamedTuple):
    """What goes into the archive."""

    handover: Handover
    source: CoreSource
    method: CoreMethod
    method_reason: str
    core: CoreStream | None
    libraries: list[Library]
    shared: list[Library]
    """Those among them that go into an archive of their own."""
    stacks: Stacks
    sources: list[tuple[str, bytes]]
    notices: list[str]
    progress: Progress
    redaction: Redaction

    def manifest(self, collect_seconds: float | None = None, more: tuple[str, ...] = ()) -> bytes:
        return encode_manifest(self.redaction.clean_manifest(self._describe(collect_seconds, more)))

    def manifest_of_libraries(self, name: str, libraries: Sequence[Library], notices: Sequence[str]) -> bytes:
        manifest = build_manifest_of_libraries(self._describe(), name, libraries, notices)
        return encode_manifest(self.redaction.clean_manifest(manifest))

    def _describe(self, collect_seconds: float | None = None, more: tuple[str, ...] = ()) -> Manifest:
        manifest = build_manifest(
            self.handover,
            stacks=self.stacks,
            method=self.method,
            method_reason=self.method_reason,
            core=self.core,
            libraries=self.libraries,
            notices=[*self.notices, *more],
            collect_seconds=collect_seconds,
        )
        return dataclasses.replace(manifest, environment=self.redaction.environment)


def _write_archive(contents: _Contents, file: BinaryIO, started: float) -> list[str]:
    """Write it, and the archive of libraries; return what readers of the summary should know."""
    handover, core, progress = contents.handover, contents.core, contents.progress
    request = handover.context.request
    included = [library for library in contents.libraries if library.source is not None]
    size = sum(library.size for library in (*included, *contents.shared))
    progress.expect((core.data_size if core else 0) + size)
    late: list[str] = []
    with open_writer(handover, file, progress.advance) as archive:
        archive.reserve_manifest(contents.manifest(), _MANIFEST_SLACK)
        archive.add_top_folder()
        for name, text in list_texts(handover, contents.stacks, contents.redaction):
            archive.add_bytes(name, contents.redaction.clean_text(text).encode(errors="replace"))
        if core is not None:
            mapped = [library for library in included if not is_debug_file(library)]
            notices = late if request.has_libraries and not request.shares_libraries else []
            commands = format_debugger_commands(handover.context.run.executable, mapped, notices)
            archive.add_bytes("open.gdb", os.fsencode(commands))
        for path, data in contents.sources:
            archive.add_bytes(path, contents.redaction.redactor.clean(data))
        if core is not None:
            before = contents.source.snapshot.unreadable_pages()  # those of pystack's core, or of a search
            archive.add_sparse("core", core.size, core.extents, core.read)
            unreadable = contents.source.snapshot.unreadable_pages() - before
            if unreadable and contents.method == "memory":
                at_most = "up to " if contents.redaction.redactor else ""  # those between blocks count twice
                late.append(f"pages that could not be read and are zeros: {at_most}{unreadable}")
        contents.source.snapshot.begin_to_end()  # files were opened when they were gathered
        add_libraries(archive, included, late)
        shown = _keep_shared(contents)
        late += shown
        try:
            archive.finish(lambda: contents.manifest(time.monotonic() - started, tuple(late)))
        except ManifestTooLongError:
            left_out = (f"notices left out: {len(late)}",)
            archive.rewrite_manifest(contents.manifest(time.monotonic() - started, left_out))
    return shown


def _keep_shared(contents: _Contents) -> list[str]:
    """Keep the libraries that the run shares; return where they are, or why they are nowhere."""
    if not contents.shared:
        return []
    describe = contents.manifest_of_libraries
    try:
        names = keep_libraries(contents.handover, contents.shared, describe, contents.progress)
    except OSError as error:
        reason = describe_os_error(error, contents.handover.directory)
    except ArchiveError as error:
        reason = str(error)
    else:
        return [f"its libraries are in {' and '.join(names)}"]
    for library in contents.libraries:
        library.note = library.note.replace(_ASIDE, _NOT_KEPT)
    return [f"the libraries could not be kept: {reason}"]
