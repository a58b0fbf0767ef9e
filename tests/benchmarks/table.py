"""Tables for the terminal: minimum, median, maximum, ratio."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from statistics import median
from typing import TYPE_CHECKING

from results import FORK, GCORE_TAR, KERNEL, LIMIT, MEMORY, MEMORY_CORE, PLAIN, WAYS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from results import Cell, Overhead, Report, Series, Session

MIB = float(1 << 20)


@dataclass(frozen=True, slots=True)
class Metric:
    """A field of a sample, and how it is shown."""

    name: str
    title: str
    unit: str
    divisor: float


METRICS = (
    Metric("pause_s", "pause", "ms", 1e-3),
    Metric("core_s", "time to core", "s", 1),
    Metric("archive_s", "time to archive", "s", 1),
    Metric("archive_bytes", "archive size", "MiB", MIB),
    Metric("disk_bytes", "peak disk", "MiB", MIB),
    Metric("memory_bytes", "peak memory", "MiB", MIB),
    Metric("cpu_s", "CPU of others", "s", 1),
    Metric("own_cpu_s", "CPU of the process", "ms", 1e-3),
)
_WIDTH = 58


def number(value: float) -> str:
    """Return a number with four digits."""
    return f"{value:.4g}" if abs(value) < 10000 else f"{value:.0f}"


def baseline(cell: Cell, metric: str) -> float:
    """Return the median that ratios are to: that of memory, else the first way's; 0 if there is none."""
    for way in (MEMORY, MEMORY_CORE, *WAYS):
        values = cell.values(way, metric)
        if values:
            return median(values)
    return 0.0


def ratio(value: float, base: float) -> str:
    """Return how many times the base a value is."""
    return f"{value / base:.3g}" if base else "-"


def lines_of(report: Report) -> Iterator[str]:
    """Yield everything."""
    yield f"{report.command}\n{report.machine}"
    for cell in report.main:
        yield from lines_of_cell(cell)
    for series in report.growth:
        yield from lines_of_series(series)
    if report.overhead is not None:
        yield from lines_of_overhead(report.overhead)
    if report.session is not None:
        yield from lines_of_session(report.session)


def lines_of_cell(cell: Cell) -> Iterator[str]:
    """Yield a block for each metric, two side by side, and the ratios that matter."""
    rounds = max((len(samples) for samples in cell.samples.values()), default=0)
    yield f"\n== {cell.spec}, {rounds} round{'s'[: rounds != 1]}"
    blocks = [block for metric in METRICS if (block := _block(cell, metric))]
    for position in range(0, len(blocks), 2):
        left, right = [*blocks, []][position : position + 2]
        for first, second in zip_longest(left, right, fillvalue=""):
            yield f"{first:<{_WIDTH}}{second}".rstrip()
        yield ""
    for way, reason in cell.skipped.items():
        yield f"NOT MEASURED: {way}: {reason}"
    yield from summary_of(cell)


def _block(cell: Cell, metric: Metric) -> list[str]:
    base = baseline(cell, metric.name)
    rows = []
    for way in WAYS:
        values = cell.values(way, metric.name)
        if values:
            low, middle, high = (
                number(value / metric.divisor) for value in (values[0], median(values), values[-1])
            )
            rows.append(f"  {way:<17}{low:>8}{middle:>8}{high:>8}{ratio(median(values), base):>8}")
    header = f"{metric.title + ', ' + metric.unit:<19}{'min':>8}{'median':>8}{'max':>8}{'ratio':>8}"
    return [header, *rows] if rows else []


def summary_of(cell: Cell) -> Iterator[str]:
    """Yield, for each of our methods, how it compares with the others, as ratios of medians."""

    def compare(metric: str, above: str, below: str) -> str:
        upper, lower = cell.values(above, metric), cell.values(below, metric)
        return f"{median(upper) / median(lower):.3g}" if upper and lower and median(lower) else "?"

    for ours in (MEMORY, KERNEL):
        if not cell.samples.get(ours):
            continue
        parts = [f"pause {compare('pause_s', ours, FORK)} x a {FORK}"]
        if cell.samples.get(LIMIT):
            parts.append(f"{compare('archive_s', ours, LIMIT)} x the time of the {LIMIT}")
        parts += [
            f"{compare('archive_s', other, ours)} x sooner than {other} "
            f"(its pause {compare('pause_s', other, ours)} x ours, our size "
            f"{compare('archive_bytes', ours, other)} x its)"
            for other in (PLAIN, GCORE_TAR)
            if cell.samples.get(other)
        ]
        yield f"{ours}: {'; '.join(parts)}"


