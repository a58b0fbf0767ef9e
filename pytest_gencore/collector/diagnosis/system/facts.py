"""All that the system knew of a captured process: what it waits for in the kernel, and who is behind it."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pytest_gencore.collector.diagnosis.system.calls import SystemCall, read_calls
from pytest_gencore.collector.diagnosis.system.children import Child, find_pipe, read_children, with_pipe
from pytest_gencore.collector.diagnosis.system.descriptors import Descriptor, read_descriptors
from pytest_gencore.collector.diagnosis.system.holders import Family, Holder, OtherEnd, Scan, scan
from pytest_gencore.collector.diagnosis.system.locks import read_locks, read_mounts, with_holder
from pytest_gencore.collector.diagnosis.system.mutexes import find_mutex_owner, find_owner
from pytest_gencore.collector.diagnosis.system.records import known
from pytest_gencore.collector.diagnosis.system.sockets import Address, read_tcp_inodes, read_unix_peers
from pytest_gencore.collector.source.mapped_memory import MappedMemory
from pytest_gencore.collector.source.procfs import Mapping, read_mappings
from pytest_gencore.machine.process import start_ticks
from pytest_gencore.run.folder import birth_of_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot

T = TypeVar("T")
_UNIX_LIMIT: Final = 256
"""Sockets of which the kernel is asked for the other end."""


class SystemFacts(NamedTuple):
    """What was read; what could not be read is not there."""

    calls: dict[int, SystemCall]
    """By thread id."""
    descriptors: dict[int, Descriptor]
    """By number; at most the first 1,024."""
    children: list[Child]
    descriptor_count: int | None
    """How many were open; None: not known."""
    child_count: int | None
    tids: frozenset[int]
    memory: MappedMemory

    def mutex_owner(self, address: int) -> int | None:
        """Return the thread that probably holds a mutex there: by the layout of glibc's."""
        return _guarded(lambda: find_mutex_owner(self.memory, address, self.tids), None)

    def owner_for(self, tid: int) -> tuple[int, bool] | None:
        """Return the thread that holds the native lock for which a thread waits, and whether that is sure."""
        call = self.calls.get(tid)
        return None if call is None else _guarded(lambda: find_owner(self.memory, call, self.tids), None)

    def child_of(self, tid: int) -> Child | None:
        """Return the one child for whose end a thread waits, None if it is any or another one."""
        call = self.calls.get(tid)
        pid = None if call is None else call.child
        if call is not None and pid is None:
            pid = next((self._process_of(number) for number in call.reads), None)
        if pid == -1 and len(self.children) == self.child_count == 1:
            return self.children[0]
        return next((child for child in self.children if child.pid == pid), None)

    def _process_of(self, number: int) -> int | None:
        descriptor = self.descriptors.get(number)
        return descriptor.value if descriptor is not None and descriptor.kind == "pidfd" else None

    def describe_call(self, tid: int) -> list[str]:
        """Return lines on the call of a thread: the call, then what it waits for."""
        call = self.calls.get(tid)
        if call is None:
            return []
        numbers = dict.fromkeys((*call.reads, *call.writes))
        lines = [call.describe(), *(self.descriptors[n].describe() for n in numbers if n in self.descriptors)]
        child = self.child_of(tid)
        if child is not None:
            lines.append(child.describe())
        owner = self.owner_for(tid)
        if owner is not None:
            lines.append(f"a native lock {'' if owner[1] else 'probably '}held by thread {owner[0]}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "calls": [call.to_json() for call in self.calls.values()],
            "descriptors": [descriptor.to_json() for descriptor in self.descriptors.values()],
            "descriptor_count": self.descriptor_count,
            "children": [child.to_json() for child in self.children],
            "child_count": self.child_count,
        }


def read_system(handover: Handover, snapshot: Snapshot) -> SystemFacts:
    """Read everything, the children first, as they may end; takes less than half a second."""
    children = _guarded(lambda: read_children(handover), list[Child]())
    descriptors = read_descriptors(handover)
    mappings = _guarded(lambda: read_mappings(snapshot.pid, with_sizes=False), list[Mapping]())
    memory = MappedMemory(snapshot, mappings)
    calls = _guarded(lambda: read_calls(handover, memory), dict[int, SystemCall]())
    full = {descriptor.link for descriptor in descriptors.values() if descriptor.is_full}
    children = [with_pipe(child, find_pipe(child, full)) for child in children]
    ends = _Ends(handover, descriptors, children)
    return SystemFacts(
        calls=calls,
        descriptors=_guarded(lambda: _add_locks(handover, ends.of_descriptors()), descriptors),
        children=_guarded(ends.of_children, children),
        descriptor_count=known(handover.descriptor_count),
        child_count=known(handover.child_count),
        tids=frozenset(thread.tid for thread in handover.threads),
        memory=memory,
    )


