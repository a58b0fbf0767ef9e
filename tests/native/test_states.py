"""Unusual processes: each is captured, and what is missing is said."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from capabilities import both_methods, has_huge_pages, needs
from gencore_archives import read_manifest
from native_builds import run_subject
from oracles import (
    gdb_stacks,
    is_complete_stack,
    load_segments,
    read_memory,
    run_gdb,
    run_tool,
    segment_of,
    unpack,
)

pytestmark = needs("gdb", "readelf", "gcc")
MARK = b"the mark of this mapping"
PAGE = 4096
TIB = 1 << 40
MAP_COUNT = Path("/proc/sys/vm/max_map_count")
HUGE_PAGES = Path("/proc/sys/vm/nr_hugepages")


@dataclass(frozen=True, slots=True)
class Captured:
    facts: dict[str, Any]
    archive: Path
    manifest: dict[str, Any]
    core: Path

    def thread(self) -> dict[str, Any]:
        """Return what the manifest says about the thread that the subject named."""
        (found,) = [thread for thread in self.manifest["threads"] if thread["tid"] == self.facts["tid"]]
        return dict(found)

    def notice(self, part: str) -> bool:
        return any(part in notice for notice in self.manifest["notices"])


Capture = Callable[..., Captured]


@pytest.fixture
def capture(tmp_path: Path, helpers: Path) -> Capture:
    def run(state: str, method: str = "memory") -> Captured:
        facts = json.loads(run_subject("states.py", state, method, tmp_path / "out", helpers, timeout=110))
        archive = Path(facts["archive"])
        return Captured(facts, archive, read_manifest(archive), unpack(archive) / "core")

    return run


def test_a_reserved_address_space_costs_nothing(capture: Capture) -> None:
    captured = capture("reservation")
    segment = segment_of(captured.core, captured.facts["address"])
    assert segment is not None
    assert segment.size >= 20 * TIB
    assert segment.file_size == 0
    assert captured.archive.stat().st_size < 100 << 20
    assert captured.manifest["timings"]["collect_s"] < 30


def test_untouched_memory_is_a_hole(capture: Capture) -> None:
    captured = capture("sparse")
    status = captured.core.stat()
    assert status.st_size > TIB
    assert status.st_blocks * 512 < 300 << 20, "plain tar restores the holes"
    assert captured.archive.stat().st_size < 100 << 20
    for address in captured.facts["marks"]:
        assert read_memory(captured.core, address, len(MARK)) == MARK
    where = captured.facts["marks"][1]
    assert MARK.decode() in run_gdb(captured.core.parent, f"x/s {where:#x}")


@pytest.mark.slow
def test_shared_memory_that_changes_meanwhile(capture: Capture) -> None:
    captured = capture("shared")
    assert read_memory(captured.core, captured.facts["address"], len(MARK)) == MARK
    assert captured.notice("shared writable mappings that were read after the fork")


@both_methods
def test_madv_dontdump(capture: Capture, method: str) -> None:
    captured = capture("dontdump", method)
    segment = segment_of(captured.core, captured.facts["address"])
    assert segment is None or segment.file_size == 0


@pytest.mark.slow
def test_madv_dontfork(capture: Capture) -> None:
    captured = capture("dontfork")
    assert segment_of(captured.core, captured.facts["address"]) is None
    assert captured.notice(f"{16 * PAGE} bytes are not in the core: MADV_DONTFORK")


@pytest.mark.slow
@needs("root")
def test_a_device(capture: Capture) -> None:
    """As a GPU's driver maps it; the oracle is what the kernel says of the mapping."""
    captured = capture("device")
    if not {"io", "pf", "dc"} <= set(captured.facts["flags"]):
        pytest.skip("this kernel maps no perf events, or as memory, as those before Linux 6.15")
    assert segment_of(captured.core, captured.facts["address"]) is None
    assert captured.notice(f"{9 * PAGE} bytes of devices are not in the core: anon_inode:[perf_event]")
    assert not captured.notice("MADV_DONTFORK")


@pytest.mark.slow
def test_madv_wipeonfork(capture: Capture) -> None:
    captured = capture("wipeonfork")
    assert MARK not in read_memory(captured.core, captured.facts["address"], len(MARK))
    assert captured.notice("MADV_WIPEONFORK")


@pytest.mark.slow
def test_memfd(capture: Capture) -> None:
    captured = capture("memfd")
    assert read_memory(captured.core, captured.facts["address"], len(MARK)) == MARK
    assert captured.facts["blocks"] * 512 <= 2 << 20, "its holes were not filled by reading them"
    assert captured.core.stat().st_blocks * 512 < 300 << 20


