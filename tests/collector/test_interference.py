"""Directories removed, names taken, processes killed, clocks set: a clear line, and what could be saved."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from dying import lines_of_gencore, run_dying
from gencore_archives import find_left, read_manifest
from held_captures import HELPERS
from kernel import settings_lock
from outcomes import only
from process_state import processes_in
from subjects import run_subject

# ---- the directory ---------------------------------------------------------------------------------------

REMOVED = """
import shutil
captures = Captures(sys.argv[1])
capture, collector = hold(captures, nodeid="a")
shutil.rmtree(captures.directory)
collector.resume()
psutil.wait_procs([collector], 50)
report(outcomes=captures.finish(), exists=captures.directory.exists(), alive=collector.is_running())
"""


def test_directory_removed(tmp_path: Path) -> None:
    answer = run_subject(HELPERS + REMOVED, tmp_path / "out")

    assert (answer["exists"], answer["outcomes"]) == (False, [])
    assert not answer["alive"]


REMOVED_BY_A_CRASH = """
import shutil
from kernel import wait_until
directory = Path(sys.argv[1])
def remove():
    states = lambda: [path.stat().st_size for path in directory.glob(".gencore-*/*.json")]
    wait_until(lambda: any(states()), "the collector has written its first state")
    shutil.rmtree(directory, ignore_errors=True)
pid = os.fork()
if pid:
    remove()
    os.waitpid(pid, 0)
else:
    Dying(directory).watch_crashes(method="memory")
    ballast = os.urandom(100 << 20)
    ctypes.string_at(8)
"""


def test_directory_removed_under_a_crash(tmp_path: Path) -> None:
    dead = run_dying(REMOVED_BY_A_CRASH, tmp_path / "out")

    assert not (tmp_path / "out").exists()
    assert re.fullmatch(
        r"gencore: no core archive: the directory is gone: .*",
        lines_of_gencore(dead.errors)[-1],
    )


TAKEN = """
captures = Captures(sys.argv[1])
capture, collector = hold(captures, nodeid="a")
capture.archive.write_text("mine")
collector.resume()
report(outcomes=captures.finish(), text=capture.archive.read_text())
"""


def test_name_taken_meanwhile(tmp_path: Path) -> None:
    answer = run_subject(HELPERS + TAKEN, tmp_path)

    outcome = only(answer)
    assert (outcome["state"], outcome["reason"]) == ("failed", f"{outcome['archive']} exists already")
    assert answer["text"] == "mine"
    assert [str(path) for path in find_left(tmp_path)] == [outcome["archive"]]


TWO_SESSIONS = """
one, other = Captures(sys.argv[1]), Captures(sys.argv[1])
for captures in (one, other, one, other):
    captures.take(trigger="failure", nodeid=f"test {captures is one}{len(captures.run.outcomes())}")
first = one.finish()
report(outcomes=[*first, *other.finish()])
"""


@pytest.mark.slow
def test_two_sessions_in_one_directory(tmp_path: Path) -> None:
    outcomes = run_subject(HELPERS + TWO_SESSIONS, tmp_path)["outcomes"]

    assert [outcome["state"] for outcome in outcomes] == ["done"] * 4
    assert {str(path) for path in find_left(tmp_path)} == {outcome["archive"] for outcome in outcomes}


# ---- processes -------------------------------------------------------------------------------------------

KILLED = """
captures = Captures(sys.argv[1])
captures.engine = CaptureEngine(captures.directory, captures.run_id, max_captures=1)
capture, collector = hold(captures, nodeid="a")
snapshot = suspend_snapshot(collector)
collector.resume()
wait_until(lambda: captures.run.outcomes()[0].captured_pid, "it is at work")
{"collector": collector, "snapshot": snapshot}[sys.argv[2]].kill()
captures.run.wait(timeout=50)
marks = marks_in(captures)
again = captures.take(trigger="failure", nodeid="a")
report(outcomes=captures.finish(), marks=marks)
"""


@pytest.mark.parametrize(
    ("victim", "reason"),
    [
        ("collector", "the collector ended without a word, as after SIGKILL"),
        ("snapshot", "the snapshot ended before it was read (signal 9)"),
    ],
)
def test_killed(tmp_path: Path, victim: str, reason: str) -> None:
    answer = run_subject(HELPERS + KILLED, tmp_path, victim)

    first, second = answer["outcomes"]
    assert (first["state"], first["reason"]) == ("failed", reason)
    assert answer["marks"] == [], "its place is free"
    assert second["state"] == "done"
    assert find_left(tmp_path) == [Path(second["archive"])]
    assert not processes_in(tmp_path)


CAPTURED_IS_KILLED = """
from subjects import run_subject
captures = Captures(sys.argv[1])
pid = os.fork()
if not pid:
    captures.take(trigger="failure", nodeid="a")
    os.kill(os.getpid(), signal.SIGKILL)
os.waitpid(pid, 0)
report(outcomes=captures.finish(), pid=pid)
"""


def test_captured_process_is_killed(tmp_path: Path) -> None:
    answer = run_subject(HELPERS + CAPTURED_IS_KILLED, tmp_path)

    outcome = only(answer)
    assert (outcome["state"], outcome["captured_pid"]) == ("done", answer["pid"])
    assert read_manifest(Path(outcome["archive"]))["complete"]


# ---- the clock -------------------------------------------------------------------------------------------

SHIFTED_COLLECTOR = """
import sys; sys.path += sys.argv[1:]
import os, struct, time
began = struct.unpack_from("<q", os.pread(3, 72, 0), 56)[0]
assert abs(began - time.time_ns()) < 60 * 10**9, "the field started_ns of struct gencore_record"
os.pwrite(3, struct.pack("<q", began + SHIFT * 10**9), 56)
real = time.time_ns
time.time_ns = lambda: real() + SHIFT * 10**9
from pytest_gencore.collector.main import main; main()
"""
SHIFTED = """
from pytest_gencore.capture import start
program, method = sys.argv[2:]
describe = start.collector_command
def command(**options):
    parts = describe(**options)
    parts[parts.index("-c") + 1] = program
    return parts
start.collector_command = command
captures = Captures(sys.argv[1])
captures.take(method=method)
report(outcomes=captures.finish())
"""


@pytest.mark.slow(rows=2)
@pytest.mark.parametrize("shift", [-10 * 365 * 86400, -3600, 3600])
@pytest.mark.parametrize("method", ["memory", "kernel"])
def test_clock_set(tmp_path: Path, shift: int, method: str) -> None:
    """The capture and the collector's clock are of another time than the files of the kernel."""
    program = SHIFTED_COLLECTOR.replace("SHIFT", str(shift))
    with settings_lock(exclusive=False):
        outcome = only(run_subject(HELPERS + SHIFTED, tmp_path, program, method))

    assert (outcome["state"], outcome["reason"]) == ("done", "")
    archive = Path(outcome["archive"])
    manifest = read_manifest(archive)
    assert manifest["complete"]
    assert manifest["timings"]["collect_s"] < 60, "durations are not taken from that clock"
    subprocess.run(["tar", "tzf", archive], check=True, stdout=subprocess.DEVNULL)
