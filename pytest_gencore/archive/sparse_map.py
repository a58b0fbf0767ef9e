"""The map of a sparse member: which parts of the file the archive holds."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK: Final = 512
EXTENTS_LIMIT: Final = 2_000_000
"""16 bytes each in memory; a core has at most one extent for each two pages."""
_DIGITS_LIMIT: Final = 19


def read_sparse_map(read_exactly: Callable[[int], bytes], real_size: int) -> array[int]:
    """Read the map at the start of a member's contents, which ``read_exactly`` gives; raises ArchiveError.

    It is decimal numbers with a newline each, padded to a block: how many extents, then offset and length of
    each. The extents must be sorted, without overlap and within ``real_size``.
    """
    numbers: array[int] = array("q")
    expected: int | None = None
    rest = b""
    while expected is None or len(numbers) < expected:
        *lines, rest = (rest + read_exactly(_BLOCK)).split(b"\n")
        for line in lines:
            if expected is not None and len(numbers) == expected:
                break
            if not line.isdigit() or len(line) > _DIGITS_LIMIT or int(line) >> 62:
                raise _damaged()
            if expected is None:
                expected = 2 * int(line)
                if expected > 2 * EXTENTS_LIMIT:
                    message = f"a sparse file has {int(line)} extents; the limit is {EXTENTS_LIMIT}"
                    raise ArchiveError(message)
            else:
                numbers.append(int(line))
        if len(rest) > _DIGITS_LIMIT and (expected is None or len(numbers) < expected):
            raise _damaged()
    _check(numbers, real_size)
    return numbers


def _check(numbers: array[int], real_size: int) -> None:
    end = 0
    last = len(numbers) - 2
    for index in range(0, len(numbers), 2):
        offset, length = numbers[index], numbers[index + 1]
        if offset < end:
            raise _damaged()
        if length % _BLOCK and index != last and any(numbers[index + 3 :: 2]):
            raise _damaged()  # GNU tar and Python's tarfile would read different contents
        end = offset + length
    if end > real_size:
        raise _damaged()


def _damaged() -> ArchiveError:
    return ArchiveError("the archive is corrupt: the map of a sparse file is damaged")
