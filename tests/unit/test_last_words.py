"""Which lines of a process's last output are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_gencore.collector.stacks.last_words import LastWords
from pytest_gencore.protocol import OUTPUT_SIZE

ERROR, OUTPUT = "last output on standard error:", "last output on standard output:"
NUMBERS = "".join(f"{number}\n" for number in range(20)).encode()
REASONS = [
    b"terminate called after throwing an instance of 'X'",
    b"libc++abi: terminating due to uncaught exception of type X",
    b"pure virtual method called",
    b"Fatal Python error: Aborted",
    b"thread '<unnamed>' panicked at src/lib.rs:3:5:",
]


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (LastWords(), ()),
        (LastWords(stderr=b"\n \n"), ()),
        (LastWords(stderr=b"a\n\n  b\n"), (ERROR, "  a", "    b")),
        (LastWords(stdout=NUMBERS), (OUTPUT, *(f"  {number}" for number in range(14, 20)))),
        (
            LastWords(stdout=NUMBERS + b"out", stderr=NUMBERS),
            (ERROR, "  16", "  17", "  18", "  19", OUTPUT, "  19", "  out"),
        ),
        (LastWords(stdout=b"a", stderr=b"a"), ("last output on standard output and error:", "  a")),
        (LastWords(abort_message="free()", stdout=b"b\nfree()\n", stderr=b"b\nfree()\n"),
         ("glibc: free()", "last output on standard output and error:", "  b")),
        (LastWords(abort_message="c", stdout=b"b\n", stderr=b"c\n"), ("glibc: c", OUTPUT, "  b")),
        (LastWords(abort_message="a\x1b" + "b" * 500), ("glibc: a\\x1b" + "b" * 195 + "...",)),
        (LastWords(stdout=b"\x80\r10 %\x1b[K\xe2\x80\xae\n"), (OUTPUT, "  \\x80\\r10 %\\x1b[K\\u202e")),
    ],
)  # fmt: skip
def test_lines(words: LastWords, lines: tuple[str, ...]) -> None:
    assert words.describe() == lines


@pytest.mark.parametrize("reason", REASONS)
def test_reason_comes_first(reason: bytes) -> None:
    """Where it is further up than the last lines; only if the process aborted."""
    printed = b"before\n" + reason + b"\n" + NUMBERS
    shown = [ERROR, f"  {reason.decode()}", *(f"  {number}" for number in range(5))]

    assert LastWords(stderr=printed, is_abort=True).describe() == (
        *shown,
        "  ... 15 more lines in output.txt",
    )
    assert LastWords(stderr=printed).describe()[1] == "  14"


def test_a_reason_among_the_last_lines_keeps_what_is_before() -> None:
    printed = b"before\nterminate called recursively\n"
    assert LastWords(stderr=printed, is_abort=True).describe() == (
        ERROR,
        "  before",
        "  terminate called recursively",
    )


def test_line_without_its_beginning_is_not_shown() -> None:
    cut = b"cut\nwhole\n".rjust(OUTPUT_SIZE, b"x")
    assert LastWords(stdout=cut).describe() == (OUTPUT, "  whole")
    assert LastWords(stdout=b"x" * OUTPUT_SIZE).describe() == (OUTPUT, f"  {'x' * 197}...")


@given(st.binary(max_size=300), st.binary(max_size=300), st.booleans())
def test_bounded_and_printable(stdout: bytes, stderr: bytes, is_abort: bool) -> None:
    lines = LastWords(stdout=stdout, stderr=stderr, is_abort=is_abort).describe()
    assert len(lines) <= 10
    assert all(line.isprintable() for line in lines)
