"""The page: valid, self-contained, with nothing in it that a text of an archive has made."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hostile_texts import HOSTILE, MARKER
from made_documents import (
    hostile_document,
    large_document,
    new_document,
    new_task,
    new_thread,
    new_wait,
)

from pytest_gencore.archive.diagnosis_file import Node
from pytest_gencore.page.picture import make_pictures
from pytest_gencore.page.render import make_page

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "input", "path", "rect", "link"}
KNOWN = {
    *VOID,
    *("html", "head", "title", "style", "body", "div", "label", "output", "button", "nav", "main", "article"),
    *("header", "section", "h1", "h2", "small", "p", "pre", "span", "i", "b", "em", "code", "ol", "ul", "li"),
    *("dl", "dt", "dd", "details", "summary", "svg", "defs", "marker", "text", "script", "a"),
}


class Page(HTMLParser):
    """Elements, attributes and texts of a page; what is open is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.elements: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in KNOWN
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def test_the_first_screen_answers(tmp_path: Path) -> None:
    """Which test, why it does not go on, who has the lock, which line, which file, which command."""
    page = Page(make_page([new_document(tmp_path)]))
    first_screen = page.text.partition("The evidence")[0].partition("Threads")[0]

    for answer in (
        "test_three.py::test_one",
        "deadlock: worker-1 waits for lock 'ledger' held by worker-2",
        "test_a.py:3",
        "source 3",
        "waits for lock 'accounts'",
        "core_20261121.225921.9520.001.tar.gz",
        "gencore debug",
    ):
        assert answer in first_screen
    assert page.elements.count("h1") == page.elements.count("svg") == 1


def test_nothing_comes_from_elsewhere(tmp_path: Path) -> None:
    """Two scripts would be one too many: only those of the hashes run, and nothing is loaded."""
    text = make_page([new_document(tmp_path), new_document(tmp_path)])
    page = Page(text)

    assert (page.elements.count("script"), page.elements.count("style")) == (1, 1)
    names = {name for name, _ in page.attributes}
    assert not {"src", "style", "onload", "onclick", "onerror"} & names
    assert all(value.startswith("#") for name, value in page.attributes if name in ("href", "xlink:href"))
    policy = dict(page.attributes)["content"]
    assert re.search('http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src', text)
    assert policy
    assert "://" not in text


@pytest.mark.parametrize("marker", [*HOSTILE, MARKER])
def test_hostile_texts(tmp_path: Path, marker: str) -> None:
    """The structure is that of the page with plain texts; what does not print is shown as an escape."""
    plain = Page(make_page([hostile_document(tmp_path, "-")]))
    page = Page(make_page([hostile_document(tmp_path, marker)]))

    assert page.elements.count("script") == 1
    if "\n" not in marker:  # which makes a line more
        assert page.elements == plain.elements
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    everything = page.text + "".join(value for _, value in page.attributes)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", everything)
    if "\x1b" in marker:
        assert r"\x1b[31mred" in page.text


def test_large(tmp_path: Path) -> None:
    """Equal ones are folded; different ones are all there."""
    folded = tuple(new_thread(number, wait=new_wait(), frames=60, name="same") for number in range(1, 51))
    few = make_page([new_document(tmp_path, threads=folded, cycle=())])
    assert len(few) < 100_000
    assert "same and 48 more" in few  # the first stands alone

    many = make_page([large_document(tmp_path)])
    assert many.count("event 1999") >= 1
    assert many.count("<svg") < 100


def test_chain_that_ends_with_nobody(tmp_path: Path) -> None:
    last = Node(kind="task", id=1002)
    tasks = (
        new_task(1, wait=new_wait(last)),
        new_task(2, wait=new_wait(text="queue.get()")),
        new_task(3, wait=new_wait(last)),
    )
    document = new_document(tmp_path, threads=(), tasks=tasks, cycle=())
    (picture,) = make_pictures(document)

    assert [box.title for box in picture.boxes] == [
        "Task-1 (serve) and 1 more",
        "Task-2 (serve)",
        "queue.get()",
    ]
    assert [arrow.label for arrow in picture.arrows] == ["waits for lock 'ledger'", "waits for"]
    assert not picture.closes


def test_cycle(tmp_path: Path) -> None:
    third = new_thread(3, wait=new_wait(Node(kind="thread", id=1), text="lock 'accounts'"))
    document = new_document(tmp_path)
    document = new_document(tmp_path, threads=(*document.threads, third))
    cycle, other = make_pictures(document)

    assert ([box.stuck for box in cycle.boxes], cycle.closes) == ([True, True], True)
    assert [box.title for box in other.boxes][:2] == ["worker-3", "worker-1"]
