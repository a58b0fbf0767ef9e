"""What ``/proc/PID`` says about a process: see proc(5). Parsers are pure; readers take a pid."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.texts import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAPPING = re.compile(
    rb"([0-9a-f]+)-([0-9a-f]+) (.)(.)(.)(.) ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)"
)
_DELETED = b" (deleted)"
_AUXV_ENTRY = struct.Struct("<QQ")
_COMMAND_LINE_LIMIT: Final = 4096
"""NT_PRPSINFO has room for 80 bytes."""


@dataclass(slots=True)
class Mapping:
    """One mapping: a line of ``maps`` with what ``smaps`` adds."""

    start: int
    end: int
    readable: bool
    writable: bool
    executable: bool
    shared: bool
    offset: int
    """Bytes into the file."""
    device: tuple[int, int]
    inode: int
    path: bytes
    """As in the file system, without `` (deleted)``; empty for anonymous memory; ``[stack]`` and the like."""
    deleted: bool
    sizes: dict[str, int] = field(default_factory=dict)
    """Byte counts of ``smaps`` by name: ``Rss``, ``Swap``, ``Anonymous``, ..."""
    flags: frozenset[str] = frozenset()
    """``VmFlags``: ``dd`` is VM_DONTDUMP, ``io`` VM_IO, ``ht`` hugetlb, ``dc`` VM_DONTCOPY, ..."""

    @property
    def size(self) -> int:
        """Bytes of address space."""
        return self.end - self.start

    @property
    def is_file(self) -> bool:
        """Whether a file is mapped, be it deleted or in memory."""
        return self.path.startswith(b"/")

    @property
    def is_device(self) -> bool:
        """Whether a driver mapped something that is no memory of pages: VM_IO or VM_PFNMAP."""
        return bool({"io", "pf"} & self.flags) and not self.is_special

    @property
    def is_left_out(self) -> bool:
        """Whether no core has its contents: MADV_DONTDUMP, and devices, where reading may do something."""
        return "dd" in self.flags or self.is_device

    @property
    def is_special(self) -> bool:
        """Whether the kernel made it and always dumps it: vdso, vvar, vsyscall."""
        return self.path.startswith((b"[vdso", b"[vvar", b"[vsyscall", b"[sigpage", b"[vectors"))


def parse_mappings(text: bytes) -> list[Mapping]:
    """Parse the text of ``maps`` or ``smaps``.

    Of what ends a line elsewhere, the kernel escapes only the newline in a file's name (``seq_path``).
    """
    return list(_mappings(text))


def _mappings(text: bytes) -> Iterator[Mapping]:
    current: Mapping | None = None
    for line in text.split(b"\n"):
        match = _MAPPING.fullmatch(line)
        if match:
            if current is not None:
                yield current
            current = _mapping(match)
        elif current is not None:
            name, _, value = line.partition(b":")
            if name == b"VmFlags":
                current.flags = frozenset(value.decode().split())
            elif value.endswith(b" kB"):
                current.sizes[name.decode()] = int(value[:-3]) * 1024
    if current is not None:
        yield current


def _mapping(match: re.Match[bytes]) -> Mapping:
    start, end, read, write, execute, share, offset, major, minor, inode, path = match.groups()
    deleted = path.startswith(b"/") and path.endswith(_DELETED)
    return Mapping(
        start=int(start, 16),
        end=int(end, 16),
        readable=read == b"r",
        writable=write == b"w",
        executable=execute == b"x",
        shared=share == b"s",
        offset=int(offset, 16),
        device=(int(major, 16), int(minor, 16)),
        inode=int(inode),
        path=(path.removesuffix(_DELETED) if deleted else path).replace(b"\\012", b"\n"),
        deleted=deleted,
    )


def read_mappings(pid: int, *, with_sizes: bool) -> list[Mapping]:
    """Read the mappings of a process; raises OSError.

    With sizes its page tables are walked; a kernel without ``smaps`` leaves sizes and flags empty.
    """
    if with_sizes:
        with contextlib.suppress(FileNotFoundError):
            return parse_mappings(Path(f"/proc/{pid}/smaps").read_bytes())
    return parse_mappings(Path(f"/proc/{pid}/maps").read_bytes())


def find_mapping(mappings: Iterable[Mapping], address: int) -> Mapping | None:
    """Return the mapping that an address lies in, None if nothing is mapped there."""
    return next((mapping for mapping in mappings if mapping.start <= address < mapping.end), None)


class ProcessFacts(NamedTuple):
    """What NT_PRPSINFO and the manifest need."""

    name: str
    ppid: int
    pgrp: int
    sid: int
    flags: int
    nice: int
    uid: int
    gid: int
    command_line: bytes
    """Its beginning: a process says itself where it is (PR_SET_MM_MAP), and it may be gigabytes."""

    def describe_command(self, length: int) -> str:
        """Return the command line for one line of a log; the name of a process without one."""
        arguments = os.fsdecode(self.command_line).rstrip("\0").replace("\0", " ")
        return printable(arguments or self.name, length)


def read_process_facts(pid: int, fallback: int) -> ProcessFacts:
    """Read them from the captured process, or from its snapshot if that has ended; raises OSError."""
    try:
        return _process_facts(pid)
    except (OSError, ValueError):
        return _process_facts(fallback)


def _process_facts(pid: int) -> ProcessFacts:
    folder = Path(f"/proc/{pid}")
    before, _, after = os.fsdecode((folder / "stat").read_bytes()).rpartition(")")
    fields = after.split()
    status = folder.stat()
    return ProcessFacts(
        name=before.partition("(")[2],
        ppid=int(fields[1]),
        pgrp=int(fields[2]),
        sid=int(fields[3]),
        flags=int(fields[6]) & 0xFFFFFFFF,
        nice=int(fields[16]),
        uid=status.st_uid,
        gid=status.st_gid,
        command_line=_read_start(folder / "cmdline", _COMMAND_LINE_LIMIT),
    )


def _read_start(path: Path, size: int) -> bytes:
    """Read at most so many bytes, in one call of the kernel."""
    with path.open("rb", buffering=0) as file:
        return file.read(size) or b""


def read_auxv(pid: int) -> bytes:
    """Read the auxiliary vector, the contents of NT_AUXV; empty if it cannot be had."""
    try:
        return Path(f"/proc/{pid}/auxv").read_bytes()
    except OSError:
        return b""


def parse_auxv(data: bytes) -> dict[int, int]:
    """Return the entries of an auxiliary vector by their type, see getauxval(3)."""
    return dict(_AUXV_ENTRY.iter_unpack(data[: len(data) // _AUXV_ENTRY.size * _AUXV_ENTRY.size]))
