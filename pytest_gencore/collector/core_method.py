"""Make the core, by the one method or the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gencore.collector.kernel_method import dump_core
from pytest_gencore.collector.memory_method import build_core
from pytest_gencore.collector.procfs import read_process_facts
from pytest_gencore.collector.thread_notes import build_core_notes
from pytest_gencore.corefile.machines import machine_for
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.collector.cores import CoreStream
    from pytest_gencore.collector.handover import Handover
    from pytest_gencore.collector.memory import Memory
    from pytest_gencore.collector.snapshot import Snapshot


def make_core(
    method: str, handover: Handover, snapshot: Snapshot, memory: Memory, check: Callable[[], None]
) -> CoreStream:
    """Make the core by method ``kernel`` or ``memory``.

    With ``kernel`` this returns when the kernel has written it; ``check`` is called a few times a second
    meanwhile, and what it raises ends that. Raises ArchiveError if there can
    be no core by this method.
    """
    machine = machine_for(handover.request["machine"])
    if machine is None:
        message = f"cores of {handover.request['machine']} are unknown"
        raise ArchiveError(message)
    notes = build_core_notes(
        handover,
        machine,
        read_process_facts(handover.pid, snapshot.pid),
        snapshot,
        auxv=memory.auxv,
        mappings=memory.mappings,
    )
    if method == "kernel":
        return dump_core(handover, snapshot, notes, check)
    return build_core(snapshot, machine, memory.mappings, notes, handover.core_filter, memory.link_map.ranges)
