"""How pause and time grow with size, threads, mappings, libraries, and reserved memory."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

from results import FORK, KERNEL, MEMORY, Series, Spec

if TYPE_CHECKING:
    from pathlib import Path

    from measure import Measurer

_WAYS = (FORK, MEMORY, KERNEL)
_BASE = Spec(size_mib=100, threads=4, memory="mixed")
_TIB = 1 << 20
"""In MiB."""
LIBRARIES = 200
_PLANS = {
    "--quick": ((64, 128), (1, 16), (0, 1000), (0, 20)),
    "": ((64, 256, 1024), (1, 64, 512), (0, 1000, 10000), (0, 50, LIBRARIES)),
    "--full": ((64, 256, 1024, 4096), (1, 64, 512, 1024), (0, 1000, 10000), (0, 50, LIBRARIES)),
}


def measure_growth(measurer: Measurer, plan: str, rounds: int, folder: Path) -> list[Series]:
    """Measure each property alone; ``plan`` is "", ``--quick`` or ``--full``."""
    sizes, threads, mappings, libraries = _PLANS[plan]
    built = build_libraries(folder, max(libraries))
    series = [
        _measure(measurer, rounds, "size", [(f"{n} MiB", replace(_BASE, size_mib=n)) for n in sizes]),
        _measure(measurer, rounds, "threads", [(f"{n} of them", replace(_BASE, threads=n)) for n in threads]),
        _measure(
            measurer,
            rounds,
            "mappings",
            [(f"{n:,} more mappings", replace(_BASE, mappings=n)) for n in mappings],
        ),
        _measure(
            measurer,
            rounds,
            "libraries",
            [(f"{n} more libraries", replace(_BASE, libraries=built[:n])) for n in libraries],
        ),
    ]
    reserved = [
        ("100 MiB", replace(_BASE, reserved_mib=100)),
        ("1 TiB, 100 MiB of it touched", replace(_BASE, reserved_mib=_TIB)),
    ]
    return [*series, _measure(measurer, rounds, "reserved memory", reserved)]


def _measure(measurer: Measurer, rounds: int, name: str, rows: list[tuple[str, Spec]]) -> Series:
    cells = [measurer.measure_cell(spec, _WAYS, rounds) for _, spec in rows]
    return Series(name, [label for label, _ in rows], cells)


def build_libraries(folder: Path, count: int) -> tuple[str, ...]:
    """Compile tiny shared libraries, each another one."""
    source = folder / "library.c"
    source.write_text("int NAME(void) { return NUMBER; }\n")
    libraries = []
    for number in range(count):
        library = folder / f"libbench{number}.so"
        names = (f"-DNAME=bench_{number}", f"-DNUMBER={number}")
        subprocess.run(["cc", "-shared", "-fPIC", *names, "-o", library, source], check=True)
        libraries.append(str(library))
    return tuple(libraries)
