"""The picture of the main comparison: bars in four panels, as SVG."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from results import FORK, GCORE_TAR, KERNEL, MEMORY, PLAIN
from table import METRICS, baseline, number, ratio

if TYPE_CHECKING:
    from results import Cell
    from table import Metric

_WAYS = (FORK, MEMORY, KERNEL, PLAIN, GCORE_TAR)
_COLORS = {FORK: "#8c8c8c", MEMORY: "#1a66b3", KERNEL: "#5b9bd5", PLAIN: "#d98026", GCORE_TAR: "#a8481f"}
_PANELS = ("pause_s", "archive_s", "archive_bytes", "disk_bytes")
_PANEL_WIDTH, _PANEL_HEIGHT = 430, 170
_NAMES, _BAR, _ROW = 125, 180, 24
"""Pixels for the names at the left, for the longest bar, and for a row."""


class _Drawing:
    """Collects elements."""

    def __init__(self) -> None:
        self.elements: list[str] = []

    def text(self, x: float, y: float, content: str, *, style: str = "", anchor: str = "start") -> None:
        """Add a line of text."""
        self.elements.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style and f" {style}"}>'
            f"{escape(content)}</text>"
        )

    def bar(self, x: float, y: float, width: float, color: str) -> None:
        """Add a bar that can be seen, however short it is."""
        self.elements.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="14" fill="{color}"/>'
        )

    def whisker(self, low: float, high: float, y: float) -> None:
        """Add a line from the minimum to the maximum."""
        path = f"M{low:.1f} {y:.1f}H{high:.1f}M{low:.1f} {y - 3:.1f}v6M{high:.1f} {y - 3:.1f}v6"
        self.elements.append(f'<path d="{path}" stroke="#222" fill="none"/>')


def draw(cell: Cell) -> str:
    """Return the picture of one cell."""
    drawing = _Drawing()
    metrics = {metric.name: metric for metric in METRICS}
    title = str(cell.spec)
    drawing.text(12, 24, title, style='font-size="15" font-weight="bold"')
    note = (
        f"Bars: medians; lines: minimum to maximum; numbers: times the median of {MEMORY}. Shorter is better"
    )
    drawing.text(12, 42, note, style='fill="#555"')
    for position, name in enumerate(_PANELS):
        row, column = divmod(position, 2)
        _draw_panel(drawing, cell, metrics[name], column * _PANEL_WIDTH + 12, row * _PANEL_HEIGHT + 74)
    width, height = 2 * _PANEL_WIDTH + 12, 2 * _PANEL_HEIGHT + 64
    style = f'width="{width}" height="{height}" font-family="sans-serif" font-size="12"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" {style}>',
            f"<title>{escape(f'Ways to get a core archive: {title}')}</title>",
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *drawing.elements,
            "</svg>\n",
        ]
    )


def _draw_panel(drawing: _Drawing, cell: Cell, metric: Metric, left: float, top: float) -> None:
    drawing.text(left, top, metric.title, style='font-weight="bold"')
    base = baseline(cell, metric.name)
    longest = max((value for way in _WAYS for value in cell.values(way, metric.name)), default=0) or 1
    start, y = left + _NAMES, top + 8
    for way in _WAYS:
        values = cell.values(way, metric.name)
        if not values and way not in cell.skipped:
            continue  # it makes none
        drawing.text(start - 6, y + 12, way, anchor="end")
        if values:
            middle = median(values)
            low, center, high = (value / longest * _BAR for value in (values[0], middle, values[-1]))
            drawing.bar(start, y, center, _COLORS[way])
            drawing.whisker(start + low, start + high, y + 7)
            label = ratio(middle, base)
            if way == MEMORY:
                label = f"1 ({number(middle / metric.divisor)} {metric.unit})"
            drawing.text(start + max(high, center) + 6, y + 12, label)
        else:
            drawing.text(start, y + 12, "not measured", style='fill="#555" font-style="italic"')
        y += _ROW
