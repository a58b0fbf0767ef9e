"""The system call that a thread was in, with what it waits for."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_gencore.collector.diagnosis.system.call_tables import BY_NUMBER, READING, WRITING
from pytest_gencore.collector.diagnosis.system.interrupted import find_call
from pytest_gencore.corefile.machines import machine_for
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.collector.diagnosis.system.interrupted import RawCall
    from pytest_gencore.collector.source.handover import Handover, ThreadRecord
    from pytest_gencore.collector.source.mapped_memory import MappedMemory

_PATH_LIMIT: Final = 4096
"""PATH_MAX of Linux, with the zero at the end."""
_POLLFD: Final = struct.Struct("<ihh")
_TIME: Final = struct.Struct("<qq")
"""``struct timespec`` and ``struct timeval`` of 64-bit machines."""
_POLLIN, _POLLPRI, _POLLOUT = 1, 2, 4
_DESCRIPTORS_LIMIT: Final = 1024
"""Of one call of poll or select."""
_SHOWN: Final = 4
_NO_CHILD: Final = -1
_P_PID, _P_PIDFD = 1, 3
_AT_FDCWD: Final = -100
_TIMER_ABSTIME: Final = 1
_CLOCK_REALTIME, _CLOCK_MONOTONIC = 0, 1
_FUTEX_WAIT, _FUTEX_LOCK_PI, _FUTEX_WAIT_BITSET, _FUTEX_LOCK_PI2 = 0, 6, 9, 13
_FUTEX_COMMAND: Final = 0x7F
_FUTEX_CLOCK_REALTIME: Final = 0x100
_SETLKW, _OFD_SETLKW = 7, 38
_FCNTL_LOCKS: Final = {_SETLKW: "F_SETLKW", _OFD_SETLKW: "F_OFD_SETLKW"}


class SystemCall(NamedTuple):
    """One, at the moment of the capture."""

    tid: int
    name: str
    arguments: tuple[int | None, ...]
    """Six, as registers have them; None for one that is not known any more."""
    reads: tuple[int, ...] = ()
    """Descriptors from which it waits for something: data, a connection, an event, the end of a child."""
    writes: tuple[int, ...] = ()
    """Descriptors into which it waits to put something."""
    child: int | None = None
    """The process whose end it waits for, -1: of any child; None: it waits for something else."""
    address: int | None = None
    """Of the futex that it waits for."""
    is_priority_lock: bool = False
    """The kernel keeps that futex's owner: FUTEX_LOCK_PI."""
    path: str | None = None
    """Of the file that it opens."""
    operation: str = ""
    """Of fcntl."""
    remaining: float | None = None
    """Seconds after which it ends in any case, counted from the capture; None: not known, or never."""
    limit: float | None = None
    """Seconds that it takes at most, counted from its beginning, which is not known; None likewise."""

    @property
    def waits_for_file_lock(self) -> bool:
        """Whether it waits for a lock of a file."""
        return self.name == "flock" or bool(self.operation)

    def describe(self) -> str:
        """Return a line such as ``recvfrom(fd 14)``."""
        return f"{self.name}({', '.join(self._parts())})"

    def _parts(self) -> list[str]:
        parts = []
        if self.name in READING or self.name in WRITING or not (self.reads and self.writes):
            parts += [f"fd {number}" for number in (*self.reads, *self.writes)]
        else:
            parts += [f"fd {number} to read" for number in self.reads]
            parts += [f"fd {number} to write" for number in self.writes]
        if len(parts) > _SHOWN:
            parts[_SHOWN:] = [f"and {len(parts) - _SHOWN} more"]
        if self.operation:
            parts.append(self.operation)
        if self.child is not None:
            parts.append("any child" if self.child == _NO_CHILD else f"process {self.child}")
        if self.address is not None:
            parts.append(f"{self.address:#x}")
        if self.path is not None:
            parts.append(escape_unprintable(self.path))
        if self.remaining is not None:
            parts.append(f"{format_duration(self.remaining)} left")
        elif self.limit is not None:
            parts.append(f"at most {format_duration(self.limit)}")
        return parts

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "tid": self.tid,
            "name": self.name,
            "text": self.describe(),
            "reads": list(self.reads),
            "writes": list(self.writes),
            "child": self.child,
            "futex": self.address,
            "path": None if self.path is None else escape_unprintable(self.path),
            "remaining_s": self.remaining,
            "limit_s": self.limit,
        }


def read_calls(handover: Handover, memory: MappedMemory) -> dict[int, SystemCall]:
    """Return the call of each thread that was in one, by thread id."""
    machine = machine_for(handover.context.run.machine)
    if machine is None:
        return {}
    calls = {}
    for thread in handover.threads:
        call = _read_call(machine.name, machine.registers, thread, memory)
        if call is not None:
            calls[thread.tid] = _Decoder(handover, memory, thread.tid, *call).decode()
    return calls


def _read_call(
    machine: str, names: tuple[str, ...], thread: ThreadRecord, memory: MappedMemory
) -> tuple[str, RawCall] | None:
    """Return the name of the call and the call; None also for one that is not in our tables."""
    if not thread.reached:
        return None
    raw = find_call(machine, dict(zip(names, thread.registers, strict=True)), memory.read)
    kind = BY_NUMBER[machine].get(raw.number) if raw is not None else None
    return (kind.name, raw) if kind is not None and raw is not None else None


