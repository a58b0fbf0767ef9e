"""The results in docs/explanation/benchmarks.md: ratios only, between two marks."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from results import FORK, KERNEL, MEMORY, MEMORY_CORE, WAYS
from table import METRICS, MIB, baseline, quartiles, ratio, session_ratio, summary_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from results import Cell, Overhead, Report, Series, Session

BEGIN, END = "<!-- results: made by compare.py --docs -->", "<!-- end of results -->"


def rewrite(page: Path, report: Report) -> None:
    """Replace what is between the marks."""
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        message = f"{page} has no place for results"
        raise ValueError(message)
    page.write_text(f"{before}{begin}\n\n{format_results(report)}\n{end}{after}")


def format_results(report: Report) -> str:
    """Return Markdown."""
    lines = [f"`{report.command}`", "", report.machine]
    for cell in report.main:
        lines += ["", *_lines_of_cell(cell)]
    for series in report.growth:
        lines += ["", *_lines_of_series(series)]
    if report.overhead is not None:
        lines += ["", *_lines_of_overhead(report.overhead)]
    if report.session is not None:
        lines += ["", *_lines_of_session(report.session)]
    return "\n".join(lines) + "\n"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = list(header)
    yield f"| {' | '.join(names)} |"
    yield "|---" * len(names) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _lines_of_cell(cell: Cell) -> Iterator[str]:
    yield f"### {cell.spec}"
    yield ""
    yield f"Times the median of `{MEMORY}`, time to core that of `{MEMORY_CORE}`: median (minimum..maximum)."
    yield ""
    shown = [metric for metric in METRICS if baseline(cell, metric.name)]
    rows = []
    for way in WAYS:
        if way in cell.samples:
            rows.append([way, *(_spread(cell, way, metric.name) for metric in shown)])
        elif way in cell.skipped:
            rows.append([way, f"not measured: {cell.skipped[way]}", *[""] * (len(shown) - 1)])
    yield from _table(["way", *(metric.title for metric in shown)], rows)
    yield ""
    yield from (f"- {line}" for line in summary_of(cell))


def _spread(cell: Cell, way: str, metric: str) -> str:
    values, base = cell.values(way, metric), baseline(cell, metric)
    if not values:
        return ""
    middle = ratio(median(values), base)
    return f"{middle} ({ratio(values[0], base)}..{ratio(values[-1], base)})"


def _lines_of_series(series: Series) -> Iterator[str]:
    yield f"### Growth with {series.name}"
    yield ""
    yield "Medians, times those of the first row."
    yield ""
    columns = [(way, metric) for way in (FORK, MEMORY, KERNEL) for metric in (METRICS[0], METRICS[2])]
    shown = [column for column in columns if column != (FORK, METRICS[2])]
    rows = []
    for label, cell in zip(series.labels, series.cells, strict=True):
        row = [label]
        for way, metric in shown:
            values = cell.values(way, metric.name)
            first = series.cells[0].values(way, metric.name)
            row.append(ratio(median(values), median(first)) if values and first else "not measured")
        rows.append(row)
    yield from _table(["", *(f"{way}: {metric.title}" for way, metric in shown)], rows)


def _lines_of_overhead(overhead: Overhead) -> Iterator[str]:
    yield f"### Overhead on {overhead.tests:,} passing tests"
    yield ""
    rows = [
        [name, f"{quartiles(overhead.start_ms(name))} ms", f"{quartiles(overhead.test_us(name))} µs"]
        for name in list(overhead.one_s)[1:]
    ]
    yield from _table(["plugin", "start", "a test"], rows)
    if overhead.version_s:
        off, base = (median(overhead.version_s[name]) for name in ("off", overhead.base))
        all_off, all_base = (median(overhead.many_s[name]) for name in ("off", overhead.base))
        yield ""
        imported = quartiles([1e3 * seconds for seconds in overhead.import_s])
        yield (
            f"Installed and off, `pytest --version` takes {quartiles(overhead.version_ms())} ms more, "
            f"{off / base:.3f} times that without the plugin; the run of all these tests "
            f"{all_off / all_base:.3f} times. What is imported then takes {imported} ms of it. Installed are "
            f"{overhead.installed_bytes / MIB:.2f} MiB."
        )


def _lines_of_session(session: Session) -> Iterator[str]:
    yield f"### A session of {session.tests} failing tests with default limits"
    yield ""
    memory = median(session.on_bytes) / median(session.off_bytes)
    yield (
        f"{max(session.archives)} archives, at most {max(session.collectors)} collectors at a time. It took "
        f"{session_ratio(session):.3g} times (1.2 times the session without the plugin, plus ten archives). "
        f"The peak memory of pytest was {memory:.3g} times that without."
    )
