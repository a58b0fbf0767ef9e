"""The manifest as typed objects: see docs/reference/archive.md and ``manifest.schema.json``."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, cast

from pytest_gencore.archive.fields import Fields
from pytest_gencore.errors import ArchiveError
from pytest_gencore.methods import current_name

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION: Final = 1
MANIFEST_LIMIT: Final = 4 << 20
"""Bytes of JSON; 10,000 threads and 5,000 libraries take 3 MiB."""
_TOKENS_LIMIT: Final = 250_000
"""Commas and opening brackets: each can stand for an object of 200 bytes in memory."""
_DIGITS_LIMIT: Final = 40

Trigger = Literal["failure", "timeout", "crash", "request"]
_TRIGGERS: Final = frozenset({"failure", "timeout", "crash", "request"})


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread of the captured process."""

    tid: int
    name: str
    """As the kernel has it, at most 15 bytes."""
    native_registers: bool
    """Whether its registers are its own at the time of the snapshot."""
    reason: str
    """Why not; else empty."""


@dataclass(frozen=True, slots=True)
class CoreFacts:
    """The core of the archive."""

    size: int
    """Bytes, with holes."""
    data_size: int
    """Bytes, without holes."""
    truncated: bool
    coredump_filter: str
    """Bits of core(5), hexadecimal."""


@dataclass(frozen=True, slots=True)
class Library:
    """A mapped ELF file; the executable is one."""

    path: str
    """Absolute, as the process had it."""
    build_id: str | None
    size: int
    """Bytes."""
    included: bool
    """Whether it is in the archive."""
    note: str
    """Why not, or where it came from if not from its path."""
    aliases: tuple[str, ...]
    """Other names of the loader, hard links in the archive."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How long parts of the capture took; None for what is not known."""

    stop_ms: float | None
    snapshot_ms: float | None
    pause_ms: float | None
    collect_s: float | None


@dataclass(frozen=True, slots=True)
class Versions:
    """What the capture was made with."""

    pytest_gencore: str
    python_implementation: str
    python_version: str
    kernel: str
    machine: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the archive is, why it was made, what it lacks."""

    name: str
    """Of the archive, without ``.tar.gz``; also its top folder."""
    created: str
    """When the capture began: ISO 8601, UTC."""
    complete: bool
    """False while the archive was being written: then it was never finished."""
    trigger: Trigger
    nodeid: str | None
    phase: str | None
    attempt: int
    worker_id: str | None
    pid: int
    threads: tuple[Thread, ...]
    """The capturing thread first."""
    threads_stopped: bool
    method: str
    """``kernel`` or ``memory``, also of an archive that has their old names, ``crash`` and ``copy``."""
    method_reason: str
    core: CoreFacts
    notices: tuple[str, ...]
    executable: str
    libraries: tuple[Library, ...]
    timings: Timings
    versions: Versions
    document: Mapping[str, Any]
    """The decoded JSON, with the fields that this version does not know."""


def parse_manifest(data: bytes) -> Manifest:
    """Parse and check ``gencore.json``; raises ArchiveError that names the first field that is wrong."""
    fields = Fields(_decode(data))
    version = fields.integer("schema_version")
    if version != SCHEMA_VERSION:
        message = f"the manifest has schema_version {version}, this version of pytest-gencore reads 1"
        raise ArchiveError(message, help_text="a newer pytest-gencore may read it")
    trigger = fields.text("trigger")
    if trigger not in _TRIGGERS:
        raise ArchiveError("trigger of the manifest is not failure, timeout, crash or request")
    core, timings, versions = fields.object("core"), fields.object("timings"), fields.object("versions")
    python = versions.object("python")
    return Manifest(
        name=fields.text("name"),
        created=fields.text("created"),
        complete=fields.boolean("complete"),
        trigger=cast("Trigger", trigger),
        nodeid=fields.optional_text("nodeid"),
        phase=fields.optional_text("phase"),
        attempt=fields.integer("attempt"),
        worker_id=fields.optional_text("worker_id"),
        pid=fields.integer("pid"),
        threads=tuple(_thread(thread) for thread in fields.objects("threads")),
        threads_stopped=fields.boolean("threads_stopped"),
        method=current_name(fields.text("method")),
        method_reason=fields.text("method_reason"),
        core=CoreFacts(
            core.integer("size"),
            core.integer("data_size"),
            core.boolean("truncated"),
            core.text("coredump_filter"),
        ),
        notices=fields.texts("notices"),
        executable=fields.absolute_path("executable"),
        libraries=tuple(_library(library) for library in fields.objects("libraries")),
        timings=Timings(
            timings.optional_number("stop_ms"),
            timings.optional_number("snapshot_ms"),
            timings.optional_number("pause_ms"),
            timings.optional_number("collect_s"),
        ),
        versions=Versions(
            versions.text("pytest_gencore"),
            python.text("implementation"),
            python.text("version"),
            versions.text("kernel"),
            versions.text("machine"),
        ),
        document=fields.values,
    )


def _thread(fields: Fields) -> Thread:
    return Thread(
        fields.integer("tid"),
        fields.text("name"),
        fields.boolean("native_registers"),
        fields.optional_text("reason") or "",
    )


def _library(fields: Fields) -> Library:
    return Library(
        fields.absolute_path("path"),
        fields.optional_text("build_id"),
        fields.integer("size"),
        fields.boolean("included"),
        fields.text("note"),
        fields.texts("aliases"),
    )


def _decode(data: bytes) -> object:
    """Decode JSON whose size in memory is bounded before it is decoded."""
    if len(data) > MANIFEST_LIMIT:
        message = f"the manifest has {len(data)} bytes; the limit is {MANIFEST_LIMIT}"
        raise ArchiveError(message)
    if sum(data.count(token) for token in (b",", b"[", b"{")) > _TOKENS_LIMIT:
        raise ArchiveError("the manifest has too many entries")
    try:
        text = data.decode("ascii")
        return json.loads(text, parse_int=_to_int, parse_float=_to_float, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        message = f"the manifest is not valid JSON: {error}"
        raise ArchiveError(message) from error


def _to_int(digits: str) -> int:
    if len(digits) > _DIGITS_LIMIT:
        raise ValueError("a number has too many digits")
    return int(digits)


def _to_float(digits: str) -> float:
    if len(digits) > _DIGITS_LIMIT:
        raise ValueError("a number has too many digits")
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _refuse(name: str) -> NoReturn:
    message = f"{name} is no number of JSON"
    raise ValueError(message)
