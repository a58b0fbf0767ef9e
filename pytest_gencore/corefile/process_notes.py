"""NT_PRSTATUS, NT_PRPSINFO and NT_SIGINFO: what a core says about its threads and its process.

``struct elf_prstatus`` and ``struct elf_prpsinfo`` are those of ``include/linux/elfcore.h``, filled as
``fill_prstatus`` and ``fill_psinfo`` in ``fs/binfmt_elf.c`` do; ``siginfo_t`` is that of sigaction(2).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.corefile.notes import CoreFormatError

if TYPE_CHECKING:
    from pytest_gencore.corefile.machines import Machine

_PRSTATUS_HEAD = struct.Struct("<iiihxxQQiiii8q")
"""``pr_info`` (signo, code, errno), ``pr_cursig``, two signal sets, four ids, four times of two words."""
_PRSTATUS_TAIL = struct.Struct("<ixxxx")
_PRPSINFO = struct.Struct("<bcbbxxxxQIIiiii16s80s")
_SIGINFO_HEAD = struct.Struct("<iiixxxx")
_SIGINFO_SIZE = 128
_STATES = b"RSDTZW"


class CpuTimes(NamedTuple):
    """Processor times of a thread, as pairs of seconds and microseconds."""

    user: tuple[int, int] = (0, 0)
    system: tuple[int, int] = (0, 0)
    children_user: tuple[int, int] = (0, 0)
    children_system: tuple[int, int] = (0, 0)


class PrStatus(NamedTuple):
    """One thread as NT_PRSTATUS describes it."""

    tid: int
    registers: tuple[int, ...]
    """In the order of ``Machine.registers``."""
    ppid: int = 0
    pgrp: int = 0
    sid: int = 0
    signal: int = 0
    """The signal that made the core."""
    pending: int = 0
    """Signals that wait for this thread, signal 1 in bit 0."""
    blocked: int = 0
    times: CpuTimes = CpuTimes()
    has_floating_point: bool = True
    """Whether an NT_FPREGSET note of this thread follows."""


class PrPsInfo(NamedTuple):
    """The process as NT_PRPSINFO describes it."""

    uid: int
    gid: int
    pid: int
    ppid: int
    pgrp: int
    sid: int
    fname: bytes
    """Name of the executable; 15 bytes are kept."""
    psargs: bytes
    """Arguments with spaces between them; 79 bytes are kept."""
    state: int = 0
    """Index into ``RSDTZW``."""
    nice: int = 0
    flags: int = 0
    """``PF_*`` of the kernel's task."""


def build_prstatus(machine: Machine, status: PrStatus) -> bytes:
    """Encode the contents of an NT_PRSTATUS note."""
    if len(status.registers) != len(machine.registers):
        message = f"{machine.name} has {len(machine.registers)} registers, got {len(status.registers)}"
        raise ValueError(message)
    times = status.times
    head = _PRSTATUS_HEAD.pack(
        *(status.signal, 0, 0, status.signal, status.pending, status.blocked),
        *(status.tid, status.ppid, status.pgrp, status.sid),
        *(*times.user, *times.system, *times.children_user, *times.children_system),
    )
    registers = _registers(machine).pack(*status.registers)
    return head + registers + _PRSTATUS_TAIL.pack(status.has_floating_point)


def parse_prstatus(machine: Machine, desc: bytes) -> PrStatus:
    """Decode the contents of an NT_PRSTATUS note; raises CoreFormatError if the size is another machine's."""
    if len(desc) != machine.prstatus_size:
        message = f"NT_PRSTATUS of {len(desc)} bytes; {machine.name} has {machine.prstatus_size}"
        raise CoreFormatError(message)
    head = _PRSTATUS_HEAD.unpack_from(desc)
    _, _, _, signal, pending, blocked, tid, ppid, pgrp, sid, *times = head
    (has_floating_point,) = _PRSTATUS_TAIL.unpack_from(desc, len(desc) - _PRSTATUS_TAIL.size)
    return PrStatus(
        tid=tid,
        ppid=ppid,
        pgrp=pgrp,
        sid=sid,
        signal=signal,
        pending=pending,
        blocked=blocked,
        times=CpuTimes(
            user=(times[0], times[1]),
            system=(times[2], times[3]),
            children_user=(times[4], times[5]),
            children_system=(times[6], times[7]),
        ),
        registers=_registers(machine).unpack_from(desc, _PRSTATUS_HEAD.size),
        has_floating_point=bool(has_floating_point),
    )


def with_tid(desc: bytes, tid: int) -> bytes:
    """Return the contents of an NT_PRSTATUS note with another thread id, everything else as it was."""
    return desc[:32] + struct.pack("<i", tid) + desc[36:]


def build_prpsinfo(info: PrPsInfo) -> bytes:
    """Encode the contents of an NT_PRPSINFO note."""
    letter = _STATES[info.state : info.state + 1] or b"."
    return _PRPSINFO.pack(
        *(info.state, letter, letter == b"Z", info.nice, info.flags, info.uid, info.gid),
        *(info.pid, info.ppid, info.pgrp, info.sid, info.fname[:15], info.psargs[:79]),
    )


def parse_prpsinfo(desc: bytes) -> PrPsInfo:
    """Decode the contents of an NT_PRPSINFO note; raises CoreFormatError if the size is wrong."""
    if len(desc) != _PRPSINFO.size:
        message = f"NT_PRPSINFO of {len(desc)} bytes, not {_PRPSINFO.size}"
        raise CoreFormatError(message)
    state, _, _, nice, flags, uid, gid, pid, ppid, pgrp, sid, fname, psargs = _PRPSINFO.unpack(desc)
    return PrPsInfo(
        state=state,
        nice=nice,
        flags=flags,
        uid=uid,
        gid=gid,
        pid=pid,
        ppid=ppid,
        pgrp=pgrp,
        sid=sid,
        fname=fname.partition(b"\0")[0],
        psargs=psargs.partition(b"\0")[0],
    )


def build_siginfo(
    signal: int,
    code: int,
    *,
    errno: int = 0,
    address: int | None = None,
    sender: tuple[int, int] | None = None,
) -> bytes:
    """Encode the contents of an NT_SIGINFO note.

    ``address`` is that of a fault (``si_addr``), ``sender`` the pid and uid of who sent the signal.
    """
    if address is not None and sender is not None:
        raise ValueError("si_addr and si_pid are the same bytes: give one of them")
    head = _SIGINFO_HEAD.pack(signal, errno, code)
    if address is not None:
        head += struct.pack("<Q", address)
    elif sender is not None:
        head += struct.pack("<iI", *sender)
    return head.ljust(_SIGINFO_SIZE, b"\0")


def _registers(machine: Machine) -> struct.Struct:
    return struct.Struct(f"<{len(machine.registers)}Q")
