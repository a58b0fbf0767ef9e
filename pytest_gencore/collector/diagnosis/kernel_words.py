"""What the kernel knows of a wait, in words: a descriptor, a child, a pool of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pytest_gencore.texts import escape_unprintable, printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from pytest_gencore.collector.diagnosis.facts import Wait
    from pytest_gencore.collector.diagnosis.system.children import Child
    from pytest_gencore.collector.diagnosis.system.facts import SystemFacts

_COMMAND_LENGTH: Final = 100
_CHILDREN_SHOWN: Final = 4


def describe_descriptor(system: SystemFacts | None, number: int) -> str:
    """Return what a descriptor is: ``127.0.0.1:5432 (postgres), connected, ... (fd 14, TCP from ...)``."""
    found = system.descriptors.get(number) if system is not None else None
    if found is None:
        return f"file descriptor {number}"
    facts = found.socket
    if facts is None or not facts.is_ip or not facts.peer:
        return found.describe()
    text = found.describe().partition(" -> ")[2]
    return f"{text} (fd {number}, {facts.kind} from {escape_unprintable(facts.local)})"


def describe_child(system: SystemFacts | None, child: Child) -> str:
    """Return what a child is and does, and why the captured process will not see its end."""
    pipe = child.pipe
    if system is None or pipe is None or not pipe.writes or pipe.other_end is None:
        return child.describe()
    ends = {holder.descriptor for holder in pipe.other_end.holders if holder.is_captured}
    if not ends or any(ends.intersection(call.reads) for call in system.calls.values()):
        return child.describe()
    command = printable(child.command, _COMMAND_LENGTH)
    probably = "" if pipe.is_sure else "probably "
    return (
        f"child {child.pid}: {command}, {child.state_text} in {child.channel or child.call}: its output "
        f"pipe (fd {pipe.descriptor}) is {probably}full and the test process does not read it"
    )


def describe_pool(wait: Wait) -> str:
    """Return whose results are awaited."""
    children, results = len(_pids_of(wait)), wait.number("count")
    of = f"of a pool of {children} child process{'es' if children != 1 else ''}"
    return f"a result {of}" if results in (None, 1) else f"{results} results {of}"


def told_by_pool(
    wait: Wait, system: SystemFacts | None, forked: Mapping[int, str], idle: AbstractSet[int]
) -> str:
    """Return what the children of a pool do: the one that has told what it waits for, or all of them.

    ``forked``: what children have told; ``idle``: those of them that wait inside of multiprocessing.
    """
    pids = _pids_of(wait)
    busy = next((pid for pid in pids if pid in forked and pid not in idle), None)
    if busy is not None:
        return f"child {busy} (forked): {forked[busy]}"
    if pids and idle >= {*pids}:
        return "all of them wait for work; probably the one that had it has ended"
    if system is None:
        return ""
    known = {child.pid: child for child in system.children}
    found = [_in_pool(system, known[pid], wait) for pid in pids if pid in known]
    more = len(found) - _CHILDREN_SHOWN
    return ", ".join(found[:_CHILDREN_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _in_pool(system: SystemFacts, child: Child, wait: Wait) -> str:
    """Return what one child does: it waits for work if it reads what the pool has to do."""
    jobs = system.descriptors.get(wait.number("jobs") or -1)
    pipe = child.pipe
    if jobs is not None and pipe is not None and not pipe.writes and pipe.is_sure and pipe.link == jobs.link:
        return f"child {child.pid} waits for work"
    where = child.call or child.channel
    return f"child {child.pid} is {child.state_text}" + (f" in {where}" if where else "")


def _pids_of(wait: Wait) -> list[int]:
    pids = wait.details.get("pids")
    return [pid for pid in pids if isinstance(pid, int)] if isinstance(pids, list) else []
