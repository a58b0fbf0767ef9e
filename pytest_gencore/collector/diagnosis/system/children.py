"""The children of the captured process, as they were before its snapshot was taken."""

from __future__ import annotations

import os
import re
import struct
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_gencore.collector.diagnosis.system.call_tables import BY_NUMBER, READING, WRITING
from pytest_gencore.collector.diagnosis.system.living import (
    descendants_of,
    fields_of_stat,
    parent_in,
    read_start,
    some_links_of,
)
from pytest_gencore.collector.diagnosis.system.records import Reader
from pytest_gencore.machine.process import split_stat, start_ticks
from pytest_gencore.protocol import CHILD, NOT_READ
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_gencore.collector.diagnosis.system.holders import OtherEnd
    from pytest_gencore.collector.source.handover import Handover

_STATES: Final = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for a device",
    "T": "stopped",
    "t": "stopped by a debugger",
    "Z": "ended, not waited for",
    "X": "ended",
    "I": "idle",
}
_SHOWN_COMMAND: Final = 100
_CALL = re.compile(rb"(\d+) ((?:0x[0-9a-f]+ ){6})0x")
_PIPE_WRITE = re.compile(r"(anon_|fifo_)?pipe_write")
_PIPE_READ = re.compile(r"(anon_|fifo_)?pipe_read")
"""Functions of the kernel: ``fs/pipe.c``."""
_LIMIT: Final = 32


class BlockedPipe(NamedTuple):
    """The pipe for which a child sleeps."""

    link: str
    """Such as ``pipe:[123]``."""
    writes: bool
    """Whether it waits for room in it, else for bytes."""
    descriptor: int
    is_sure: bool
    """Whether the child's system call names the descriptor; else it is the only one that it can be."""
    other_end: OtherEnd | None = None

    @property
    def only_captured(self) -> bool:
        """Whether only the captured process could let the child go on."""
        return self.other_end is not None and self.other_end.only_captured


class Child(NamedTuple):
    """One of them."""

    pid: int
    command: str
    """Its command line, the beginning; its name in brackets if there is none."""
    state: str
    """The letter in ``/proc/PID/stat``."""
    age: float
    """Seconds from its start to the capture."""
    began: int
    """Its start in ticks since boot."""
    channel: str
    """The function of the kernel in which it sleeps; empty if that is not known."""
    call: str = ""
    """The name of its system call; empty if that may not be read."""
    call_arguments: tuple[int, ...] = ()
    links: tuple[tuple[int, str], ...] = ()
    """Some of its descriptors: the first three and that of its system call."""
    pipe: BlockedPipe | None = None
    is_direct: bool = True
    """False for a child of a child."""
    used: float = 0.0
    """Seconds of a processor that it had used until ``seen``."""
    seen: float = 0.0
    """When it was looked at, by ``time.monotonic()``."""
    cpu: float | None = None
    """Processors that it used afterwards, 1.0 for a whole one; None if that was not looked at."""
    cpu_seconds: float = 0.0
    """For how long it was watched."""

    @property
    def state_text(self) -> str:
        """Such as ``sleeping``."""
        return _STATES.get(self.state, f"in state {self.state}")

    def describe(self) -> str:
        """Return a line that begins with ``child 4711:``."""
        command = escape_unprintable(self.command)
        if len(command) > _SHOWN_COMMAND:
            command = command[: _SHOWN_COMMAND - 3] + "..."
        where = f" in {self.call or self.channel}" if self.call or self.channel else ""
        parts = [
            f"child {self.pid}: {command}",
            f"{self.state_text}{where}",
            f"{format_duration(self.age)} old",
        ]
        if self.cpu is not None:
            parts.append(f"{self.cpu:.0%} CPU over {self.cpu_seconds:.1f} s".replace("%", " %", 1))
        if self.pipe is not None:
            parts.append(self._pipe_text(self.pipe))
        return escape_unprintable(", ".join(parts))

    def _pipe_text(self, pipe: BlockedPipe) -> str:
        probably = "" if pipe.is_sure else "probably "
        who = pipe.other_end.describe(self.pid) if pipe.other_end is not None else ""
        if pipe.writes:
            return f"its pipe fd {pipe.descriptor} is {probably}full" + (f", read by {who}" if who else "")
        return f"its pipe fd {pipe.descriptor} is {probably}empty" + (f", written by {who}" if who else "")

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        pipe = self.pipe
        return {
            "pid": self.pid,
            "command": escape_unprintable(self.command),
            "state": escape_unprintable(self.state),
            "age_s": self.age,
            "text": self.describe(),
            "wait_channel": escape_unprintable(self.channel),
            "call": self.call,
            "is_direct": self.is_direct,
            "cpu": self.cpu,
            "cpu_seconds": self.cpu_seconds,
            "pipe": None
            if pipe is None
            else {
                "fd": pipe.descriptor,
                "link": pipe.link,
                "writes": pipe.writes,
                "is_sure": pipe.is_sure,
                "only_captured": pipe.only_captured,
                "other_end": None if pipe.other_end is None else pipe.other_end.to_json(),
            },
        }


