"""Sentences about what went wrong: they say what is known, and what would help in that case."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_gencore.capture.engine import CaptureEngine
from pytest_gencore.capture.stages import find_help
from pytest_gencore.cli import machine
from pytest_gencore.collector.core.kernel_method import _explain_missing
from pytest_gencore.collector.source import snapshot as snapshot_module
from pytest_gencore.errors import ArchiveError, CaptureError
from pytest_gencore.plugin.deadworkers import DeadWorkers, describe_end
from pytest_gencore.protocol import CaptureResult, Stage
from pytest_gencore.run.naming import describe_gone
from pytest_gencore.run.outcome import Outcome
from pytest_gencore.run.stuck import why_it_died


@pytest.mark.parametrize(
    ("stage", "error", "text"),
    [
        (Stage.SNAPSHOT, errno.EAGAIN, "ulimit -u"),
        (Stage.LAUNCH, errno.ENOMEM, "free memory"),
        (Stage.LAUNCH, errno.EPERM, ""),
        (Stage.NAME, errno.EMFILE, "ulimit -n"),
        (Stage.PIPES, errno.EMFILE, "ulimit -n"),
        (Stage.NAME, errno.EACCES, "--gencore-dir"),
        (Stage.EXEC, errno.ENOENT, ""),
    ],
)
def test_help_is_that_of_the_error(stage: Stage, error: int, text: str) -> None:
    found = find_help(stage, error)
    assert text in found
    assert bool(text) is bool(found)


@pytest.mark.parametrize(
    ("stage", "error", "text"),
    [
        (Stage.BUSY, errno.EBUSY, "another capture is still being taken"),
        (Stage.DIED, errno.ECHILD, "the collector was killed while it started"),
        (Stage.LAUNCH, errno.EPERM, "cannot create a process: EPERM Operation not permitted"),
    ],
)
def test_only_errors_of_the_kernel_are_named(stage: Stage, error: int, text: str) -> None:
    engine = object.__new__(CaptureEngine)
    engine._messages = {}
    request: Any = None
    with pytest.raises(CaptureError) as caught:
        engine.read_result(request, CaptureResult(stage, error, "", 0, 0, 0))
    assert str(caught.value) == text


def test_what_is_gone(tmp_path: Path) -> None:
    partial = tmp_path / "out" / "core_x.partial"
    assert describe_gone(partial) == f"the directory is gone: {tmp_path}/out"
    partial.parent.mkdir()
    assert describe_gone(partial) == f"{partial} is gone: something else has removed or renamed it"


def test_a_core_that_the_kernel_did_not_write() -> None:
    snapshot: Any = SimpleNamespace(status=SimpleNamespace(chdir_error=0))
    pattern: Any = SimpleNamespace(template="core")
    assert _explain_missing(3 << 8, snapshot, pattern).endswith("by SIGSEGV: it ended with status 3")
    assert _explain_missing(signal.SIGSEGV, snapshot, pattern) == (
        "the kernel wrote no core; core_pattern is 'core'"
    )


def test_a_collector_that_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_text("junit: x could not be written\n")
    last = "junit: x could not be written"
    assert why_it_died(log, tmp_path) == f"the collector died; the end of its log: {last}"
    log.write_text("")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=0))
    assert why_it_died(log, tmp_path) == (
        f"the collector ended without a word, and the disk is full: {tmp_path}"
    )


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_snapshot_that_is_gone(monkeypatch: pytest.MonkeyPatch, has_ended: bool) -> None:
    snapshot = object.__new__(snapshot_module.Snapshot)
    monkeypatch.setattr(snapshot, "_has_ended", lambda _: has_ended)
    monkeypatch.setattr(snapshot, "_reap", lambda: 2 << 8)
    with pytest.raises(ArchiveError) as caught:
        snapshot._raise_gone()
    assert str(caught.value) == (
        "the snapshot ended before it was read (status 2)"
        if has_ended
        else "the snapshot closed its pipes before it was read"
    )


def test_the_end_of_a_worker() -> None:
    assert describe_end(None) == "no capture of the worker was found, and its exit status is not known"
    assert describe_end(-signal.SIGSEGV).startswith("the worker died of SIGSEGV without a capture")


def die(outcome: Outcome) -> str:
    """Return the text of the report of a worker that died with this capture."""
    run: Any = SimpleNamespace(outcomes=lambda: [outcome], acknowledge=lambda _: None)
    popen = SimpleNamespace(wait=lambda _: -signal.SIGSEGV)
    gateway = SimpleNamespace(id="gw0", spec=SimpleNamespace(popen=True), _io=SimpleNamespace(popen=popen))
    node = SimpleNamespace(gateway=gateway, workerinput={})
    report: Any = SimpleNamespace(nodeid="test_a", longrepr="crashed", user_properties=[])
    workers = DeadWorkers(run, lambda _: "", lambda _: "")
    workers.add("gw0", node, set())
    workers.attach("gw0", report)
    text: str = report.longrepr
    return text


def test_a_dead_worker_with_a_capture_that_failed(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"nodeid": "test_a", "phase": "call", "worker_id": "gw0", "method": "memory"}
    facts |= {"size_bytes": 0, "bytes_done": 0, "bytes_total": 0, "archive": tmp_path / "core_x.tar.gz"}
    failed = Outcome(state="failed", reason="the disk is full", trigger="crash", **facts)
    assert die(failed) == "crashed\ngencore: no core archive: the disk is full"
    dropped = Outcome(state="dropped", reason="", trigger="timeout", **facts)
    assert "died of SIGSEGV without a capture" in die(dropped)


def test_a_tool_that_is_there_and_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._tool("lldb").value == "not found"
    program = tmp_path / "lldb"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    assert machine._tool("lldb").value == f"{program} does not start"


def test_proc_that_is_there_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert machine._proc().value == "/proc/self/maps cannot be read"
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert (machine._proc().value, machine._proc().advice) == ("/proc/self/maps is missing", "mount /proc")
