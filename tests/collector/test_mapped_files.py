"""Files that the captured process has mapped: it chooses them, and none may cost a capture."""

from __future__ import annotations

import io
import os
import struct
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_gencore.collector.files import libraries as module
from pytest_gencore.collector.files.libraries import Library, gather_libraries
from pytest_gencore.collector.source.link_map import LinkMap
from pytest_gencore.collector.source.procfs import Mapping, parse_mappings
from pytest_gencore.collector.source.regular_file import open_regular
from pytest_gencore.corefile.elffile import build_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Gather = Callable[..., list[Library]]

ELF = b"\x7fELF".ljust(4096, b"\0")
PAGE = 4096
START = 0x10000


class Snapshot:
    """Memory that begins as an ELF file does."""

    pid = 0  # no /proc/0
    status = SimpleNamespace(page_size=PAGE)

    def read(self, address: int, size: int) -> bytes:
        return ELF[:size].ljust(size, b"\0")

    def read_into(self, address: int, buffer: memoryview) -> None:
        buffer[:] = self.read(address, len(buffer))


def mappings_of(*paths: Path | str, deleted: str = "") -> list[Mapping]:
    """Return a mapping of each file, with a page between them."""
    addresses = range(START, START + 2 * PAGE * len(paths), 2 * PAGE)
    lines = (
        f"{start:x}-{start + PAGE:x} r--p 00000000 08:01 {start} {path}{deleted}\n"
        for start, path in zip(addresses, paths, strict=True)
    )
    return parse_mappings("".join(lines).encode())


def program_headers(*headers: bytes) -> bytes:
    """Return the beginning of an ELF file."""
    numbers = (3, 62, 1, 0, 64, 0, 0, 64, 56, len(headers), 0, 0, 0)
    return struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", *numbers) + b"".join(headers)


def note_header(offset: int, size: int) -> bytes:
    return struct.pack("<IIQQQQQQ", 4, 4, offset, 0, 0, size, size, 4)


@pytest.fixture
def gather() -> Iterator[Gather]:
    """Return what gathers libraries; it closes them in the end."""
    found: list[Library] = []

    def call(mappings: list[Mapping], link_map: LinkMap | None = None) -> list[Library]:
        libraries = gather_libraries(mappings, cast("Any", Snapshot()), link_map or LinkMap())
        found.extend(libraries)
        return libraries

    yield call
    for library in found:
        library.leave_out("")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "libx.so"
    path.write_bytes(ELF)
    return path


def test_file_that_grows_is_cut(gather: Gather, library: Path) -> None:
    (found,) = gather(mappings_of(library))
    with library.open("ab") as file:
        file.write(b"more")

    assert b"".join(found.chunks()) == ELF
    assert found.note == "it has grown since the capture began: what is behind is left out"


def test_sparse_file_of_200_gib_is_left_out(gather: Gather, library: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge.so"
    huge.write_bytes(ELF)
    os.truncate(huge, 200 << 30)

    large, small = gather(mappings_of(huge, library))

    assert (large.source, large.size) == (None, 200 << 30)
    assert large.note == f"left out: it is larger than {4 << 30} bytes"
    assert small.source is not None


def test_all_files_together_have_a_limit(
    gather: Gather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest ones come first."""
    monkeypatch.setattr(module, "_TOTAL_LIMIT", 3 * PAGE)
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, pages in zip(paths, (2, 2, 1), strict=True):
        path.write_bytes(ELF)
        os.truncate(path, pages * PAGE)

    found = gather(mappings_of(*paths))

    assert [library.source is not None for library in found] == [True, False, True]
    assert found[1].note == f"left out: all libraries together are larger than {3 * PAGE} bytes"


def test_fifo_and_device_are_never_opened(gather: Gather, tmp_path: Path) -> None:
    """Mounted over a library, for example; to open a FIFO waits for a writer."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    found: list[Library] = []
    reader = threading.Thread(target=lambda: found.extend(gather(mappings_of(fifo))), daemon=True)
    reader.start()
    reader.join(20)
    assert not reader.is_alive()
    assert found[-1].note.startswith("put together from memory")
    for path in (str(fifo), "/dev/null", str(tmp_path)):
        with pytest.raises(OSError, match="no regular file"):
            open_regular(path)


def test_memory_for_deleted_files_is_bounded(gather: Gather, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RECONSTRUCTED_LIMIT", 2 * PAGE)

    found = gather(mappings_of("/gone/a", "/gone/b", "/gone/c", deleted=" (deleted)"))

    assert [library.source is not None for library in found] == [True, True, False]
    assert b"".join(found[0].chunks()) == ELF
    assert found[2].note.endswith("too much memory to put it together from")


def test_file_in_many_mappings_is_looked_for_once(gather: Gather) -> None:
    mappings = mappings_of(*["/gone"] * 1000, deleted=" (deleted)")
    for mapping in mappings[1:]:
        mapping.inode, mapping.offset = mappings[0].inode, 1 << 62  # too far to be put together

    (found,) = gather(mappings)

    assert found.source is None
    assert len(found.note) < 500


def test_library_with_a_thousand_names_keeps_some(gather: Gather, library: Path) -> None:
    mappings = mappings_of(library)
    link_map = LinkMap([(b"/lib/%d.so" % number, START) for number in range(1000)])

    (found,) = gather(mappings, link_map)

    assert len(found.aliases) == 16
    assert found.note == "984 of its other names are left out"


def test_notes_of_a_file_are_bounded() -> None:
    """Many headers may point to the same notes."""
    count, size = 20, 1 << 20
    headers = program_headers(*[note_header(64 + 56 * count, size)] * count)
    file = Counted(headers + struct.pack("<III4s", 4, 0, 1, b"GNU\0") * (size // 16))

    assert build_id_of(file) is None
    assert file.count < 3 * size


def test_headers_of_a_sparse_file_are_bounded() -> None:
    """Their number is in section header 0 if it is that large."""

    class Huge(Counted):
        def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
            return 200 << 30 if whence == os.SEEK_END else super().seek(offset, whence)

    start = bytearray(program_headers().ljust(128, b"\0"))
    struct.pack_into("<Q", start, 40, 64)  # e_shoff
    struct.pack_into("<HH", start, 54, 56, 0xFFFF)  # e_phentsize, e_phnum: PN_XNUM
    struct.pack_into("<I", start, 64 + 44, 4097)  # sh_info
    file = Huge(bytes(start) + bytes(4097 * 56))

    assert build_id_of(file) is None
    assert file.count <= 128


@pytest.mark.parametrize(("size", "expected"), [(64, "00" * 64), (65, None), (1 << 19, None)])
def test_length_of_a_build_id_is_bounded(size: int, expected: str | None) -> None:
    note = struct.pack("<III4s", 4, size, 3, b"GNU\0") + bytes(size + -size % 4)
    assert build_id_of(io.BytesIO(program_headers(note_header(120, len(note))) + note)) == expected


class Counted(io.BytesIO):
    """Counts what is read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data
