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


def gaps_of(search: LiveSearch) -> list[tuple[int, int]]:
    """Return the gaps as offsets from ``BASE``."""
    return [(start - BASE, end - BASE) for start, end in search.gaps()]


def test_between_objects_are_gaps() -> None:
    memory = Memory((0, 3))
    search = memory.search()

    search.run([(page(1) + 3000, page(2))], [page(0) + 800], [])
    search.keep([(page(0) + 4000, 8), (page(2) + 100, 8)])

    before, after = live_pages._WORDS_BEFORE, live_pages._WORDS_AFTER
    first, last = 800 - 8 * before, 800 + 8 * after
    assert gaps_of(search) == [(0, first), (last, 4000), (4008, PAGE + 3000)]
    assert pages_of(search) == {0, 1}


def test_no_gap_in_what_objects_share() -> None:
    memory = Memory((0, 1))
    search = memory.search()

    search.run([], [page(0) + 400, page(0) + 408, page(0) + 3896], [])

    before, after = live_pages._WORDS_BEFORE, live_pages._WORDS_AFTER
    assert gaps_of(search) == [
        (0, 400 - 8 * before),
        (408 + 8 * after, 3896 - 8 * before),
        (3896 + 8 * after, PAGE),
    ]


SIZE = 4 * PAGE


def test_chunks_of_frames_are_followed_as_far_as_they_are_used() -> None:
    memory = Memory((0, 1), (2, 6), (8, 12), (20, 22))
    memory.write(page(0) + 1000, page(8), page(9) + 800, page(12))
    memory.write(page(8), page(2), SIZE, 7)
    memory.write(page(2), 0, SIZE, SIZE // 8 - 3)
    memory.write(page(5) + 4000, page(20) + 800)
    memory.write(page(9) + 800, page(21))
    search = memory.search()

    search.run([], [page(0) + 400], [])

    assert pages_of(search) - {1} == {0, 2, 3, 4, 5, 8, 9, 20}, "1: words in front of an address"
    chunks = [gap for gap in gaps_of(search) if 2 * PAGE <= gap[0] < 12 * PAGE]
    assert chunks == [(9 * PAGE + 800, 10 * PAGE)]


@pytest.mark.parametrize(
    ("state", "head"),
    [
        ((page(4), page(5), page(8)), (8, SIZE - 1, 9)),
        ((page(4), page(5), page(8)), (0, 3 * PAGE, 9)),
        ((page(4), page(9), page(10)), (0, SIZE, 9)),
        ((page(4), page(4), page(8)), (0, SIZE, 9)),
        ((page(4), page(6), page(5)), (0, SIZE, 9)),
        ((page(3), page(5), page(8)), (0, SIZE, 9)),
        ((page(4) + 8, page(5), page(8)), (0, SIZE, 9)),
    ],
)
def test_no_chunk(state: tuple[int, ...], head: tuple[int, ...]) -> None:
    memory = Memory((0, 1), (4, 8))
    memory.write(page(0) + 1000, *state)
    memory.write(page(4), *head)
    search = memory.search()

    search.run([], [page(0) + 400], [])

    assert pages_of(search) == {0}


@pytest.mark.parametrize("previous", [page(4), page(2), page(5) - 8, 8])
def test_a_broken_list_of_chunks_ends(previous: int) -> None:
    memory = Memory((0, 1), (4, 8))
    memory.write(page(0) + 1000, page(4), page(5), page(8))
    memory.write(page(4), previous, SIZE, 1 << 60)
    search = memory.search()

    search.run([], [page(0) + 400], [])

    assert pages_of(search) >= {0, 4}


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
    kept = {at for start, end in search._kept for at in range(max(start, page(-1)), min(end, page(12)))}
    gaps = {at for start, end in search.gaps() for at in range(start, end)}
    pages = {at for start, size in search.ranges() for at in range(start, start + size)}
    assert gaps == pages - kept