@pytest.fixture
def _huge_pages() -> Iterator[None]:
    before = HUGE_PAGES.read_text()
    try:
        HUGE_PAGES.write_text("4")
    except OSError:
        pytest.skip("huge pages cannot be reserved")
    yield
    HUGE_PAGES.write_text(before)


@pytest.mark.slow
@pytest.mark.usefixtures("_huge_pages")
def test_huge_pages(capture: Capture) -> None:
    if not has_huge_pages():
        pytest.skip("no huge pages")
    captured = capture("hugepages")
    assert read_memory(captured.core, captured.facts["address"], len(MARK)) == MARK


@pytest.mark.slow
@both_methods
def test_a_deleted_library_is_included(capture: Capture, method: str) -> None:
    captured = capture("deleted_library", method)
    path = captured.facts["path"]
    (library,) = [entry for entry in captured.manifest["libraries"] if entry["path"] == path]
    assert library["included"]
    assert library["note"]
    with tarfile.open(captured.archive) as tar:
        assert f"{captured.manifest['name']}{path}" in tar.getnames()
    folder = captured.core.parent
    assert "DYN" in run_tool("readelf", "-h", folder / path.lstrip("/"))
    assert "vfork_until" in run_gdb(folder, f"info symbol {captured.facts['address']:#x}")


def test_executable_stack(capture: Capture) -> None:
    captured = capture("executable_stack")
    segment = segment_of(captured.core, captured.facts["address"])
    assert segment is not None
    assert segment.flags == "RWE"
    assert all(is_complete_stack(stack) for stack in gdb_stacks(captured.core.parent).values())


def test_a_file_that_was_truncated_after_mmap(capture: Capture) -> None:
    captured = capture("truncated_file")
    address = captured.facts["address"]
    assert read_memory(captured.core, address, len(MARK)) == MARK
    assert read_memory(captured.core, address + PAGE, 7 * PAGE) == bytes(7 * PAGE)
    assert "pages that could not be read and are zeros: 7" in captured.manifest["notices"]


@pytest.fixture
def _many_mappings() -> Iterator[None]:
    before = MAP_COUNT.read_text()
    try:
        MAP_COUNT.write_text("200000")
    except OSError:
        pytest.skip("vm.max_map_count cannot be raised")
    yield
    MAP_COUNT.write_text(before)


@pytest.mark.slow
@pytest.mark.usefixtures("_many_mappings")
def test_more_segments_than_a_header_can_count(tmp_path: Path, helpers: Path) -> None:
    facts = json.loads(
        run_subject("states.py", "many_mappings", "memory", tmp_path / "out", helpers, timeout=110)
    )
    core = Path(facts["core"])
    assert "65535 (" in run_tool("readelf", "-hW", core)
    assert len(load_segments(core)) > 70_000
    assert read_memory(core, facts["address"], len(MARK)) == MARK
    assert MARK.decode() in run_tool("gdb", "-nx", "-batch", "-c", core, "-ex", f"x/s {facts['address']:#x}")


def test_a_thread_in_vfork(capture: Capture) -> None:
    captured = capture("vfork")
    assert not captured.thread()["native_registers"]
    assert captured.thread()["reason"]
    assert captured.facts["answers"] == [7]


def test_a_thread_that_masks_all_signals(capture: Capture) -> None:
    captured = capture("masked")
    assert not captured.thread()["native_registers"]
    assert captured.thread()["reason"] == "it blocks the signal that stops threads"
    assert is_complete_stack(gdb_stacks(captured.core.parent)[captured.facts["pid"]])


@needs("root")
def test_supplementary_groups_do_not_hide_that_signals_are_masked(capture: Capture) -> None:
    """They stand in front of the mask in /proc/PID/status, on a line of any length."""
    captured = capture("masked_with_many_groups")
    assert captured.thread()["reason"] == "it blocks the signal that stops threads"
    assert captured.manifest["timings"]["stop_ms"] < 150, "without waiting for the deadline of 200 ms"


@both_methods
def test_a_process_whose_main_thread_has_ended(capture: Capture, method: str) -> None:
    captured = capture("zombie_leader", method)
    assert [thread["tid"] for thread in captured.manifest["threads"]] == [captured.facts["tid"]]
    stacks = gdb_stacks(captured.core.parent)
    assert is_complete_stack(stacks[captured.facts["tid"]])  # gdb may add the ended one from glibc's own list
