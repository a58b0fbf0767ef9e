"""What is known about the snapshot's memory before any of it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.collector.source.link_map import LinkMap, read_link_map
from pytest_gencore.collector.source.procfs import Mapping, read_auxv, read_mappings

if TYPE_CHECKING:
    from pytest_gencore.collector.source.snapshot import Snapshot


class Memory(NamedTuple):
    """Mappings, and the ways to what is in them."""

    mappings: list[Mapping]
    auxv: bytes
    link_map: LinkMap

    @property
    def private_size(self) -> int:
        """Bytes of private memory that exist; 0 from a kernel that does not tell."""
        return sum(mapping.sizes.get(name, 0) for mapping in self.mappings for name in ("Anonymous", "Swap"))


def read_memory(snapshot: Snapshot) -> Memory:
    """Read the mappings of the snapshot and the loader's list; raises OSError."""
    mappings = read_mappings(snapshot.pid, with_sizes=True)
    auxv = read_auxv(snapshot.pid)
    return Memory(mappings, auxv, read_link_map(snapshot, auxv, mappings))
