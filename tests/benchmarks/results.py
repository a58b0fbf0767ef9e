"""What was measured: plain data, to JSON and back, so that tables and picture can be made again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FORK = "bare fork"
LIMIT = "limit"
MEMORY, KERNEL = "memory", "kernel"
MEMORY_CORE, KERNEL_CORE = "memory (core)", "kernel (core)"
PLAIN = "fork+SIGSEGV+tar"
GCORE, GCORE_TAR = "gcore", "gcore+tar"
WAYS = (FORK, LIMIT, MEMORY, KERNEL, PLAIN, GCORE_TAR, MEMORY_CORE, KERNEL_CORE, GCORE)
OTHERS = (PLAIN, GCORE, GCORE_TAR)
"""Ways that are not ours."""


@dataclass(frozen=True, slots=True)
class Spec:
    """The process that is captured."""

    size_mib: int
    threads: int
    """Beside the one that sees pauses."""
    memory: str
    mappings: int = 0
    """How many more mappings of one page."""
    libraries: tuple[str, ...] = ()
    """Shared libraries to load."""
    reserved_mib: int = 0
    """If more than 0: the memory is in one mapping of this size."""

    def __str__(self) -> str:
        return f"{self.size_mib} MiB, {self.threads} thread{'s'[: self.threads != 1]}, {self.memory} memory"


@dataclass(frozen=True, slots=True)
class Sample:
    """One capture; None is what this way does not have."""

    pause_s: float
    """Longest time that another thread of the process did not run."""
    core_s: float | None
    """Until the core was whole."""
    archive_s: float | None
    """Until the archive was finished."""
    archive_bytes: int | None
    disk_bytes: int | None
    """Peak in the directory."""
    memory_bytes: int | None
    """Peak of the collector, or of the largest of gcore and tar."""
    cpu_s: float | None
    """Of collector and snapshot, or of the child processes."""
    own_cpu_s: float
    """Of the captured process, without the thread that sees pauses."""


@dataclass(slots=True)
class Cell:
    """All ways on one process."""

    spec: Spec
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Ways that were not measured, and why."""

    def values(self, way: str, name: str) -> list[float]:
        """Return one field of all samples, sorted; none if this way does not have it."""
        values = (getattr(sample, name) for sample in self.samples.get(way, []))
        return sorted(value for value in values if value is not None)


@dataclass(slots=True)
class Series:
    """What one property of the process does to pause and time."""

    name: str
    labels: list[str] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)


@dataclass(slots=True)
class Overhead:
    """Processor seconds of whole runs of pytest, by arrangement; one value a round.

    The first arrangement is the one that the others are compared with.
    """

    tests: int
    one_s: dict[str, list[float]] = field(default_factory=dict)
    """Of a run of one test."""
    many_s: dict[str, list[float]] = field(default_factory=dict)
    """Of a run of ``tests`` tests."""
    version_s: dict[str, list[float]] = field(default_factory=dict)
    """Of ``pytest --version``, without the plugin and with it."""
    import_s: list[float] = field(default_factory=list)
    """Of the import of what is imported when it is off."""
    installed_bytes: int = 0
    """Of the package without compiled bytecode."""

    def version_ms(self) -> list[float]:
        """Return how much longer ``pytest --version`` takes with the plugin, round by round."""
        without, with_plugin = self.version_s.values()
        return [1e3 * more for more in _differences(with_plugin, without)]

    @property
    def base(self) -> str:
        """Return the arrangement that the others are compared with."""
        return next(iter(self.one_s))

    def start_ms(self, name: str) -> list[float]:
        """Return how much longer a run of one test takes than the base, round by round."""
        return [1e3 * more for more in _differences(self.one_s[name], self.one_s[self.base])]

    def test_us(self, name: str) -> list[float]:
        """Return how much longer each further test takes than the base's, round by round."""
        many = _differences(self.many_s[name], self.many_s[self.base])
        one = _differences(self.one_s[name], self.one_s[self.base])
        return [1e6 * (more - start) / (self.tests - 1) for more, start in zip(many, one, strict=True)]


def _differences(values: list[float], base: list[float]) -> list[float]:
    return [value - other for value, other in zip(values, base, strict=True)]


@dataclass(slots=True)
class Session:
    """A session of failing tests with default limits; one value a round."""

    tests: int
    off_s: list[float] = field(default_factory=list)
    on_s: list[float] = field(default_factory=list)
    ten_off_s: list[float] = field(default_factory=list)
    ten_on_s: list[float] = field(default_factory=list)
    archives: list[int] = field(default_factory=list)
    collectors: list[int] = field(default_factory=list)
    """Most of them that wrote at the same time."""
    off_bytes: list[int] = field(default_factory=list)
    on_bytes: list[int] = field(default_factory=list)
    """Peak memory of the pytest process."""
    account: list[str] = field(default_factory=list)
    """What the summary said."""


@dataclass(slots=True)
class Report:
    """One run of the command."""

    command: str
    machine: str
    main: list[Cell] = field(default_factory=list)
    growth: list[Series] = field(default_factory=list)
    overhead: Overhead | None = None
    session: Session | None = None

    def save(self, path: Path) -> None:
        """Write JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(path: Path) -> Report:
    """Read what `Report.save` wrote."""
    data = json.loads(path.read_text())
    return Report(
        command=data["command"],
        machine=data["machine"],
        main=[_cell(cell) for cell in data["main"]],
        growth=[
            Series(series["name"], series["labels"], [_cell(cell) for cell in series["cells"]])
            for series in data["growth"]
        ],
        overhead=Overhead(**data["overhead"]) if data["overhead"] else None,
        session=Session(**data["session"]) if data["session"] else None,
    )


def _cell(data: dict[str, Any]) -> Cell:
    spec = Spec(**{**data["spec"], "libraries": tuple(data["spec"]["libraries"])})
    samples = {way: [Sample(**sample) for sample in samples] for way, samples in data["samples"].items()}
    return Cell(spec, samples, data["skipped"])
