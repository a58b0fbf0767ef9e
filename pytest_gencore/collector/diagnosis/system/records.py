"""Records with bytes of varying length behind them, as the hand-over has them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from pytest_gencore.protocol import NOT_READ

if TYPE_CHECKING:
    from pytest_gencore.protocol import Layout


class Reader:
    """Takes one piece behind the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def has_more(self) -> bool:
        """Whether anything is left."""
        return self._offset < len(self._data)

    def record(self, layout: Layout) -> dict[str, Any]:
        """Return the next record; raises struct.error if it is not there."""
        record = layout.unpack(self._data, self._offset)
        self._offset += layout.size
        return record

    def piece(self, size: int) -> bytes:
        """Return the next bytes; raises struct.error if there are not as many."""
        piece = self._data[self._offset : self._offset + size]
        if len(piece) < size:
            raise struct.error("a record ends too early")
        self._offset += size
        return piece


def known(number: int) -> int | None:
    """Return a number of a record, None for one that could not be read."""
    return None if number == NOT_READ else number
