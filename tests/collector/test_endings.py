"""How captures end that are not wanted, not allowed, or not alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from capabilities import needs
from gencore_archives import find_left, read_manifest, read_member
from held_captures import HELPERS
from kernel import wait_until
from process_state import processes_in
from subjects import python_for_everybody, run_subject


def run(script: str, directory: Path, *arguments: str) -> dict[str, object]:
    answer: dict[str, object] = run_subject(HELPERS + script, directory, *arguments)
    wait_until(lambda: not processes_in(directory), "all collectors have ended")
    return answer


DROP_AT_WORK = """
captures = Captures(sys.argv[1])
captures.engine = CaptureEngine(captures.directory, captures.run_id, max_captures=5)
capture, collector = hold(captures, nodeid="a")
before = marks_in(captures)
captures.run.drop(name_of(capture))
captures.run.drop(name_of(capture))
collector.resume()
(outcome,) = captures.run.wait(timeout=50)
again = captures.take(trigger="failure", nodeid="a")  # the claim is free again
_, second = captures.run.wait(timeout=50)
report(state=outcome.state, before=before, after=marks_in(captures), second=second.state,
       existing=[path.name for path in captures.directory.glob("core*.gz")], name=again.archive.name)
captures.run.close()
"""


def test_dropped_at_work(tmp_path: Path) -> None:
    answer = run(DROP_AT_WORK, tmp_path)

    assert answer["state"] == "dropped"
    assert answer["before"] == answer["after"] == ["claim", "slot"]
    assert answer["second"] == "done"
    assert answer["existing"] == [answer["name"]]
    assert {path.name.partition(".t")[0] for path in tmp_path.iterdir()} == {
        str(answer["name"]).removesuffix(".tar.gz")
    }


DROP_FINISHED = """
captures = Captures(sys.argv[1])
captures.engine = CaptureEngine(captures.directory, captures.run_id, max_captures=1)
capture = captures.take(trigger="failure", nodeid="a")
(outcome,) = captures.run.wait(timeout=50)
assert outcome.state == "done", outcome
captures.run.drop(name_of(capture))
second = captures.take(trigger="failure", nodeid="a")
captures.run.drop(name_of(capture))  # must not take the place of the second one
captures.run.drop("core_that_never_was")
marks = marks_in(captures)
report(outcomes=captures.finish(), marks=marks)
"""


@pytest.mark.slow
def test_dropped_when_finished(tmp_path: Path) -> None:
    answer = run(DROP_FINISHED, tmp_path)

    outcomes = answer["outcomes"]
    assert isinstance(outcomes, list)
    assert [outcome["state"] for outcome in outcomes] == ["dropped", "done"]
    assert answer["marks"] == ["claim", "slot"]
    archive = Path(outcomes[1]["archive"])
    assert sorted(tmp_path.iterdir()) == [archive, archive.with_suffix("").with_suffix(".txt")]


KILLED = "the collector ended without a word, as after SIGKILL"
CANCEL = """
captures = Captures(sys.argv[1])
captures.engine = CaptureEngine(captures.directory, captures.run_id, max_captures=5)
captures.take(trigger="failure", nodeid="finished")
captures.run.wait(timeout=50)
capture, collector = hold(captures, nodeid="a")
suspend_snapshot(collector)  # it cannot finish
if sys.argv[2] != "starting":
    collector.resume()
    wait_until(lambda: captures.run.outcomes()[1].captured_pid, "it is at work")
if sys.argv[2] == "stopped":
    collector.suspend()
outcomes = captures.run.cancel()
report(outcomes=[as_facts(outcome) for outcome in outcomes], marks=marks_in(captures),
       alive=collector.is_running() and collector.status() != psutil.STATUS_ZOMBIE)
captures.run.close()
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(
    ("how", "reasons"),
    [
        # between the state file and its handler of SIGTERM it just dies
        ("at work", ["the collector was told to end by SIGTERM", KILLED]),
        ("stopped", [KILLED]),
        ("starting", [KILLED]),
    ],
)
def test_cancelled(tmp_path: Path, how: str, reasons: list[str]) -> None:
    """A collector that does not react is killed; what was finished stays."""
    answer = run(CANCEL, tmp_path, how)

    outcomes = answer["outcomes"]
    assert isinstance(outcomes, list)
    assert [outcome["state"] for outcome in outcomes] == ["done", "failed"]
    assert outcomes[1]["reason"] in reasons
    if how != "starting":  # it had not yet said which place is its
        assert answer["marks"] == ["claim", "slot"], "those of the finished one"
    assert not answer["alive"]
    assert find_left(tmp_path) == [Path(outcomes[0]["archive"])]


TOO_LARGE = """
captures = Captures(sys.argv[1])
captures.engine = CaptureEngine(captures.directory, captures.run_id, max_bytes=int(sys.argv[2]))
for number in range(2):
    captures.take(trigger="failure", nodeid=str(number))
    captures.run.wait(timeout=50)
try:
    captures.take(trigger="failure", nodeid="refused")
except Exception as error:
    refused = f"{type(error).__name__}: {error}"
report(refused=refused, outcomes=captures.finish())
"""


