"""Make the document of an opened archive."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.archive.diagnosis_file import Verdict
from pytest_gencore.archive.manifest import to_json
from pytest_gencore.archive.member_parsers import DIAGNOSIS_NAME, parse_diagnosis, parse_stacks
from pytest_gencore.archive.stacks_file import STACKS_NAME
from pytest_gencore.document.excerpts import read_excerpts
from pytest_gencore.document.merge import Merged, find_cycle, merge
from pytest_gencore.document.model import (
    DOCUMENT_VERSION,
    ArchiveFacts,
    Child,
    Document,
    ProcessFacts,
    Subject,
)
from pytest_gencore.document.words import is_project_file
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from pytest_gencore.archive.diagnosis_file import DiagnosisFile
    from pytest_gencore.archive.manifest import Manifest
    from pytest_gencore.archive.reader import Archive, MemberText
    from pytest_gencore.archive.stacks_file import StacksFile

    T = TypeVar("T")

BRIEF: Final = frozenset({STACKS_NAME, DIAGNOSIS_NAME})
"""What a brief document is made of, besides the manifest."""
_FAILURE: Final = "failure.txt"
_OUTPUT: Final = "output.txt"


def make_document(archive: Archive, *, is_brief: bool = False) -> Document:
    """Return all that an archive tells; its core is not read. Raises ArchiveError and OSError.

    ``is_brief``: without failure, output and sources, so that less of the file is read. The texts are as
    untrusted as the archive. Of a sealed one without a key only the short manifest is known.
    """
    manifest = archive.manifest
    is_closed = manifest.sealed is not None and not archive.keys
    names = BRIEF if is_brief else BRIEF | {_FAILURE, _OUTPUT}
    members = {} if is_closed else archive.read_members(names)
    unreadable: list[str] = []
    stacks = _parse(members.get(STACKS_NAME), parse_stacks, unreadable)
    diagnosis = _parse(members.get(DIAGNOSIS_NAME), parse_diagnosis, unreadable)
    own = merge(stacks.threads if stacks else (), diagnosis.waits if diagnosis else None, manifest.threads)
    children = _children(stacks, diagnosis)
    rootdir = stacks.rootdir if stacks else ""
    frames = [
        *(frame for thread in own.threads for frame in thread.frames or ()),
        *(stacks.failure if stacks else ()),
        *(frame for child in children for thread in child.threads for frame in thread.frames or ()),
    ]
    lines = [(frame.file, frame.line) for frame in frames if frame.project]
    tasks = [*own.tasks, *(task for child in children for task in child.tasks)]
    places = [place for task in tasks for place in task.frames if is_project_file(place.file, rootdir)]
    lines += [(place.file, place.line) for place in places]
    return Document(
        archive=_archive(archive, is_closed=is_closed),
        test=_test(manifest, stacks),
        trigger=manifest.trigger,
        verdict=_verdict(manifest, diagnosis),
        evidence=diagnosis.lines if diagnosis else (),
        complete=None if manifest.diagnosis is None else manifest.diagnosis.complete,
        process=_process(manifest, diagnosis),
        threads=own.threads,
        threads_unread=stacks.unread if stacks else 0,
        tasks=own.tasks,
        loops=diagnosis.waits.loops if diagnosis else (),
        cycle=find_cycle(own),
        children=children,
        failure=_text(members, _FAILURE),
        failure_frames=stacks.failure if stacks else (),
        last_output=manifest.last_output,
        output=_text(members, _OUTPUT),
        sources=() if is_brief else read_excerpts(archive, lines),
        notices=(*manifest.notices, *_cut_notice(stacks)),
        unreadable=tuple(unreadable),
        redaction=manifest.redaction,
        timings=manifest.timings,
        versions=manifest.versions,
    )


def document_to_json(document: Document) -> dict[str, Any]:
    """Return what JSON can hold of it, with the version of the schema."""
    return {"schema_version": DOCUMENT_VERSION, **to_json(document)}


def encode_document(document: Document) -> str:
    """Return it as one line of JSON in ASCII."""
    return json.dumps(document_to_json(document), ensure_ascii=True, separators=(",", ":"))


def _parse(member: MemberText | None, parse: Callable[[bytes], T], unreadable: list[str]) -> T | None:
    if member is None:
        return None
    try:
        return parse(member.data)
    except ArchiveError as error:
        unreadable.append(str(error))
        return None


def _text(members: Mapping[str, MemberText], name: str) -> str | None:
    return members[name].decode() if name in members else None


def _cut_notice(stacks: StacksFile | None) -> list[str]:
    return [] if stacks is None or stacks.complete else ["more stacks are in stacks.txt"]


def _archive(archive: Archive, *, is_closed: bool) -> ArchiveFacts:
    manifest = archive.manifest
    return ArchiveFacts(
        path=str(archive.place),
        size=archive.size,
        name=manifest.name,
        type=manifest.type,
        created=manifest.created,
        complete=manifest.complete,
        sealed=is_closed,
        core=manifest.core,
        open_with=manifest.open_with,
    )


def _test(manifest: Manifest, stacks: StacksFile | None) -> Subject:
    return Subject(
        nodeid=manifest.nodeid,
        phase=manifest.phase,
        place=manifest.place,
        attempt=manifest.attempt,
        worker_id=manifest.worker_id,
        rootdir=stacks.rootdir if stacks else "",
    )


def _verdict(manifest: Manifest, diagnosis: DiagnosisFile | None) -> Verdict | None:
    if diagnosis is not None:
        return diagnosis.verdict
    short = manifest.diagnosis
    return Verdict(kind=short.kind, text=short.verdict) if short and short.kind and short.verdict else None


def _process(manifest: Manifest, diagnosis: DiagnosisFile | None) -> ProcessFacts:
    system = diagnosis.system if diagnosis else None
    return ProcessFacts(
        pid=manifest.pid,
        child_of=manifest.child_of,
        executable=manifest.executable,
        environment=manifest.environment,
        descriptors=system.descriptors if system else None,
        descriptor_count=system.descriptor_count if system else None,
        child_count=system.child_count if system else None,
        gil=diagnosis.waits.gil if diagnosis else None,
    )


def _children(stacks: StacksFile | None, diagnosis: DiagnosisFile | None) -> tuple[Child, ...]:
    told = {child.pid: child.threads for child in (stacks.children if stacks else ())}
    asked = {child.pid: child for child in (diagnosis.forked if diagnosis else ())}
    children = diagnosis.system.children if diagnosis and diagnosis.system else ()
    found = []
    for child in children:
        merged: Merged = merge(told.get(child.pid, ()), asked.get(child.pid), ())
        facts = {field.name: getattr(child, field.name) for field in dataclasses.fields(child)}
        found.append(Child(**facts, threads=merged.threads, tasks=merged.tasks))
    return tuple(found)
