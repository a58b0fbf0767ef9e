"""A file of gzip members, which some threads compress and one writes while the next ones are read."""

from __future__ import annotations

import os
import queue
import threading
import zlib
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Data = bytes | bytearray | memoryview
    Reader = Callable[[int, memoryview], None]
    """Fills a buffer with what is at a position, or raises; called in any thread."""

_LEVEL: Final = 1
"""See docs/adr/0006-compression-level.md."""
GZIP: Final = 31
"""The ``wbits`` of a gzip member with a window of 32 KiB, see zlib's manual."""
_BLOCK: Final = 1 << 20
"""Bytes of a member; starting a new member costs almost no ratio."""
_THREADS_LIMIT: Final = 4
_ABORT_SECONDS: Final = 10.0


def _compress(block: memoryview) -> bytes:
    """Return a gzip member; the GIL is free meanwhile."""
    try:
        from isal import isal_zlib
    except ImportError:
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, GZIP)
        return compressor.compress(block) + compressor.flush()
    faster = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, GZIP)
    return bytes(faster.compress(block) + faster.flush())


def find_crc32() -> Callable[[Data, int], int]:
    """Return the function that continues a checksum of gzip, the faster one if it is installed."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    function: Callable[[Data, int], int] = isal_zlib.crc32
    return function


def count_threads() -> int:
    """Return how many threads compress: one a processor that we may use, a few at most."""
    if not hasattr(os, "sched_getaffinity"):  # neither macOS nor Windows tells that
        return min(os.cpu_count() or 1, _THREADS_LIMIT)
    return min(len(os.sched_getaffinity(0)), _THREADS_LIMIT)


class _Part(NamedTuple):
    """What of a block is still to be read."""

    buffer: memoryview
    position: int
    read: Reader


class _Block:
    """A block on its way; its memory is free again when it is written."""

    def __init__(self, memory: memoryview, size: int, parts: list[_Part]) -> None:
        self.memory = memory
        self._size = size
        self._parts = parts
        self._is_compressed = threading.Event()
        self._member = b""
        self._error: Exception | None = None

    def compress(self) -> None:
        """Read what is not there yet and make the member, in whichever thread."""
        try:
            _fill(self._parts)
            self._member = _compress(self.memory[: self._size])
        except Exception as error:  # noqa: BLE001 - raised again where the member is asked for
            self._error = error
        self._is_compressed.set()

    def wait(self) -> None:
        """Wait until nothing is read or compressed any more."""
        self._is_compressed.wait()

    def result(self) -> bytes:
        """Wait for the member; raises what compressing it met."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._member


class CompressedOutput:
    """Gzip members, one behind the other; takes a few MiB of memory whatever is written.

    Where no threads can be started the calling one does their work.
    """

    def __init__(self, descriptor: int, on_progress: Callable[[int], None] | None) -> None:
        self.bytes_in = 0
        """Uncompressed bytes."""
        self.bytes_out = 0
        self._descriptor = descriptor
        self._on_progress = on_progress
        self._error: Exception | None = None
        self._to_compress: queue.SimpleQueue[_Block | None] = queue.SimpleQueue()
        self._to_write: queue.SimpleQueue[_Block | None] = queue.SimpleQueue()
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._block = memoryview(bytearray(_BLOCK))
        self._filled = 0
        self._parts: list[_Part] = []
        self._threads: list[threading.Thread] = []
        self._start_threads(count_threads())
        others = 2 * len(self._threads) - 1  # two for each that compresses, one that is written
        for _ in range(others):
            self._free.put(memoryview(bytearray(_BLOCK)))
        self._on_their_way: deque[_Block] = deque(maxlen=others + 1)
        """Those that were handed over last; at least all that are not written."""

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

    def write_from(self, read: Reader, ranges: Iterable[tuple[int, int]]) -> None:
        """Take what ``read`` puts into buffers for these (position, size); it is called in the threads.

        Returns when everything has been read, and raises what that has met.
        """
        for start, size in ranges:
            position, end = start, start + size
            while position < end:
                count = min(end - position, _BLOCK - self._filled)
                buffer = self._block[self._filled : self._filled + count]
                self._parts.append(_Part(buffer, position, read))
                self._filled += count
                position += count
                self.bytes_in += count
                if self._filled == _BLOCK:
                    self._hand_over()
        _fill(self._parts)
        self._parts = []
        for block in self._on_their_way:
            block.wait()
        self._raise_error()

    def close(self) -> None:
        """Compress and write what is left; raises what the threads have met."""
        try:
            self._hand_over(even_if_empty=not self.bytes_in)  # an empty file is one empty member
        finally:
            self._stop()
        self._raise_error()

    def abort(self) -> None:
        """Stop the threads; one that hangs in a write is left behind."""
        self._stop(_ABORT_SECONDS)

    def _stop(self, timeout: float | None = None) -> None:
        """Stop the threads when they have written what they have got."""
        self._to_write.put(None)
        for _ in self._threads[1:]:
            self._to_compress.put(None)
        while self._threads:
            self._threads.pop(0).join(timeout)

    def _start_threads(self, compressing: int) -> None:
        """Start one that writes, and as many that compress as there can be: none without one of each."""
        try:
            for target in (self._write_blocks, *[self._compress_blocks] * compressing):
                thread = threading.Thread(target=target, name=f"gencore{target.__name__}", daemon=True)
                thread.start()
                self._threads.append(thread)
        except RuntimeError:  # the limit on processes, or on memory
            if len(self._threads) == 1:
                self._stop()

    def _hand_over(self, *, even_if_empty: bool = False) -> None:
        self._raise_error()
        if not self._filled and not even_if_empty:
            return
        block = _Block(self._block, self._filled, self._parts)
        self._filled, self._parts = 0, []
        self._on_their_way.append(block)
        if self._threads:
            self._to_compress.put(block)
            self._to_write.put(block)
            self._block = self._free.get()
        else:
            block.compress()
            self._try_to_emit(block)
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self.bytes_in)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _compress_blocks(self) -> None:
        while (block := self._to_compress.get()) is not None:
            block.compress()

    def _write_blocks(self) -> None:
        while (block := self._to_write.get()) is not None:
            if self._error is None:
                self._try_to_emit(block)
            self._free.put(block.memory)

    def _try_to_emit(self, block: _Block) -> None:
        try:
            member = block.result()
            write_all(self._descriptor, member)
            self.bytes_out += len(member)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error


def _fill(parts: Iterable[_Part]) -> None:
    for part in parts:
        part.read(part.position, part.buffer)


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything; raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_parts(descriptor: int, parts: Sequence[Data]) -> None:
    """Write everything, at most IOV_MAX parts (1024, see readv(2)); raises OSError."""
    if not hasattr(os, "writev"):  # on Windows
        write_all(descriptor, b"".join(parts))
        return
    written = os.writev(descriptor, parts)
    if written < sum(map(len, parts)):  # few calls end early
        write_all(descriptor, b"".join(parts)[written:])
