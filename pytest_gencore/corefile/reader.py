"""Read the headers and notes of a core file, never its memory, see elf(5) and core(5)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from pytest_gencore.corefile.constants import (
    EHDR_SIZE,
    ELF_MAGIC,
    ELFCLASS64,
    ELFDATA2LSB,
    ET_CORE,
    NOTE_CORE,
    NT_AUXV,
    NT_FILE,
    NT_PRPSINFO,
    NT_PRSTATUS,
    PHDR_SIZE,
    PN_XNUM,
    PT_LOAD,
    PT_NOTE,
    SHDR_SIZE,
)
from pytest_gencore.corefile.machines import Machine, machine_by_elf
from pytest_gencore.corefile.mapped_files import MappedFile, parse_nt_file
from pytest_gencore.corefile.notes import CoreFormatError, Note, parse_notes
from pytest_gencore.corefile.process_notes import PrStatus, parse_prstatus
from pytest_gencore.corefile.segments import Segment
from pytest_gencore.corefile.writer import EHDR, PHDR, SHDR

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTES_LIMIT: Final = 256 << 20
"""Largest note segment that is read; a thread has 3 to 15 KiB of notes."""
_PROCESS_NOTES: Final = frozenset({NT_PRPSINFO, NT_AUXV, NT_FILE})


class ProgramHeader(NamedTuple):
    """``Elf64_Phdr`` of elf(5), without ``p_paddr``."""

    type: int
    flags: int
    offset: int
    vaddr: int
    filesz: int
    memsz: int
    align: int


class CoreThread(NamedTuple):
    """One thread of a core."""

    tid: int
    status: PrStatus
    notes: tuple[Note, ...]
    """NT_PRSTATUS and all that belong to the same thread."""
    registers: dict[str, int]
    """General registers by name."""


class CoreFile(NamedTuple):
    """What the headers of a core say."""

    machine: Machine
    segments: tuple[Segment, ...]
    """In the order of the file."""
    notes: tuple[Note, ...]
    """Of all note segments; in a truncated core those that are there."""
    expected_size: int
    """Where the last segment ends; a complete core is at least that large."""

    def missing_bytes(self, actual_size: int) -> int:
        """Return how many bytes a file of this size lacks; 0 if the core is complete."""
        return max(0, self.expected_size - actual_size)

    def find_note(self, kind: int, name: str = NOTE_CORE) -> Note | None:
        """Return the first note of this type, None if there is none."""
        return next((note for note in self.notes if (note.name, note.type) == (name, kind)), None)

    def threads(self) -> list[CoreThread]:
        """Return the threads, in the order of the file: the one that made the core is first.

        The kernel puts the notes of the process behind the first NT_PRSTATUS; they belong to no thread. Names
        of threads are not in a core.
        """
        return [self._thread(notes) for notes in self._notes_by_thread()]

    def mapped_files(self) -> list[MappedFile]:
        """Return the mappings of files that NT_FILE lists; none if the note is missing."""
        note = self.find_note(NT_FILE)
        return parse_nt_file(note.desc) if note else []

    def _notes_by_thread(self) -> Iterator[list[Note]]:
        current: list[Note] = []
        for note in self.notes:
            kind = note.type if note.name == NOTE_CORE else None
            if kind == NT_PRSTATUS:
                if current:
                    yield current
                current = [note]
            elif current and kind not in _PROCESS_NOTES:
                current.append(note)
        if current:
            yield current

    def _thread(self, notes: list[Note]) -> CoreThread:
        status = parse_prstatus(self.machine, notes[0].desc)
        registers = dict(zip(self.machine.registers, status.registers, strict=True))
        return CoreThread(status.tid, status, tuple(notes), registers)


def read_core(file: BinaryIO) -> CoreFile:
    """Read the headers and notes of a core; raises CoreFormatError if it is none that we know.

    A file that ends within its memory or notes is read as far as it goes (``missing_bytes``); one that ends
    within its program headers is an error.
    """
    machine_number, kind, headers = read_program_headers(file)
    if kind != ET_CORE:
        message = f"an ELF file of type {kind}, not a core"
        raise CoreFormatError(message)
    machine = machine_by_elf(machine_number)
    if machine is None:
        message = f"a core of the unknown machine {machine_number}"
        raise CoreFormatError(message)
    return CoreFile(
        machine=machine,
        segments=tuple(
            Segment(header.vaddr, header.memsz, header.filesz, header.flags, header.offset)
            for header in headers
            if header.type == PT_LOAD
        ),
        notes=tuple(_read_notes(file, headers)),
        expected_size=max(
            (header.offset + header.filesz for header in headers if header.type in {PT_LOAD, PT_NOTE}),
            default=0,
        ),
    )


def read_program_headers(file: BinaryIO, *, limit: int | None = None) -> tuple[int, int, list[ProgramHeader]]:
    """Read ``e_machine``, ``e_type`` and all program headers of a 64-bit little-endian ELF file.

    More headers than ``limit`` are an error; without it only the file's size bounds them.
    """
    start = _read_at(file, 0, EHDR_SIZE)
    if start[:4] != ELF_MAGIC:
        raise CoreFormatError("not an ELF file")
    if len(start) < EHDR_SIZE or start[4] != ELFCLASS64 or start[5] != ELFDATA2LSB:
        raise CoreFormatError("not a 64-bit little-endian ELF file")
    fields = EHDR.unpack(start)
    kind, machine, table_offset, section_offset, entry_size, count = (
        fields[index] for index in (1, 2, 5, 6, 9, 10)
    )
    if count and entry_size != PHDR_SIZE:
        message = f"program headers of {entry_size} bytes"
        raise CoreFormatError(message)
    if count == PN_XNUM:
        section = _read_at(file, section_offset, SHDR_SIZE) if section_offset else b""
        if len(section) < SHDR_SIZE:
            raise CoreFormatError("the number of program headers is missing: the file ends before it")
        count = SHDR.unpack(section)[7]
    # The count is not to be trusted, and the size of a sparse file says little.
    if limit is not None and count > limit:
        message = f"{count} program headers; the limit is {limit}"
        raise CoreFormatError(message)
    if table_offset + count * PHDR_SIZE > _size_of(file):
        message = f"the file ends within its {count} program headers"
        raise CoreFormatError(message)
    table = _read_at(file, table_offset, count * PHDR_SIZE)
    headers = [
        ProgramHeader(type_, flags, offset, vaddr, filesz, memsz, align)
        for type_, flags, offset, vaddr, _, filesz, memsz, align in PHDR.iter_unpack(table)
    ]
    return machine, kind, headers


def _read_notes(file: BinaryIO, headers: list[ProgramHeader]) -> Iterator[Note]:
    size = _size_of(file)
    for header in headers:
        if header.type != PT_NOTE:
            continue
        if header.filesz > NOTES_LIMIT:
            message = f"notes of {header.filesz} bytes; the limit is {NOTES_LIMIT}"
            raise CoreFormatError(message)
        data = _read_at(file, header.offset, header.filesz)
        yield from parse_notes(data, allow_cut=header.offset + header.filesz > size)


def _size_of(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """Read up to ``size`` bytes; offsets come from the file, so they may be beyond what a seek allows."""
    if offset >= _size_of(file):
        return b""
    file.seek(offset)
    return file.read(size)
