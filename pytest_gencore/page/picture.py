"""Who waits for whom, as chains of boxes: one picture for each chain, a deadlock first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.document.merge import find_waits
from pytest_gencore.document.words import Names, short_path
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from pytest_gencore.archive.diagnosis_file import Node, Place, Wait
    from pytest_gencore.document.model import Document

_WIDTH: Final = 400
_BOX: Final = 48
_GAP: Final = 46
_TITLE: Final = 40
_LABEL: Final = 50
_LONGEST: Final = 8
"""Boxes of a chain that are drawn."""


class Box(NamedTuple):
    """A thread, a task, or what is waited for."""

    y: int
    title: str
    place: str
    kind: str
    """``thread``, ``task`` or ``end``."""
    stuck: bool


class Arrow(NamedTuple):
    """From a box to the next."""

    y: int
    label: str
    full: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A chain; y is that of a box's upper side."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    closes: bool
    """Whether the last waits for the first."""
    height: int
    text: str
    """All of it in words."""
    count: int
    """How many chains look like this one."""
    width: int = _WIDTH
    box: int = _BOX
    gap: int = _GAP


def make_pictures(document: Document) -> list[Picture]:
    """Return the chains that end with somebody who is known or in a resource, each kind once."""
    waits = {node: wait for node, wait, _ in find_waits(document.threads, document.tasks)}
    awaited = {holder for wait in waits.values() for holder in wait.holders}
    starts = [*document.cycle[:1], *(node for node in waits if node not in awaited)]
    found: dict[tuple[object, ...], Picture] = {}
    counts: dict[tuple[object, ...], int] = {}
    drawn = set(document.cycle)
    artist = _Artist(document, waits)
    for number, start in enumerate(starts):
        if number >= len(document.cycle[:1]) and start in drawn:
            continue
        nodes = _follow(start, waits)
        wait = waits[start]
        if len(nodes) == 1 and not wait.holders and wait.kind in ("call", "loop"):
            continue  # that is in the list of threads: nothing to draw
        key = (*nodes[1:], wait.text, len(nodes))
        counts[key] = counts.get(key, 0) + 1
        if key not in found:
            found[key] = artist.draw(nodes)
    return [_with_count(picture, counts[key]) for key, picture in found.items()]


def _with_count(picture: Picture, count: int) -> Picture:
    if count == 1:
        return picture
    first = picture.boxes[0]
    boxes = (first._replace(title=f"{first.title} and {count - 1} more"), *picture.boxes[1:])
    return Picture(boxes, picture.arrows, picture.closes, picture.height, picture.text, count)


def _follow(start: Node, waits: dict[Node, Wait]) -> list[Node]:
    """Return a chain of waiters; the last one waits for nobody, or for one that is in it."""
    path = [start]
    while len(path) < _LONGEST:
        wait = waits.get(path[-1])
        following = next((holder for holder in wait.holders), None) if wait else None
        if following is None or following in path:
            break
        path.append(following)
    return path


class _Artist:
    """Draws chains of one capture."""

    def __init__(self, document: Document, waits: dict[Node, Wait]) -> None:
        self._cycle = frozenset(document.cycle)
        self._rootdir = document.test.rootdir
        self._waits = waits
        self._names = Names(document.threads, document.tasks)
        self._places: dict[tuple[str, int | None], Place | None] = {
            **{("thread", thread.ident): thread.place for thread in document.threads},
            **{("task", task.id): task.place for task in document.tasks},
        }

    def draw(self, nodes: list[Node]) -> Picture:
        """Draw one chain."""
        step = _BOX + _GAP
        boxes, arrows, words = [], [], []
        for number, node in enumerate(nodes):
            name, where = self._names.of(node), _short(self._place(node), _LABEL)
            boxes.append(Box(number * step, _short(name, _TITLE), where, node.kind, node in self._cycle))
            wait = self._waits.get(node)
            if wait is not None:
                what = f"waits for {wait.text}" if wait.holders else "waits for"
                arrows.append(Arrow(number * step + _BOX, _short(what, _LABEL), wait.text))
                words.append(f"{name} waits for {wait.text}")
        last = self._waits.get(nodes[-1])
        closes = last is not None and nodes[0] in last.holders
        if last is not None and not closes:
            title = self._names.of(last.holders[0]) if last.holders else last.text
            boxes.append(Box(len(nodes) * step, _short(title, _TITLE), "", "end", stuck=False))
        height = boxes[-1].y + _BOX + (_GAP if closes else 0)
        return Picture(tuple(boxes), tuple(arrows), closes, height, "; ".join(words), 1)

    def _place(self, node: Node) -> str:
        place = self._places.get((node.kind, node.id))
        if place is None or place.line is None:
            return node.kind
        return f"{node.kind}, {short_path(place.file, self._rootdir)}:{place.line}"


def _short(text: str, limit: int) -> str:
    shown = escape_unprintable(text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"
