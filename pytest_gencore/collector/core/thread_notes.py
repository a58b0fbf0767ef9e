"""The notes of a core: what its threads and its process were at the time of the snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gencore.corefile.constants import (
    NOTE_CORE,
    NT_AUXV,
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_SIGINFO,
)
from pytest_gencore.corefile.mapped_files import MappedFile, build_nt_file
from pytest_gencore.corefile.notes import Note, build_notes
from pytest_gencore.corefile.process_notes import (
    PrPsInfo,
    PrStatus,
    build_prpsinfo,
    build_prstatus,
    build_siginfo,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.collector.source.handover import Handover, ThreadRecord
    from pytest_gencore.collector.source.procfs import Mapping, ProcessFacts
    from pytest_gencore.collector.source.snapshot import Snapshot
    from pytest_gencore.corefile.machines import Machine

_FLOATING_POINT_LIMIT = 128 * 1024
"""Bytes; the largest known (SME) is 75 KiB, and the size comes from a process that may be broken."""


def build_core_notes(
    handover: Handover,
    machine: Machine,
    facts: ProcessFacts,
    snapshot: Snapshot,
    *,
    auxv: bytes,
    mappings: list[Mapping],
) -> bytes:
    """Encode all notes, in the kernel's order: the capturing thread, the process, the other threads.

    Registers come from the hand-over, floating point registers from the frames in the snapshot's memory.
    """
    signal = handover.signal.number if handover.signal else 0
    first, *others = (
        _thread_notes(machine, facts, thread, snapshot, signal, handover.signed_bits)
        for thread in handover.threads
    )
    notes = [
        first[0],
        *_process_notes(handover, facts, auxv, mappings, snapshot.status.page_size),
        *first[1:],
    ]
    for thread_notes in others:
        notes += thread_notes
    return build_notes(notes)


def _process_notes(
    handover: Handover, facts: ProcessFacts, auxv: bytes, mappings: list[Mapping], page_size: int
) -> Iterator[Note]:
    info = PrPsInfo(
        nice=facts.nice,
        flags=facts.flags,
        uid=facts.uid,
        gid=facts.gid,
        pid=handover.pid,
        ppid=facts.ppid,
        pgrp=facts.pgrp,
        sid=facts.sid,
        fname=facts.name.encode(errors="surrogateescape"),
        psargs=facts.command_line.rstrip(b"\0").replace(b"\0", b" "),
    )
    yield Note(NOTE_CORE, NT_PRPSINFO, build_prpsinfo(info))
    yield Note(NOTE_CORE, NT_SIGINFO, handover.siginfo if handover.signal else build_siginfo(0, 0))
    if auxv:
        yield Note(NOTE_CORE, NT_AUXV, auxv)
    files = [
        MappedFile(mapping.start, mapping.end, mapping.offset, _note_path(mapping))
        for mapping in mappings
        if mapping.is_file
    ]
    yield Note(NOTE_CORE, NT_FILE, build_nt_file(files, page_size))


def _note_path(mapping: Mapping) -> bytes:
    """Return the path as the kernel's NT_FILE has it."""
    return mapping.path + b" (deleted)" if mapping.deleted else mapping.path


def _thread_notes(
    machine: Machine,
    facts: ProcessFacts,
    thread: ThreadRecord,
    snapshot: Snapshot,
    signal: int,
    signed_bits: int,
) -> list[Note]:
    """Return a thread's notes; as the kernel's, all threads have the signal (``fill_note_info``)."""
    area = b""
    if thread.fp_address and thread.fp_size <= _FLOATING_POINT_LIMIT:
        area = snapshot.read(thread.fp_address, thread.fp_size)
    extra = machine.thread_notes(area, thread.tls, signed_bits)
    status = PrStatus(
        tid=thread.tid,
        ppid=facts.ppid,
        pgrp=facts.pgrp,
        sid=facts.sid,
        signal=signal,
        blocked=thread.blocked,
        registers=thread.registers,
        has_floating_point=bool(extra),
    )
    return [Note(NOTE_CORE, NT_PRSTATUS, build_prstatus(machine, status)), *extra]
