"""Every thread, with its stack to the end, by both methods: gdb, elfutils and pystack agree."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from capabilities import has_plain_core_pattern, needs
from gencore_archives import read_manifest
from native_builds import run_subject
from oracles import (
    eu_stack_threads,
    gdb_stacks,
    gdb_threads,
    is_complete_stack,
    py_spy_dump,
    pystack_threads,
    unpack,
)

pytestmark = [
    needs("gdb", "eu-stack"),
    pytest.mark.xdist_group("threads"),  # captures are made once
]
COUNTS = (1, 9, 65, 1000)


@dataclass(frozen=True, slots=True)
class Captured:
    folder: Path
    names: dict[int, str]
    """Thread names of the live process by thread id."""
    manifest: dict[str, Any]
    pid: int


@pytest.fixture(
    scope="module",
    params=[(method, count) for count in COUNTS for method in ("memory", "kernel")],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def captured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Captured:
    method, count = request.param
    if method == "kernel" and not has_plain_core_pattern():
        pytest.skip("the kernel writes no core into the working directory")
    report = json.loads(
        run_subject("python_threads.py", count, method, tmp_path_factory.mktemp("threads"), timeout=120)
    )
    archive = Path(report["archive"])
    folder = unpack(archive)
    names = {int(tid): name for tid, name in report["names"].items()}
    assert len(names) == count
    manifest = read_manifest(archive)
    archive.unlink()
    return Captured(folder, names, manifest, report["pid"])


@pytest.mark.slow(rows=3)
def test_the_manifest_names_every_thread(captured: Captured) -> None:
    assert {thread["tid"]: thread["name"] for thread in captured.manifest["threads"]} == captured.names
    assert all(thread["native_registers"] for thread in captured.manifest["threads"])


@pytest.mark.slow(rows=1)
def test_gdb_lists_every_thread(captured: Captured) -> None:
    threads = gdb_threads(captured.folder)
    assert sorted(threads) == sorted(captured.names)
    assert threads[0] == captured.pid, "the capturing thread comes first"


@pytest.mark.slow(rows=3)
def test_every_stack_is_complete(captured: Captured) -> None:
    stacks = gdb_stacks(captured.folder)
    assert stacks.keys() == captured.names.keys()
    assert {tid: stack for tid, stack in stacks.items() if not is_complete_stack(stack)} == {}


@pytest.mark.slow(rows=4)
def test_elfutils_agree(captured: Captured) -> None:
    stacks = eu_stack_threads(captured.folder / "core", frames=1 if len(captured.names) > 100 else 0)
    assert stacks.keys() == captured.names.keys()


@pytest.mark.slow(rows=3)
@needs("pystack")
def test_pystack_merges_python_and_native_frames(captured: Captured) -> None:
    if len(captured.names) > 100 and captured.manifest["method"] == "kernel":
        pytest.skip("once is enough: it takes 8 s")
    stacks = pystack_threads(captured.folder / "core")
    assert stacks.keys() == captured.names.keys()
    for tid, stack in stacks.items():
        assert "(Python)" in stack
        assert "(C)" in stack
        assert "python_threads.py" in stack
        assert ("collect_core" in stack) == (tid == captured.pid)


@needs("py-spy")
@pytest.mark.parametrize("captured", [("memory", 9), ("kernel", 9)], indirect=True, ids=["memory", "kernel"])
def test_py_spy_lists_python_threads(captured: Captured) -> None:
    listing = py_spy_dump(captured.folder / "core")
    assert listing.count("\nThread ") == len(captured.names)
    assert "wait (" in listing


@needs("strace")
def test_a_thread_that_is_late_in_the_handler_is_waited_for(tmp_path: Path) -> None:
    """All signals are blocked there: that is not a thread that can never be reached."""
    strace = ["strace", "-f", "-qq", "-o", "/dev/null", "--trace=gettid", "--inject=gettid:delay_enter=40000"]
    report = json.loads(run_subject("python_threads.py", 9, "memory", tmp_path, prefix=strace))
    threads = read_manifest(Path(report["archive"]))["threads"]
    assert [thread for thread in threads if not thread["native_registers"]] == []
