"""Processes whose memory is broken, or whose files have hostile names: an archive that our tools open."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from capabilities import needs
from gencore_archives import read_manifest
from native_builds import compile_once, shared_folder
from oracles import run_tool
from projects import OPENED
from tables import Table

from pytest_gencore.archive import read_archive

pytestmark = [needs("gcc", "gdb"), pytest.mark.xdist_group("hostile process")]

LOAD = """
import ctypes, os, shutil
def test_x(tmp_path):
    folder = tmp_path / {folder!r}
    folder.mkdir()
    ctypes.CDLL(shutil.copy({library!r}, folder))
    assert 0
"""
LOAD_BY_OTHER_NAME = """
import ctypes, os, shutil
def test_x(tmp_path):
    shutil.copy({library!r}, tmp_path / "real.so")
    (tmp_path / "link.so").symlink_to("real.so")
    ctypes.CDLL(f"{{tmp_path}}//./link.so")
    assert 0
"""
SOURCE = """
import importlib.util
def test_x(tmp_path):
    path = tmp_path / "a\\x1bb" / "helper.py"
    path.parent.mkdir()
    path.write_text("def fail():\\n    assert 0\\n")
    spec = importlib.util.spec_from_file_location("helper", path)
    helper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helper)
    helper.fail()
"""
HEADERS = """
import ctypes, pytest
libc = ctypes.CDLL(None)
libc.getauxval.restype = ctypes.c_ulong
libc.getauxval.argtypes = [ctypes.c_ulong]
@pytest.fixture
def dynamic():
    table, count = libc.getauxval(3), libc.getauxval(5)
    page = table & ~4095
    assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(4096), 3) == 0
    headers = ((ctypes.c_uint64 * 7).from_address(table + 56 * number) for number in range(count))
    header = next(header for header in headers if header[0] & 0xffffffff == 2)  # PT_DYNAMIC
    before = list(header)
    yield header
    header[:] = before
    assert libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(4096), 1) == 0
def test_x(dynamic):
    dynamic[{index}] = {value}
    assert 0
"""
LIST = """
import ctypes, pytest
class LinkMap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulong) for name in ("l_addr", "l_name", "l_ld", "l_next", "l_prev")]
@pytest.fixture
def entry():
    entry = LinkMap.from_address(ctypes.CDLL({library!r})._handle)
    before = bytes(entry)
    yield entry
    ctypes.memmove(ctypes.addressof(entry), before, len(before))
def test_x(entry):
    {change}
    assert 0
