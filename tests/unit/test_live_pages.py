"""Which pages a core of type mini has, of memory that is made here."""

from __future__ import annotations

import random
import struct

import pytest

from pytest_gencore.collector.core import live_pages
from pytest_gencore.collector.core.live_pages import HOPS, LiveSearch

PAGE = 4096
BASE = 0x7F00_0000_0000


class Memory:
    """Pages from ``BASE`` on, in parts with gaps between them."""

    def __init__(self, *parts: tuple[int, int]) -> None:
        """Make the pages of these numbers, first and last but one."""
        self.parts = [(BASE + PAGE * first, BASE + PAGE * last) for first, last in parts]
        self.data = bytearray(PAGE * max(last for _, last in parts))

    def write(self, address: int, *words: int) -> None:
        struct.pack_into(f"<{len(words)}Q", self.data, address - BASE, *words)

    def read(self, address: int, buffer: memoryview) -> None:
        assert any(start <= address and address + len(buffer) <= end for start, end in self.parts)
        buffer[:] = self.data[address - BASE : address - BASE + len(buffer)]

    def search(self) -> LiveSearch:
        return LiveSearch(self.parts, self.read, PAGE)


def page(number: int) -> int:
    return BASE + PAGE * number


def pages_of(search: LiveSearch) -> set[int]:
    return {(at - BASE) // PAGE for start, size in search.ranges() for at in range(start, start + size, PAGE)}


def test_pointers_are_followed_so_far() -> None:
    memory = Memory((0, 2 * HOPS + 4))
    for number in range(HOPS + 2):
        memory.write(page(2 * number) + 800, page(2 * number + 2) + 800)
    search = memory.search()

    search.run([], [page(0) + 800], [])

    assert pages_of(search) == {2 * number for number in range(HOPS)}


def test_all_of_a_stack_is_there_and_followed() -> None:
    memory = Memory((0, 3), (5, 9))
    memory.write(page(2) + 4088, page(7) + 512)
    search = memory.search()

    search.run([(page(0) + 4000, page(3))], [], [])

    assert pages_of(search) == {0, 1, 2, 7}


def test_data_is_there_and_not_followed() -> None:
    memory = Memory((0, 3), (5, 9))
    memory.write(page(2), page(7))
    search = memory.search()

    search.run([], [], [(page(1), page(6))])

    assert pages_of(search) == {1, 2, 5}


def test_an_object_across_two_pages() -> None:
    memory = Memory((0, 4))
    memory.write(page(1) - 64, 1, 2, 3)
    search = memory.search()

    search.run([], [page(1) - 64], [])

    assert pages_of(search) == {0, 1}


def test_an_object_says_its_size() -> None:
    """``ob_size`` is the third word of a ``PyVarObject``."""
    memory = Memory((0, 9))
    memory.write(page(1), 1, 0, 9000)
    search = memory.search()

    search.run([], [page(1)], [])

    assert pages_of(search) == {0, 1, 2, 3}, "the page before: words in front of the object"


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stacks come first."""
    monkeypatch.setattr(live_pages, "SIZE_LIMIT", 4 * PAGE)
    memory = Memory((0, 3), (5, 20))
    memory.write(page(0), *(page(number) + 512 for number in range(6, 20, 2)))
    search = memory.search()

    search.run([(page(0), page(3))], [], [(page(5), page(6))])

    found = pages_of(search)
    assert found > {0, 1, 2}
    assert len(found) == 4
    assert search.left_out == 7


@pytest.mark.parametrize("seed", range(20))
def test_any_words(seed: int) -> None:
    """Only what there is is read, whatever the words say."""
    chosen = random.Random(seed)
    memory = Memory((0, 2), (3, 4), (7, 12))
    interesting = [
        BASE - 1,
        BASE,
        page(2) - 1,
        page(2),
        page(3),
        page(4) - 1,
        page(7),
        page(12) - 8,
        page(12),
    ]
    for start, end in memory.parts:
        for at in range(start, end, 8):
            word = chosen.choice([0, chosen.getrandbits(64), *interesting, chosen.randrange(BASE, page(12))])
            memory.write(at, word)
    search = memory.search()

    search.run([(0, page(1)), (page(6), 1 << 64)], [0, (1 << 64) - 1, *interesting], [(0, 1 << 64)])

    assert pages_of(search) >= {0, 1, 3, *range(7, 12)}
