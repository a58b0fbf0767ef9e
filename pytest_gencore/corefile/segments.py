"""Segments: the memory that a core holds, one PT_LOAD program header each."""

from __future__ import annotations

from typing import NamedTuple


class Segment(NamedTuple):
    """One PT_LOAD entry, see ``Elf64_Phdr`` in elf(5)."""

    vaddr: int
    memsz: int
    """Size of the mapping in memory."""
    filesz: int
    """How much of it, from its start, the core holds."""
    flags: int
    """PF_R, PF_W and PF_X."""
    offset: int = 0
    """Where in the core the contents begin."""

    @property
    def data_end(self) -> int:
        """Address behind the last byte that is in the file."""
        return self.vaddr + self.filesz
