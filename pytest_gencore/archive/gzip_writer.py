"""A file of gzip members, which some threads compress and one writes while the next ones are read."""

from __future__ import annotations

import os
import queue
import threading
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Data = bytes | bytearray | memoryview

_LEVEL: Final = 1
"""See docs/adr/0006-compression-level.md."""
_GZIP: Final = 31
"""The ``wbits`` of a gzip member with a window of 32 KiB, see zlib's manual."""
_BLOCK: Final = 1 << 20
"""Bytes of a member; starting a new member costs almost no ratio."""
_THREADS_LIMIT: Final = 4


def _compress(block: memoryview) -> bytes:
    """Return a gzip member; the GIL is free meanwhile."""
    try:
        from isal import isal_zlib
    except ImportError:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        return compressor.compress(block) + compressor.flush()
    faster = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
    return bytes(faster.compress(block) + faster.flush())


def count_threads() -> int:
    """Return how many threads compress: one a processor that we may use, a few at most."""
    return min(len(os.sched_getaffinity(0)), _THREADS_LIMIT)


@dataclass(frozen=True, slots=True)
class _Block:
    """A block on its way; its memory is free again when it is written."""

    memory: memoryview
    member: Future[bytes]


class CompressedOutput:
    """Gzip members, one behind the other; takes a few MiB of memory whatever is written."""

    def __init__(self, descriptor: int, on_progress: Callable[[int], None] | None) -> None:
        self.bytes_in = 0
        """Uncompressed bytes."""
        self.bytes_out = 0
        self._descriptor = descriptor
        self._on_progress = on_progress
        self._error: Exception | None = None
        threads = count_threads()
        self._pool = ThreadPoolExecutor(threads, "gencore_compress")
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for _ in range(2 * threads + 1):  # one at work and one in waiting for each, and one that is written
            self._free.put(memoryview(bytearray(_BLOCK)))
        self._block = memoryview(bytearray(_BLOCK))
        self._filled = 0
        self._queue: queue.SimpleQueue[_Block | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = threading.Thread(
            target=self._write, name="gencore_write", daemon=True
        )
        self._writer.start()

    @property
    def failed(self) -> bool:
        """Whether the output cannot be written any more."""
        return self._error is not None

    def write(self, data: Data) -> None:
        """Take data; it is copied, so the buffer may be used again. Raises what the threads have met."""
        view = memoryview(data).cast("B")
        while view:
            count = min(len(view), _BLOCK - self._filled)
            self._block[self._filled : self._filled + count] = view[:count]
            self._filled += count
            view = view[count:]
            self.bytes_in += count
            if self._filled == _BLOCK:
                self._hand_over()

    def close(self) -> None:
        """Compress and write what is left; raises what the threads have met."""
        try:
            self._hand_over(even_if_empty=not self.bytes_in)  # an empty file is one empty member
        finally:
            self.abort()
        self._raise_error()

    def abort(self) -> None:
        """Stop the threads when they have written what they have got."""
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join()
            self._writer = None
            self._pool.shutdown()

    def _hand_over(self, *, even_if_empty: bool = False) -> None:
        self._raise_error()
        if not self._filled and not even_if_empty:
            return
        member = self._pool.submit(_compress, self._block[: self._filled])
        self._queue.put(_Block(self._block, member))
        self._block = self._free.get()
        self._filled = 0
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.bytes_in)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _write(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._error is None:
                self._try_to_emit(item)
            self._free.put(item.memory)

    def _try_to_emit(self, block: _Block) -> None:
        try:
            member = block.member.result()
            write_all(self._descriptor, member)
            self.bytes_out += len(member)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything; raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