def _guarded(read: Callable[[], T], otherwise: T) -> T:
    """Return what was read: a capture does not fail because something of the system could not be.

    Raises ArchiveError if the snapshot is gone: that is the reason to tell, not what is missing then.
    """
    try:
        return read()
    except (OSError, ValueError, LookupError, struct.error):
        return otherwise


class _Ends:
    """Finds who has the other ends, all in one look at the processes of the machine."""

    def __init__(self, handover: Handover, descriptors: dict[int, Descriptor], children: list[Child]) -> None:
        self._captured = handover.pid
        self._descriptors = descriptors
        self._children = children
        self._peers = self._socket_peers()
        wanted = {item.link: item.inode for item in descriptors.values() if item.kind in ("pipe", "fifo")}
        wanted |= {f"socket:[{inode}]": inode for inode in self._peers.values()}
        pipes = [child.pipe.link for child in children if child.pipe is not None]
        wanted |= {link: int(link[len("pipe:[") : -1]) for link in pipes}
        family = Family(
            handover.pid,
            children=frozenset(child.pid for child in children),
            skipped=frozenset((os.getpid(), handover.snapshot_pid)),
            birth=_guarded(lambda: birth_of_run(handover.context.run.run_folder), 0),
            newest=_guarded(lambda: start_ticks(handover.snapshot_pid), None),
        )
        self._scan: Scan = _guarded(lambda: scan(wanted, family), Scan(is_complete=False))

    def _socket_peers(self) -> dict[int, int]:
        """Return the inode of the socket at the other end, by the number of a descriptor."""
        sockets = [item for item in self._descriptors.values() if item.socket and item.socket.is_connected]
        unix = {item.number: item.inode for item in sockets if item.socket and item.socket.kind == "unix"}
        found = read_unix_peers(list(unix.values())[:_UNIX_LIMIT])
        peers = {number: found[inode] for number, inode in unix.items() if inode in found}
        pairs = {
            item.number: (item.socket.peer_address, item.socket.local_address)
            for item in sockets
            if item.socket
            and item.socket.kind == "TCP"
            and item.socket.peer_address
            and item.socket.local_address
        }
        inodes = _guarded(lambda: read_tcp_inodes(pairs.values()), dict[tuple[Address, Address], int]())
        return {**peers, **{number: inodes[pair] for number, pair in pairs.items() if pair in inodes}}

    def of_descriptors(self) -> dict[int, Descriptor]:
        return {
            number: item._replace(other_end=self._other_end(item))
            for number, item in self._descriptors.items()
        }

    def _other_end(self, item: Descriptor) -> OtherEnd | None:
        if item.number in self._peers:
            inode = self._peers[item.number]
            own = self._own(lambda other: other.kind == "socket" and other.inode == inode)
            return self._scan.other_end(f"socket:[{inode}]", reads=True, own=own)
        if item.kind not in ("pipe", "fifo") or item.reads == item.writes:
            return None
        return self._end_of(item.link, reads=item.writes)

    def _end_of(self, link: str, *, reads: bool) -> OtherEnd:
        own = self._own(lambda other: other.link == link and (other.reads if reads else other.writes))
        return self._scan.other_end(link, reads=reads, own=own)

    def _own(self, fits: Callable[[Descriptor], bool]) -> list[Holder]:
        return [
            Holder(self._captured, "", item.number, is_captured=True)
            for item in self._descriptors.values()
            if fits(item)
        ]

    def of_children(self) -> list[Child]:
        found = []
        for child in self._children:
            pipe = child.pipe
            if pipe is not None:
                pipe = pipe._replace(other_end=self._end_of(pipe.link, reads=pipe.writes))
            found.append(with_pipe(child, pipe))
        return found


def _add_locks(handover: Handover, descriptors: dict[int, Descriptor]) -> dict[int, Descriptor]:
    """Add the locks that others hold on the files, and the names of who holds them."""
    files = [item for item in descriptors.values() if item.kind == "file"]
    if not files:
        return descriptors
    locks, mounts = read_locks(handover.pid), read_mounts()
    for item in files:
        device = mounts.get(item.mount or 0, item.device)
        held = dict.fromkeys((*item.locks, *locks.get((*device, item.lock_inode or item.inode), ())))
        if held:
            descriptors[item.number] = item._replace(locks=tuple(with_holder(lock) for lock in held))
    return descriptors
