"""The manifest: one class for the collector that writes it and the reader that checks it.

``manifest.schema.json`` and the tables of docs/reference/archive.md are checked against these classes: a new
field is a line here, and its value in the collector's ``manifest_builder``.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pytest_gencore.contents import ArchiveType
from pytest_gencore.methods import CoreMethod
from pytest_gencore.triggers import Trigger

SCHEMA_VERSION: Final = 2


ABSOLUTE_PATH: Final = r"^/(?!(.*/)?\.\.(/|$))[^\u0000]*$"
"""No ``..`` and no NUL, as JSON schema patterns say it."""
PROGRAM_PATH: Final = r"^([A-Za-z]:)?/(?!(.*/)?\.\.(/|$))[^\u0000]*$"
"""The same of what no reader looks for below a folder: it may have a drive."""


def item(description: str, pattern: str = "", *, lowest: int = 0, **options: Any) -> Any:
    """Declare a field: what it means, the pattern of a text, the lowest value of a whole number."""
    metadata = {"description": description, "pattern": pattern, "lowest": lowest}
    return dataclasses.field(metadata=metadata, **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderFacts:
    """A process that sent a signal."""

    pid: int = item("Its process id; 0 for one outside of the PID namespace")
    uid: int = item("Its user")
    command: str | None = item("Its command line, cut; null if it had ended")


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerFacts:
    """Why the capture was made; null for what does not apply to the kind."""

    kind: Trigger = item("What led to the capture")
    signal: str | None = item("Name of the signal of a crash or a cancel, such as SIGSEGV", default=None)
    signal_number: int | None = item("Number of that signal", default=None)
    code: int | None = item(
        "si_code of sigaction(2); negative if a process sent the signal", lowest=-(1 << 31), default=None
    )
    code_name: str | None = item("Name of that code, such as SEGV_MAPERR; null if not known", default=None)
    address: str | None = item("Fault address, hexadecimal; null if the signal has none", default=None)
    abort_message: str | None = item(
        "What glibc said before it aborted, such as free(): invalid pointer; null if it was not glibc",
        default=None,
    )
    deadline_s: float | None = item("Seconds that the test was allowed to take", default=None)
    deadline_source: str | None = item(
        "Who set that deadline: gencore, pytest-timeout, or gencore-session for a run without progress",
        default=None,
    )
    sender: SenderFacts | None = item("Which process cancelled the run; null if the kernel did", default=None)
    exception: str | None = item("Type of the exception of a failure, such as AssertionError", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosisFacts:
    """What everything waits for, in short; diagnosis.json has all of it."""

    verdict: str | None = item("One line that says why the test does not go on; null if that is not known")
    kind: str | None = item("deadlock, asyncio, waits or busy; null without a verdict")
    complete: bool = item("Whether everything could be looked at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """A thread of the captured process."""

    tid: int = item("The kernel's thread id")
    name: str = item("As the kernel has it, at most 15 bytes; not the name that Python gave")
    native_registers: bool = item("Whether the registers are its own at the time of the snapshot")
    reason: str | None = item("Why not", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreFacts:
    """The core of the archive."""

    size: int = item("Bytes, with holes")
    data_size: int = item("Bytes, without holes")
    truncated: bool = item("Whether its end is missing")
    coredump_filter: str = item("Bits of core(5)", r"^0x[0-9a-f]+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A mapped ELF file; the executable is one."""

    path: str = item("Absolute, as the process had it", ABSOLUTE_PATH)
    build_id: str | None = item("Lower case hex", r"^[0-9a-f]*$")
    size: int = item("Bytes")
    included: bool = item("Whether it is in the archive")
    note: str = item("Why not, or where it came from if not from its path")
    aliases: tuple[str, ...] = item("Other names of the loader, hard links in the archive")
    sha256: str | None = item(
        "Of a file without a build ID that an archive of libraries has, SHA-256 in lower case hex; else null",
        r"^[0-9a-f]{64}$",
        default=None,
    )

    @property
    def identity(self) -> str | None:
        """By what the file is known, wherever it is found; None if it cannot be."""
        return identity_of(self.build_id, self.sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long parts of the capture took; null for what is not known."""

    stop_ms: float | None = item("From the first stop signal until all threads had stopped")
    snapshot_ms: float | None = item("To clone the process")
    pause_ms: float | None = item(
        "From the first stop signal until the other threads were released, or, if they were held, "
        "until the archive was written; null before"
    )
    held: bool = item(
        "Whether they stood still until the archive was finished: the process was about to die, or memory "
        "was short",
        default=False,
    )
    collect_s: float | None = item("From the start of the collector until the archive was written, or null")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionFacts:
    """Which secret values were overwritten; never the values."""

    variables: tuple[str, ...] = item("Names of the environment variables whose values were looked for")
    others: int = item("How many more values were looked for")
    places: int = item("How many places were overwritten, in the core and in all texts")
    too_short: tuple[str, ...] = item(
        "Names of variables whose values have less than 8 bytes: not looked for"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFacts:
    """The sealed part of an archive whose manifest is short: lists are empty, other fields null or empty."""

    recipients: int = item("For how many it is encrypted")
    manifest: str = item("The whole manifest: compressed by zlib, encrypted by age, in base 64")


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonVersion:
    """The interpreter."""

    implementation: str = item("Such as CPython")
    version: str = item("Such as 3.11.7")


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What the capture was made with."""

    pytest_gencore: str = item("Of pytest-gencore")
    python: PythonVersion = item("The interpreter")
    kernel: str = item("Name and release")
    machine: str = item("Such as x86_64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the archive is, why it was made, what it lacks."""

    name: str = item(
        "Of the archive, without .tar.gz; also its top folder", r"^[A-Za-z0-9_][A-Za-z0-9_.]{0,199}$"
    )
    created: str = item("When the capture began: ISO 8601, UTC, milliseconds")
    complete: bool = item("False while the archive is being written")
    trigger: TriggerFacts = item("Why the capture was made")
    diagnosis: DiagnosisFacts | None = item("What everything waits for; null after a crash", default=None)
    last_output: tuple[str, ...] = item(
        "What was printed last before a hang or a crash, as the log shows it: titles, and lines that begin "
        "with spaces; output.txt has more",
        default=(),
    )
    nodeid: str | None = item("Of the test; null for a request outside of the fixture gencore")
    phase: str | None = item("setup, call or teardown, when the snapshot was taken; null outside of a test")
    place: str = item(
        "Where in or outside of the test, in words, such as collection of test_a.py; empty if nodeid and "
        "phase say it",
        default="",
    )
    attempt: int = item("1, one more for each rerun")
    worker_id: str | None = item("Of pytest-xdist; null without")
    pid: int = item("The captured process")
    child_of: int | None = item(
        "The process that ran the tests, if a child of it was captured, or a child of that; else null",
        default=None,
    )
    threads: tuple[Thread, ...] = item("The capturing thread first")
    threads_stopped: bool = item("Whether the other threads were stopped")
    type: ArchiveType = item(
        "How much of the process the archive holds; text: no core; libraries: nothing but those of several "
        "captures, the rest is about the first",
        default="full",
    )
    method: CoreMethod = item("Who wrote the core: the kernel, or the collector from the snapshot's memory")
    method_reason: str = item("Why that")
    core: CoreFacts | None = item("The core; null if there is none")
    notices: tuple[str, ...] = item("Sentences about what is missing or doubtful")
    redaction: RedactionFacts | None = item(
        "Secret values that were overwritten; null if none were looked for", default=None
    )
    environment: tuple[str, ...] = item(
        "Of the process, as it was started and as it is: names of the variables, or NAME=VALUE", default=()
    )
    executable: str | None = item(
        "Absolute path of the Python interpreter; null in the short manifest of a sealed archive",
        PROGRAM_PATH,
    )
    libraries: tuple[Library, ...] = item("Every mapped ELF file, sorted by path, the executable among them")
    timings: Timings = item("How long it took")
    versions: Versions = item("What the capture was made with")
    sealed: SealedFacts | None = item(
        "The part that only its recipients can read, sealed.tar.gz.age; null if all can be read", default=None
    )
    open_with: str = item("The command that opens the archive, in its folder", default="")
    document: Mapping[str, Any] = dataclasses.field(default_factory=dict, metadata={"json": False})
    """The decoded JSON, with the fields that this version does not know; empty before it is encoded."""


def identity_of(build_id: str | None, sha256: str | None) -> str | None:
    """Return by what a library's contents are known: the build ID, else the digest."""
    return build_id or (f"sha256:{sha256}" if sha256 else None)


def encode_manifest(manifest: Manifest) -> bytes:
    """Encode it as indented JSON."""
    fields: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **to_json(manifest)}
    return json.dumps(fields, indent=1, ensure_ascii=True).encode()


def to_json(value: Any) -> Any:
    """Return what JSON can hold of a manifest or a part of it."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, tuple):
        return [to_json(entry) for entry in value]
    if not dataclasses.is_dataclass(value):
        return value
    kind: Any = type(value)
    return {name: to_json(getattr(value, name)) for name in _names_of(kind)}


@functools.cache
def _names_of(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.metadata.get("json", True)]
