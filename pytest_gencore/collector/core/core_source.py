"""What the cores of one snapshot are made of: read once, for the archive's core and for pystack's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.collector.core.memory_method import Selection, build_core
from pytest_gencore.collector.core.thread_notes import build_core_notes
from pytest_gencore.collector.source.memory import Memory, read_memory
from pytest_gencore.collector.source.procfs import read_process_facts
from pytest_gencore.corefile.machines import Machine, machine_for
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.collector.core.core_stream import CoreStream
    from pytest_gencore.collector.core.live_pages import LivePages
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot


class CoreSource(NamedTuple):
    """A snapshot, and what is known of it before its memory is read."""

    snapshot: Snapshot
    machine: Machine
    memory: Memory
    notes: bytes
    """The contents of ``PT_NOTE``."""
    clean: Callable[[CoreStream], CoreStream]
    """Takes secrets out of a core."""

    def build_core(self, core_filter: int) -> CoreStream:
        """Plan a core with the memory that ``coredump_filter`` names, see core(5)."""
        return self._build(Selection(core_filter, self.memory.link_map.ranges))

    def build_mini(self, live: LivePages) -> CoreStream:
        """Plan a core with these pages and what debuggers find libraries by."""
        needed = [*self.memory.link_map.ranges, *live.ranges]
        core = self._build(Selection(0, needed, live.blank, live.gaps))
        core.notices.extend(live.notices)
        return core

    def _build(self, selection: Selection) -> CoreStream:
        return self.clean(
            build_core(self.snapshot, self.machine, self.memory.mappings, self.notes, selection)
        )


def read_core_source(
    handover: Handover, snapshot: Snapshot, clean: Callable[[CoreStream], CoreStream]
) -> CoreSource:
    """Read all that a core needs but memory; raises OSError, and ArchiveError for an unknown machine."""
    machine = machine_for(handover.context.run.machine)
    if machine is None:
        message = f"cores of {handover.context.run.machine} are unknown"
        raise ArchiveError(message)
    memory = read_memory(snapshot)
    notes = build_core_notes(
        handover,
        machine,
        read_process_facts(handover.pid, snapshot.pid),
        snapshot,
        auxv=memory.auxv,
        mappings=memory.mappings,
    )
    return CoreSource(snapshot, machine, memory, notes, clean)