@pytest.mark.slow
def test_the_bytes_of_a_run(tmp_path: Path) -> None:
    """The first archive fits, the second would be too much, the third is not even tried."""
    answer = run(TOO_LARGE, tmp_path, str(30 << 20))

    outcomes = answer["outcomes"]
    assert isinstance(outcomes, list)
    first, second = outcomes
    assert (first["state"], second["state"]) == ("done", "failed")
    assert second["reason"].startswith("the archives of this run would be larger than 30.0 MiB: ")
    assert second["reason"].endswith(" are finished (raise --gencore-max-size)")
    assert "LimitError" in str(answer["refused"])
    assert find_left(tmp_path) == [Path(first["archive"])]


# ---- the queue, of a user who has no other captures --------------------------------------------------------

LONELY_USER = 54_321


LOCKED = """
import fcntl
from subjects import give_up_privileges
from pytest_gencore.run.folder import run_folder_name
give_up_privileges(int(sys.argv[2]))
captures = Captures(sys.argv[1])
run_folder = captures.directory / run_folder_name(captures.run_id)
run_folder.mkdir(mode=0o700, parents=True)
files = [os.open(run_folder / f"collector-{number}", os.O_RDWR | os.O_CREAT, 0o600) for number in (1, 2)]
for file in files:  # as two collectors at work
    fcntl.flock(file, fcntl.LOCK_EX)
for number in range(3):
    captures.take(trigger="failure", nodeid=str(number), method="memory")
wait_until(lambda: sum(o.queued for o in captures.run.outcomes()) == 3, "all queue")
answers = [outcome.answer for outcome in captures.run.outcomes()]
dropped = captures.run.outcomes()[0].archive.name.removesuffix(".tar.gz")
captures.run.drop(dropped)
wait_until(lambda: captures.run.outcomes()[0].state == "dropped", "the first one leaves the queue")
finished = [path.name for path in captures.directory.glob("*.tar.gz")]
os.close(files[0])
outcomes = captures.finish()
os.close(files[1])
report(outcomes=outcomes, answers=answers, finished=finished)
"""


@needs("root")
def test_queued(open_path: Path) -> None:
    """Who queues has answered already, can be dropped, and works when it has a slot."""
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    answer = run_subject(HELPERS + LOCKED, open_path / "out", str(LONELY_USER), python=python, timeout=100)

    assert [outcome["state"] for outcome in answer["outcomes"]] == ["dropped", "done", "done"]
    assert all(text.startswith("failed: ") for text in answer["answers"])
    assert answer["finished"] == []


# ---- libraries and memory ----------------------------------------------------------------------------------

CHANGED_LIBRARY = """
import ctypes, shutil
from pytest_gencore.capture import _native
library = Path(sys.argv[2])
shutil.copy(_native.__file__, library)
library.open("ab").write(b"old")
os.utime(library, ns=(5, 5))
ctypes.CDLL(str(library))
captures = Captures(sys.argv[1])
def capture():
    captures.take()
    captures.run.wait(timeout=50)
def change(mtime):
    with library.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"new")
    os.utime(library, ns=(5, mtime))
capture()
change(5)
capture()
change(6)
capture()
report(outcomes=captures.finish())
"""


@pytest.mark.slow
def test_libraries_are_those_of_the_capture(tmp_path: Path) -> None:
    """Also if nothing but their contents tells that they were changed since the last one."""
    library = tmp_path / "library.so"

    answer = run(CHANGED_LIBRARY, tmp_path / "out", str(library))

    outcomes = answer["outcomes"]
    assert isinstance(outcomes, list)
    archives = [Path(outcome["archive"]) for outcome in outcomes]
    ends = [read_member(archive, str(library).lstrip("/"))[-3:] for archive in archives]
    assert ends == [b"old", b"new", b"new"]
    manifests = [read_manifest(archive) for archive in archives]
    assert manifests[0]["libraries"] == manifests[1]["libraries"]


BARE_CORE = """
captures = Captures(sys.argv[1])
captures.take(product="core")
report(outcomes=captures.finish())
"""


def test_nothing_is_left_beside_a_bare_core(tmp_path: Path) -> None:
    answer = run(BARE_CORE, tmp_path)

    outcomes = answer["outcomes"]
    assert isinstance(outcomes, list)
    assert find_left(tmp_path) == [Path(outcomes[0]["archive"])]


LARGE = """
import os, sys
from kernel import wait_until
from subjects import Captures, collectors, report
memory = bytearray(os.urandom(1 << 20)) * int(sys.argv[2])
captures = Captures(sys.argv[1])
captures.take(method="memory")
(collector,) = collectors()
peak = 0
def is_done():
    global peak
    try:
        text = open(f"/proc/{collector.pid}/status").read()
        values = [int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("VmHWM")]
        peak = max([peak, *values])
    except OSError:
        pass
    return captures.run.outcomes()[0].state != "working"
wait_until(is_done, "the archive is finished")
report(peak=peak, outcomes=captures.finish())
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("mib", [64, 1024])
def test_memory_of_a_collector(tmp_path: Path, mib: int) -> None:
    answer = run_subject(LARGE, tmp_path, str(mib), timeout=100)

    assert answer["outcomes"][0]["state"] == "done"
    assert 0 < answer["peak"] < 96 << 20
    os.truncate(answer["outcomes"][0]["archive"], 0)