class _Decoder:
    """One call with what its arguments point to."""

    def __init__(self, handover: Handover, memory: MappedMemory, tid: int, name: str, raw: RawCall) -> None:
        self._handover = handover
        self._memory = memory
        self._tid = tid
        self._name = name
        self._raw = raw
        self._machine = handover.context.run.machine

    def decode(self) -> SystemCall:
        special: dict[str, Callable[[], dict[str, Any]]] = {
            "poll": self._poll,
            "ppoll": self._poll,
            "select": self._select,
            "pselect6": self._select,
            "wait4": lambda: {"child": self._signed(0)},
            "waitid": self._waitid,
            "futex": self._futex,
            "nanosleep": lambda: {"limit": self._time_at(0)},
            "clock_nanosleep": self._sleep,
            "openat": lambda: {"path": self._path(1)},
            "open": lambda: {"path": self._path(0)},
            "epoll_wait": self._epoll,
            "epoll_pwait": self._epoll,
        }
        decode = special.get(self._name)
        more = decode() if decode is not None else self._descriptors()
        return SystemCall(self._tid, self._name, self._raw.arguments, **more)

    def _signed(self, position: int) -> int | None:
        """Return an ``int`` argument: the upper half of its register means nothing."""
        value = self._raw.arguments[position]
        return None if value is None else (value & 0xFFFFFFFF ^ 0x80000000) - 0x80000000

    def _descriptors(self) -> dict[str, Any]:
        number = BY_NUMBER[self._machine]
        kind = next(kind for kind in number.values() if kind.name == self._name)
        found = [self._signed(position) for position in kind.descriptors]
        numbers = tuple(value for value in found if value is not None and value >= 0)
        if self._name in WRITING or self._name == "connect":
            return {"writes": numbers}
        if self._name == "fcntl":
            operation = _FCNTL_LOCKS.get(self._signed(1) or 0, "")
            return {"reads": numbers, "operation": operation}
        if self._name in ("splice", "tee", "copy_file_range"):
            return {"reads": numbers[:1], "writes": numbers[1:]}
        if self._name == "sendfile":
            return {"reads": numbers[1:], "writes": numbers[:1]}
        return {"reads": numbers}

    def _epoll(self) -> dict[str, Any]:
        milliseconds = self._signed(3)
        limit = milliseconds / 1000 if milliseconds is not None and milliseconds >= 0 else None
        return {**self._descriptors(), "limit": limit}

    def _poll(self) -> dict[str, Any]:
        address, count = self._raw.arguments[0], self._raw.arguments[1]
        reads, writes = [], []
        if address and count and count <= _DESCRIPTORS_LIMIT:
            data = self._memory.read(address, _POLLFD.size * count)
            for number, events, _ in _POLLFD.iter_unpack(data[: len(data) // _POLLFD.size * _POLLFD.size]):
                if number >= 0 and events & _POLLOUT:
                    writes.append(number)
                if number >= 0 and (events & (_POLLIN | _POLLPRI) or not events & _POLLOUT):
                    reads.append(number)
        milliseconds = self._signed(2) if self._name == "poll" else None
        limit = milliseconds / 1000 if milliseconds is not None and milliseconds >= 0 else None
        return {"reads": tuple(reads), "writes": tuple(writes), "limit": limit}

    def _select(self) -> dict[str, Any]:
        count = min(max(self._signed(0) or 0, 0), _DESCRIPTORS_LIMIT)
        return {"reads": self._bits(1, count), "writes": self._bits(2, count)}

    def _bits(self, position: int, count: int) -> tuple[int, ...]:
        address = self._raw.arguments[position]
        bits = int.from_bytes(self._memory.read(address, (count + 7) // 8), "little") if address else 0
        return tuple(number for number in range(count) if bits >> number & 1)

    def _waitid(self) -> dict[str, Any]:
        kind, number = self._signed(0), self._signed(1)
        if kind == _P_PIDFD and number is not None:
            return {"reads": (number,)}
        return {"child": number if kind == _P_PID else _NO_CHILD if kind is not None else None}

    def _futex(self) -> dict[str, Any]:
        operation = self._raw.arguments[1] or 0
        command = operation & _FUTEX_COMMAND
        time = self._time_at(3)
        more: dict[str, Any] = {}
        if command == _FUTEX_WAIT:
            more["limit"] = time
        elif command == _FUTEX_WAIT_BITSET and time is not None:
            is_wall_clock = bool(operation & _FUTEX_CLOCK_REALTIME)
            more["remaining"] = self._until(time, _CLOCK_REALTIME if is_wall_clock else _CLOCK_MONOTONIC)
        return {
            "address": self._raw.arguments[0],
            "is_priority_lock": command in (_FUTEX_LOCK_PI, _FUTEX_LOCK_PI2),
            **more,
        }

    def _sleep(self) -> dict[str, Any]:
        clock, flags, time = self._signed(0), self._raw.arguments[1], self._time_at(2)
        if flags is None or not flags & _TIMER_ABSTIME:
            return {"limit": time}
        return {"remaining": self._until(time, clock)}

    def _until(self, time: float | None, clock: int | None) -> float | None:
        """Return the seconds from the capture to a time of a clock; None for one that we cannot compare."""
        starts = {
            _CLOCK_MONOTONIC: self._handover.stopped_at_ns,
            _CLOCK_REALTIME: self._handover.started_ns,
        }
        if time is None or clock is None or clock not in starts:
            return None
        return max(0.0, time - starts[clock] / 1e9)

    def _time_at(self, position: int) -> float | None:
        address = self._raw.arguments[position]
        time = self._memory.unpack(_TIME, address) if address else None
        return time[0] + time[1] / 1e9 if time is not None and time[0] >= 0 else None

    def _path(self, position: int) -> str | None:
        address = self._raw.arguments[position]
        text = self._memory.read_text(address, _PATH_LIMIT) if address else b""
        return text.decode(errors="surrogateescape") if text else None
