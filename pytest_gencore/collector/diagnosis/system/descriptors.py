"""What the captured process had open, from the hand-over."""

from __future__ import annotations

import os
import re
import stat
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_gencore.collector.diagnosis.system.locks import FileLock, parse_locks
from pytest_gencore.collector.diagnosis.system.records import Reader, known
from pytest_gencore.collector.diagnosis.system.sockets import SocketFacts, parse_socket
from pytest_gencore.protocol import OPEN_FILE, SOCKET
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from pytest_gencore.collector.diagnosis.system.holders import OtherEnd
    from pytest_gencore.collector.source.handover import Handover

_KINDS: Final = {
    "anon_inode:[eventpoll]": "epoll",
    "anon_inode:[eventfd]": "eventfd",
    "anon_inode:[timerfd]": "timerfd",
    "anon_inode:[signalfd]": "signalfd",
    "anon_inode:[pidfd]": "pidfd",
    "anon_inode:[io_uring]": "io_uring",
    "anon_inode:inotify": "inotify",
}
_MODES: Final = {
    stat.S_IFSOCK: "socket",
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_WATCHED = re.compile(r"^tfd: +(\d+)", re.MULTILINE)
_EVENTS = re.compile(r"^eventfd-count: +([0-9a-f]+)", re.MULTILINE)
_TIMER = re.compile(r"^it_value: \((\d+), (\d+)\)", re.MULTILINE)
_PROCESS = re.compile(r"^Pid:\t(-?\d+)", re.MULTILINE)
_MOUNT = re.compile(r"^mnt_id:\t(\d+)", re.MULTILINE)
_INODE = re.compile(r"^ino:\t(\d+)", re.MULTILINE)
_SHOWN_WATCHED: Final = 8


class Descriptor(NamedTuple):
    """One, at the moment of the capture."""

    number: int
    kind: str
    """``pipe``, ``fifo``, ``socket``, ``file``, ``directory``, ``device``, ``terminal``, ``other``.

    Or one of the anonymous ones: ``epoll``, ``eventfd``, ``timerfd``, ``signalfd``, ``pidfd``, ``inotify``,
    ``io_uring``.
    """
    link: str
    """What ``/proc/PID/fd`` shows: a path, or ``pipe:[123]``."""
    device: tuple[int, int]
    """Major and minor number of the file system's."""
    inode: int
    flags: int
    """Of open(2)."""
    unread: int | None
    """Bytes that could be read; of a UDP socket: of the next datagram."""
    unsent: int | None
    """Bytes that the other side has not taken."""
    capacity: int | None
    """Bytes that a pipe holds."""
    socket: SocketFacts | None
    watched: tuple[int, ...] = ()
    """Descriptors that an epoll descriptor watches; the first 200."""
    value: int | None = None
    """Of an eventfd; the process of a pidfd."""
    expires: float | None = None
    """Seconds until a timerfd expires, 0 if it is not set."""
    mount: int | None = None
    lock_inode: int | None = None
    """With ``mount`` the name of a file in ``/proc/locks``."""
    locks: tuple[FileLock, ...] = ()
    other_end: OtherEnd | None = None
    """Of a pipe or connected socket; None if nobody was looked for."""

    @property
    def reads(self) -> bool:
        """Whether it was opened to read."""
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writes(self) -> bool:
        """Whether it was opened to write."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def is_full(self) -> bool:
        """Whether a pipe holds all that it can."""
        return self.capacity is not None and self.unread is not None and self.unread >= self.capacity > 0

    def describe(self) -> str:
        """Return a line that begins with ``fd 14:``."""
        return escape_unprintable(f"fd {self.number}: {', '.join(self._parts())}")

    def _parts(self) -> list[str]:
        if self.kind in ("pipe", "fifo"):
            return self._pipe_parts()
        if self.socket is not None:
            return self._socket_parts(self.socket)
        if self.kind in ("epoll", "eventfd", "timerfd", "pidfd"):
            return [self._anonymous_text()]
        has_name = self.kind in ("file", "directory", "device", "other")
        name = self.link if has_name else f"{self.kind} {self.link}"
        return [name, *dict.fromkeys(lock.describe() for lock in self.locks)]

    def _pipe_parts(self) -> list[str]:
        end = "both ends" if self.reads and self.writes else "read end" if self.reads else "write end"
        parts = [f"{end} of {'a pipe' if self.kind == 'pipe' else f'the FIFO {self.link}'}"]
        if self.is_full:
            parts.append(f"full ({self.capacity} bytes)")
        elif self.unread is not None:
            parts.append(f"{self.unread} bytes in it" if self.unread else "empty")
        if self.other_end is not None:
            who = self.other_end.describe()
            done = "written" if self.reads else "read"
            if who:
                parts.append(f"{done} by {who}")
            elif self.other_end.is_complete:
                parts.append(f"no process has its {'write' if self.reads else 'read'} end")
        return parts

    def _socket_parts(self, facts: SocketFacts) -> list[str]:
        holders = self.other_end.holders if self.other_end is not None else ()
        names = {"this process" if holder.is_captured else holder.name for holder in holders}
        parts = facts.describe(names.pop() if facts.is_ip and len(names) == 1 else "")
        if self.unread:
            parts.append(f"{self.unread} bytes not yet read")
        if self.unsent:
            parts.append(f"{self.unsent} bytes not yet taken by the other side")
        if holders and self.other_end is not None:
            parts.append(f"other end: {self.other_end.describe()}")
        return parts

    def _anonymous_text(self) -> str:
        if self.kind == "epoll":
            numbers = [f"fd {number}" for number in self.watched[:_SHOWN_WATCHED]]
            if len(self.watched) > _SHOWN_WATCHED:
                numbers.append(f"{len(self.watched) - _SHOWN_WATCHED} more")
            return f"epoll that watches {', '.join(numbers) or 'nothing'}"
        if self.kind == "timerfd" and self.expires is not None:
            return (
                f"timerfd, expires in {format_duration(self.expires)}" if self.expires else "timerfd, not set"
            )
        if self.value is None:
            return self.kind
        if self.kind == "eventfd":
            return f"eventfd, value {self.value}"
        return f"pidfd of process {self.value}" if self.value > 0 else "pidfd of a process that has ended"

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "fd": self.number,
            "kind": self.kind,
            "link": escape_unprintable(self.link),
            "text": self.describe(),
            "unread": self.unread,
            "unsent": self.unsent,
            "capacity": self.capacity,
            "socket": None if self.socket is None else self.socket.to_json(),
            "watched": list(self.watched),
            "value": self.value,
            "expires_s": self.expires,
            "locks": [lock.to_json() for lock in self.locks],
            "other_end": None if self.other_end is None else self.other_end.to_json(),
        }


def read_descriptors(handover: Handover) -> dict[int, Descriptor]:
    """Return them by number, without those of the run's folder; what is damaged ends the list."""
    reader = Reader(handover.descriptors)
    found = {}
    own = f"{handover.directory}/{handover.context.run.run_folder}/"
    try:
        while reader.has_more:
            record = reader.record(OPEN_FILE)
            facts = parse_socket(reader.record(SOCKET)) if record["socket_size"] else None
            link = os.fsdecode(reader.piece(record["link_size"]))
            info = reader.piece(record["info_size"]).decode(errors="replace")
            if not link.startswith(own):
                found[record["number"]] = _make(record, facts, link, info, handover.pid)
    except (struct.error, ValueError):
        pass
    return found


def _make(
    record: dict[str, Any], facts: SocketFacts | None, link: str, info: str, captured: int
) -> Descriptor:
    events, timer, process = _EVENTS.search(info), _TIMER.search(info), _PROCESS.search(info)
    mount, inode = _MOUNT.search(info), _INODE.search(info)
    value = int(events[1], 16) if events else int(process[1]) if process else None
    return Descriptor(
        number=record["number"],
        kind=_kind_of(record, link, has_process=process is not None),
        link=link,
        device=(record["device_major"], record["device_minor"]),
        inode=record["inode"],
        flags=record["flags"],
        unread=known(record["unread"]),
        unsent=known(record["unsent"]),
        capacity=known(record["capacity"]),
        socket=facts,
        watched=tuple(sorted(int(number) for number in _WATCHED.findall(info))),
        value=value,
        expires=int(timer[1]) + int(timer[2]) / 1e9 if timer else None,
        mount=int(mount[1]) if mount else None,
        lock_inode=int(inode[1]) if inode else record["inode"],
        locks=tuple(parse_locks(info, captured)),
    )


def _kind_of(record: dict[str, Any], link: str, *, has_process: bool) -> str:
    kind = stat.S_IFMT(record["mode"])
    if has_process:
        return "pidfd"
    if link in _KINDS:
        return _KINDS[link]
    if kind == stat.S_IFIFO:
        return "pipe" if link.startswith("pipe:[") else "fifo"
    if kind == stat.S_IFCHR and link.startswith(("/dev/pts/", "/dev/tty", "/dev/console")):
        return "terminal"
    return _MODES.get(kind, "other")