def lines_of_series(series: Series) -> Iterator[str]:
    """Yield how pause and time to archive grow, each with the ratio to the first row."""
    yield f"\n== growth with {series.name} ({series.cells[0].spec} where nothing else is said)"
    for metric in (METRICS[0], METRICS[2]):
        for way in (FORK, MEMORY, KERNEL):
            if not any(cell.values(way, metric.name) or way in cell.skipped for cell in series.cells):
                continue
            title = f"{way}: {metric.title}, {metric.unit}"
            yield f"{title:<32}{'min':>9}{'median':>9}{'max':>9}{'ratio':>9}"
            base = 0.0
            for label, cell in zip(series.labels, series.cells, strict=True):
                values = cell.values(way, metric.name)
                if not values:
                    yield f"  {label:<30}NOT MEASURED: {cell.skipped.get(way, '')}"
                    continue
                base = base or median(values)
                cells = (number(value / metric.divisor) for value in (values[0], median(values), values[-1]))
                row = "".join(f"{text:>9}" for text in (*cells, ratio(median(values), base)))
                yield f"  {label:<30}{row}"


def lines_of_overhead(overhead: Overhead) -> Iterator[str]:
    """Yield what the plugin costs more than a run without it, compared round by round."""
    rounds = len(overhead.one_s[overhead.base])
    yield f"\n== overhead on {overhead.tests} passing tests, {rounds} rounds, processor time of whole runs"
    for title, table in (
        ("run of one test, s", overhead.one_s),
        ("run of all tests, s", overhead.many_s),
        ("pytest --version, s", overhead.version_s),
    ):
        yield f"{title:<32}{'min':>9}{'median':>9}{'max':>9}{'ratio':>9}"
        for name, values in table.items():
            row = (min(values), median(values), max(values))
            cells = [*map(number, row), ratio(median(values), median(table[overhead.base]))]
            yield f"  {name:<30}" + "".join(f"{text:>9}" for text in cells)
    for name in list(overhead.one_s)[1:]:
        start, test = quartiles(overhead.start_ms(name)), quartiles(overhead.test_us(name))
        yield f"  {name}: start {start} ms, a test {test} us"
    if overhead.version_s:
        yield f"  off: pytest --version {quartiles(overhead.version_ms())} ms"
        imported = quartiles([1e3 * seconds for seconds in overhead.import_s])
        yield f"  off: import {imported} ms, installed {number(overhead.installed_bytes / MIB)} MiB"


def quartiles(values: list[float]) -> str:
    """Return the median, and the quarters around it in parentheses."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    return f"{number(median(values))} ({number(low)}..{number(high)})"


def session_ratio(session: Session) -> float:
    """Return the time relative to 1.2 times that without the plugin plus that of ten archives."""
    ten = median(session.ten_on_s) - median(session.ten_off_s)
    return median(session.on_s) / (1.2 * median(session.off_s) + ten)


def lines_of_session(session: Session) -> Iterator[str]:
    """Yield what a session with many failing tests takes."""
    yield f"\n== session of {session.tests} failing tests, default limits, {len(session.on_s)} rounds"
    for name, values in (
        ("without the plugin, s", session.off_s),
        ("--gencore-on-fail, s", session.on_s),
        ("10 tests without, s", session.ten_off_s),
        ("10 tests with, s", session.ten_on_s),
    ):
        yield f"  {name:<30}" + "".join(
            f"{number(value):>9}" for value in (min(values), median(values), max(values))
        )
    yield f"  with / (1.2 x without + ten archives): {session_ratio(session):.3g}"
    yield f"  archives {max(session.archives)}; collectors at a time: at most {max(session.collectors)}"
    memory = median(session.on_bytes) / median(session.off_bytes)
    yield f"  peak memory of pytest: {memory:.3g} x that without the plugin"
    yield from (f"  | {line}" for line in session.account)