"""
SPARSE = """
import mmap, os, shutil
def test_x(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    shutil.copy({library!r}, "sparse.so")
    with open("sparse.so", "rb") as file:
        request.node.mapped = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
    os.truncate("sparse.so", {size})
    assert 0
"""
PENDING = """
import pytest, resource, threading
@pytest.fixture
def threads():
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, name="waits") for _ in range(100)]
    for thread in threads:
        thread.start()
    before = resource.getrlimit(resource.RLIMIT_SIGPENDING)
    # The limit is on all signals of the user, and timers count.
    status = open("/proc/self/status").read()
    used = int(status.partition("SigQ:")[2].partition("/")[0])
    resource.setrlimit(resource.RLIMIT_SIGPENDING, ({limit}, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_SIGPENDING, before)
    done.set()
    for thread in threads:
        thread.join()
def test_x(threads):
    assert 0
"""
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "newline": (LOAD, {"folder": "x\nshell touch PWNED\n"}),
    "carriage_return": (LOAD, {"folder": "y\r10000-7f0000000000 rw-p 00000000 00:00 0 \r"}),
    "escape": (LOAD, {"folder": "l\x1b]0;lib\x07"}),
    "misread": (LOAD, {"folder": 'a:b `40+2` "c" \\'}),
    "other_name": (LOAD_BY_OTHER_NAME, {}),
    "source": (SOURCE, {}),
    "memsz": (HEADERS, {"index": 5, "value": 64 << 30}),
    "vaddr": (HEADERS, {"index": 2, "value": (1 << 64) - 4096}),
    "cycle": (LIST, {"change": "entry.l_next = ctypes.addressof(entry)"}),
    "wild_next": (LIST, {"change": "entry.l_next = 2**64 - 8"}),
    "wild_name": (LIST, {"change": "entry.l_name = 2**64 - 8"}),
    "sparse": (SPARSE, {"size": 200 << 30}),
    "no_queue": (PENDING, {"limit": 0}),
    "short_queue": (PENDING, {"limit": "used + 12"}),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "library.c").write_text("int nothing;\n")
    library = str(
        compile_once(
            shared_folder(tmp_path_factory) / "nothing.so", [folder / "library.c"], ["-shared", "-fPIC"]
        )
    )
    sources = {
        row: text.format(library=library, **values) if text is not SOURCE else text
        for row, (text, values) in ROWS.items()
    }
    return Table(folder, sources, *OPENED)


def manifest_of(table: Table, row: str) -> dict[str, Any]:
    return read_manifest(table.archives(row)["test_x call"])


def note_on(manifest: dict[str, Any], part: str) -> str:
    """Return the note on the library in whose path this is."""
    (note,) = [library["note"] for library in manifest["libraries"] if part in library["path"]]
    return str(note)


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("row", ROWS)
def test_our_tools_and_gdb_open_it(table: Table, row: str, tmp_path: Path) -> None:
    folder = read_archive(table.archives(row)["test_x call"]).unpack(tmp_path)

    output = run_tool("gdb", "-nx", "-batch", "-x", "open.gdb", "-ex", "info threads", cwd=folder)

    assert "Core was generated by" in output
    assert re.search(r"^\* 1 ", output, re.MULTILINE)
    assert not list(folder.rglob("PWNED*"))


@pytest.mark.parametrize(
    ("row", "part"), [("newline", "x\n"), ("carriage_return", "y\r"), ("escape", "\x1b]")]
)
def test_library_with_control_characters_is_left_out(table: Table, row: str, part: str) -> None:
    assert note_on(manifest_of(table, row), part) == "left out: its path has control characters"


def test_source_with_control_characters_is_left_out(table: Table) -> None:
    (notice,) = [text for text in manifest_of(table, "source")["notices"] if text.startswith("source ")]
    assert notice.endswith("/a\x1bb/helper.py is left out: its path has control characters")


def test_folder_that_gdb_would_misread_is_told(table: Table) -> None:
    notices = manifest_of(table, "misread")["notices"]
    assert "folders of libraries that open.gdb lacks, as gdb would misread their paths: 1" in notices


def test_other_name_is_stored_plainly(table: Table) -> None:
    (library,) = [lib for lib in manifest_of(table, "other_name")["libraries"] if "real.so" in lib["path"]]
    assert library["aliases"] == [str(Path(library["path"]).with_name("link.so"))]


@pytest.mark.parametrize("row", ["cycle", "wild_next"])
def test_broken_list_is_told(table: Table, row: str) -> None:
    (notice,) = [text for text in manifest_of(table, row)["notices"] if "loader" in text]
    assert re.fullmatch(r"the loader's list was read as far as its entry \d+: it is broken there", notice)


@pytest.mark.parametrize("row", ["memsz", "vaddr", "cycle", "wild_next", "wild_name"])
def test_broken_memory_costs_no_time_and_no_pages(table: Table, row: str) -> None:
    manifest = manifest_of(table, row)
    assert not [text for text in manifest["notices"] if "could not be read" in text]


def test_sparse_file_is_left_out(table: Table) -> None:
    assert (
        note_on(manifest_of(table, "sparse"), "sparse.so") == f"left out: it is larger than {4 << 30} bytes"
    )


def test_threads_that_cannot_be_signalled_are_told(table: Table) -> None:
    first, *others = manifest_of(table, "no_queue")["threads"]
    assert (first["native_registers"], first["reason"]) == (True, None)
    assert len(others) >= 100
    reason = "no more signals could be queued for it (RLIMIT_SIGPENDING)"
    assert all((other["native_registers"], other["reason"]) == (False, reason) for other in others)


def test_threads_are_asked_again_when_others_have_answered(table: Table) -> None:
    threads = manifest_of(table, "short_queue")["threads"]
    assert len(threads) > 100
    assert all(thread["native_registers"] for thread in threads)
