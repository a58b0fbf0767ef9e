"""Draw what a terminal showed as SVG: text, bold and colours; nothing else is understood."""

from __future__ import annotations

import re
from typing import Final
from xml.sax.saxutils import escape

_SGR: Final = re.compile(r"\x1b\[([\d;]*)m")
_COLOURS: Final = {31: "#f85149", 32: "#3fb950", 33: "#d29922", 34: "#58a6ff", 35: "#bc8cff", 36: "#39c5cf"}
_WIDTH, _HEIGHT, _MARGIN, _SIZE = 7.8, 17, 14, 13
_STYLE: Final = "font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"


def draw(text: str, columns: int) -> str:
    """Return the picture; long lines are wrapped as a terminal does."""
    rows = [row for line in text.splitlines() for row in _wrap(_parse(line), columns)]
    width, height = round(columns * _WIDTH) + 2 * _MARGIN, len(rows) * _HEIGHT + 2 * _MARGIN
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        "<title>A hanging test, captured at its deadline</title>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#0d1117"/>',
        f'<g style="{_STYLE};font-size:{_SIZE}px" fill="#e6edf3">',
    ]
    parts += [
        f'<text xml:space="preserve" x="{_MARGIN}" y="{_MARGIN + number * _HEIGHT + _SIZE}" '
        f'textLength="{sum(len(piece) for piece, _ in row) * _WIDTH:.1f}">{_spans(row)}</text>'
        for number, row in enumerate(rows)
        if row
    ]
    return "\n".join([*parts, "</g>", "</svg>", ""])


def strip_colours(text: str) -> str:
    """Return the plain text."""
    return _SGR.sub("", text)


def _parse(line: str) -> list[tuple[str, str]]:
    """Return pieces of text, each with its attributes."""
    pieces, colour, bold, at = [], "", False, 0
    for match in [*_SGR.finditer(line), None]:
        text = line[at : match.start() if match else len(line)]
        if text:
            fill = f' fill="{colour}"' if colour else ""
            pieces.append((text, fill + (' font-weight="bold"' if bold else "")))
        if match:
            at = match.end()
            for code in map(int, (match[1] or "0").split(";")):
                bold = code == 1 or (bold and code != 0)
                colour = _COLOURS.get(code, "" if code in (0, 39) else colour)
    return pieces


def _wrap(pieces: list[tuple[str, str]], columns: int) -> list[list[tuple[str, str]]]:
    rows: list[list[tuple[str, str]]] = [[]]
    left = columns
    for text, attributes in pieces:
        rest = text
        while rest:
            if not left:
                rows.append([])
                left = columns
            rows[-1].append((rest[:left], attributes))
            rest, left = rest[left:], max(0, left - len(rest))
    return rows


def _spans(row: list[tuple[str, str]]) -> str:
    return "".join(f"<tspan{attributes}>{escape(text)}</tspan>" for text, attributes in row)