def read_children(handover: Handover) -> list[Child]:
    """Return those of the hand-over, or, where the kernel has no list of children, those that live now.

    And their children, and so on, as far as they live now: 32 in all.
    """
    machine = handover.context.run.machine
    children = list(_parse(handover, machine))
    direct = {child.pid for child in children}
    skipped = {os.getpid(), handover.snapshot_pid}
    is_listed = handover.child_count != NOT_READ
    try:
        newest = start_ticks(handover.snapshot_pid)
    except (OSError, ValueError, IndexError):
        return children
    for pid, ticks in descendants_of(handover.pid, direct, include_direct=not is_listed):
        if len(children) >= _LIMIT:
            break
        if pid not in skipped and ticks <= newest:
            texts = {
                name: read_start(f"/proc/{pid}/{name}") for name in ("stat", "cmdline", "wchan", "syscall")
            }
            now = time.monotonic()
            child = _make(pid, texts, some_links_of(pid, first_argument(texts["syscall"])), handover, machine)
            if child is not None:
                is_direct = parent_in(texts["stat"]) == handover.pid
                children.append(child._replace(is_direct=is_direct, seen=now))
    return children


def _parse(handover: Handover, machine: str) -> Iterator[Child]:
    reader = Reader(handover.children)
    try:
        while reader.has_more:
            record = reader.record(CHILD)
            sizes = ("stat_size", "command_size", "channel_size", "call_size")
            names = ("stat", "cmdline", "wchan", "syscall")
            texts = {name: reader.piece(record[size]) for name, size in zip(names, sizes, strict=True)}
            links = []
            for item in reader.piece(record["links_size"]).split(b"\0")[:-1]:
                number, _, link = item.partition(b"=")
                links.append((int(number), os.fsdecode(link)))
            child = _make(record["pid"], texts, links, handover, machine)
            if child is not None:
                yield child
    except (struct.error, ValueError):
        return


def _make(
    pid: int, texts: Mapping[str, bytes], links: list[tuple[int, str]], handover: Handover, machine: str
) -> Child | None:
    """Make it of the texts of ``/proc/PID``; None if it had ended."""
    fields = split_stat(texts["stat"])
    if len(fields) < 20:
        return None
    name = os.fsdecode(texts["stat"]).partition("(")[2].rpartition(")")[0]
    command = os.fsdecode(texts["cmdline"].rstrip(b"\0").replace(b"\0", b" ")) or f"[{name}]"
    began = int(fields[19])
    channel = os.fsdecode(texts["wchan"]).strip("\0\n")
    match = _CALL.match(texts["syscall"])
    number = int(match[1]) if match else -1
    kind = BY_NUMBER.get(machine, {}).get(number)
    return Child(
        pid=pid,
        command=command,
        state=os.fsdecode(fields[0]),
        age=max(0.0, _boot_seconds(handover) - began / os.sysconf("SC_CLK_TCK")),
        began=began,
        used=_processor_seconds(fields),
        seen=handover.stopped_at_ns / 1e9,
        channel="" if channel == "0" else channel,
        call=kind.name if kind else "",
        call_arguments=tuple(int(text, 16) for text in match[2].split()) if match else (),
        links=tuple(links),
    )


def _processor_seconds(fields: list[bytes]) -> float:
    """Return what a process has used, by fields 14 and 15 of ``stat``."""
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def with_cpu(children: list[Child], seconds: float) -> list[Child]:
    """Return them with what they use of processors, each watched for so long at least; sleeps for that."""
    if not children:
        return children
    time.sleep(max(0.0, max(child.seen for child in children) + seconds - time.monotonic()))
    return [_look_again(child) for child in children]


def _look_again(child: Child) -> Child:
    fields = fields_of_stat(child.pid)
    if len(fields) < 20 or int(fields[19]) != child.began or fields[0] in (b"Z", b"X"):
        return child
    over = time.monotonic() - child.seen
    return child._replace(cpu=max(0.0, _processor_seconds(fields) - child.used) / over, cpu_seconds=over)


def _boot_seconds(handover: Handover) -> float:
    """Return when the capture was, in seconds since boot as ``/proc/PID/stat`` counts them."""
    since_boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return (since_boot - time.monotonic_ns() + handover.stopped_at_ns) / 1e9


def first_argument(call: bytes) -> int | None:
    """Return that of the system call of a text of ``/proc/PID/syscall``."""
    match = _CALL.match(call)
    return int(match[2].split()[0], 16) if match else None


def find_pipe(child: Child, full: set[str]) -> BlockedPipe | None:
    """Return the pipe for which a child sleeps; ``full``: links of pipes that the captured process saw full.

    Its system call tells the descriptor. Where that may not be read, the function of the kernel tells only
    that it is a pipe: then it must be the only one, or the only full one, of its first three descriptors.
    """
    links = dict(child.links)
    if child.call in WRITING or child.call in READING:
        number = child.call_arguments[0]
        if links.get(number, "").startswith("pipe:["):
            is_pipe = not child.channel or "pipe" in child.channel
            return (
                BlockedPipe(links[number], child.call in WRITING, number, is_sure=True) if is_pipe else None
            )
        return None
    writes = bool(_PIPE_WRITE.fullmatch(child.channel))
    if child.call or not (writes or _PIPE_READ.fullmatch(child.channel)):
        return None
    usual = (1, 2) if writes else (0,)
    pipes = [(number, links[number]) for number in usual if links.get(number, "").startswith("pipe:[")]
    if writes and len({link for _, link in pipes}) > 1:
        pipes = [(number, link) for number, link in pipes if link in full]
    if len({link for _, link in pipes}) != 1:
        return None
    return BlockedPipe(pipes[0][1], writes, pipes[0][0], is_sure=False)


def with_pipe(child: Child, pipe: BlockedPipe | None) -> Child:
    """Return the child with the pipe for which it sleeps."""
    return child._replace(pipe=pipe)
