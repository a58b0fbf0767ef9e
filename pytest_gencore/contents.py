"""How much an archive holds: the choices that users have."""

from __future__ import annotations

from typing import Final, Literal

DumpType = Literal["full", "heap", "mini", "text"]
DUMP_TYPES: Final = ("full", "heap", "mini", "text")
ArchiveType = Literal["full", "heap", "mini", "text", "libraries"]
"""``libraries``: nothing else, of several captures."""
Libraries = Literal["each", "once", "none"]
LIBRARIES: Final = ("each", "once", "none")
Environment = Literal["names", "values", "none"]
ENVIRONMENTS: Final = ("names", "values", "none")

_HEAP_BITS: Final = 0x11
"""Of ``coredump_filter``, see core(5): private memory without a file, and the first pages of ELF files."""
_FILTERS: Final[dict[DumpType, int]] = {"full": -1, "heap": _HEAP_BITS, "mini": 0, "text": _HEAP_BITS}


def parse_dump_type(text: object) -> DumpType:
    """Return how much of the process an archive holds."""
    if text not in DUMP_TYPES:
        raise ValueError("expected full, heap, mini or text")
    return text


def parse_libraries(text: object) -> Libraries:
    """Return where the executable and the libraries are: in each archive, once for the run, or nowhere."""
    if text not in LIBRARIES:
        raise ValueError("expected each, once or none")
    return text


def parse_environment(text: object) -> Environment:
    """Return what of the environment the manifest and the texts show."""
    if text not in ENVIRONMENTS:
        raise ValueError("expected names, values or none")
    return text


def limit_filter(dump_type: DumpType, core_filter: int) -> int:
    """Return the bits of ``coredump_filter`` that a type leaves."""
    return core_filter & _FILTERS[dump_type]
