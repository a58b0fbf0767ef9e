"""Captures by signal handlers, as their collectors see them: the signal, the stacks, who is told."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
from capabilities import both_methods, needs
from dying import lines_of_gencore, run_dying
from gencore_archives import find_left, read_manifest, read_member
from junit_file import read_junit
from oracles import run_gdb, unpack

if TYPE_CHECKING:
    from pathlib import Path

CRASH = """
def test_a():
    ctypes.string_at(8)
faulthandler.enable()
Dying(sys.argv[1]).watch_crashes(method=sys.argv[2])
test_a()
"""
SUMMARY = "SIGSEGV (SEGV_MAPERR: address not mapped) at address 0x8 in test_a.py::test_a, call, process "


@needs("gdb")
@both_methods
def test_the_fault_is_in_the_core(tmp_path: Path, method: str) -> None:
    dead = run_dying(CRASH, tmp_path, method)

    assert dead.status == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in dead.errors, "faulthandler's text is still there"
    assert dead.archive is not None
    manifest = read_manifest(dead.archive)
    assert manifest["trigger"] == {
        "kind": "crash",
        "signal": "SIGSEGV",
        "signal_number": 11,
        "code": 1,
        "code_name": "SEGV_MAPERR",
        "address": "0x8",
        "abort_message": None,
        "deadline_s": None,
        "deadline_source": None,
        "sender": None,
        "exception": None,
    }
    assert (manifest["phase"], manifest["attempt"]) == ("call", 1)
    assert manifest["method"] == method
    text = run_gdb(
        unpack(dead.archive),
        "print $_siginfo.si_code",
        "print $_siginfo._sifields._sigfault.si_addr",
        "bt 1",
    )
    assert "Program terminated with signal SIGSEGV" in text
    assert "$1 = 1\n" in text
    assert "$2 = (void *) 0x8\n" in text
    assert "strlen" in text.partition("$2")[2].splitlines()[1], "the faulting function is on top"


def test_the_answer_is_printed_and_kept(tmp_path: Path) -> None:
    dead = run_dying(CRASH, tmp_path, "memory")

    assert dead.archive is not None
    first, under_way, last = lines_of_gencore(dead.errors)
    assert first.startswith(f"gencore: {SUMMARY}")
    assert under_way == f"gencore: core archive under way: {dead.archive}"
    assert last.startswith(f"gencore: core archive: {dead.archive}  (")
    printed = dead.errors.partition(under_way)[0]
    assert "Thread MainThread, native id " in printed
    assert ", in test_a\n" in printed
    assert dead.errors.index(last) < dead.errors.index("Fatal Python error"), "the process waited"
    stacks = read_member(dead.archive, "stacks.txt").decode()
    assert stacks.startswith(SUMMARY)
    assert ", in test_a\n" in stacks


OTHER_THREAD = """
ready = threading.Event()
def crash():
    ready.wait()
    ctypes.string_at(8)
def wait():
    ready.set()
    threading.Event().wait()
start._find_pystack = lambda: None
Dying(sys.argv[1]).watch_crashes(method="memory")
threading.Thread(target=crash).start()
wait()
"""


def test_threads_have_their_ids(tmp_path: Path) -> None:
    """Faulthandler prints pthread_self(); the hand-over knows which thread that is."""
    dead = run_dying(OTHER_THREAD, tmp_path)

    assert dead.archive is not None
    manifest = read_manifest(dead.archive)
    crashed, main = (thread["tid"] for thread in manifest["threads"])
    assert main == manifest["pid"]
    stacks = read_member(dead.archive, "stacks.txt").decode()
    assert f", native id {crashed}, crashed, most recent call last:" in stacks
    assert f"Thread MainThread, native id {main}, in threading's wait(), most" in stacks
    assert stacks.index(", in crash\n") < stacks.index(", in wait\n"), "the one that crashed is first"


NOT_PYTHON = """
start._find_pystack = lambda: None
dying = Dying(sys.argv[1])
dying.watch_crashes(method="memory")
libc = ctypes.CDLL(None)
thread = ctypes.c_ulong()
libc.pthread_create(ctypes.byref(thread), None, ctypes.cast(libc.abort, ctypes.c_void_p), None)
threading.Event().wait()
"""


def test_a_thread_that_is_not_pythons(tmp_path: Path) -> None:
    dead = run_dying(NOT_PYTHON, tmp_path)

    assert dead.status == -signal.SIGABRT
    assert dead.archive is not None
    stacks = read_member(dead.archive, "stacks.txt").decode()
    crashed = read_manifest(dead.archive)["threads"][0]["tid"]
    assert f"native id {crashed}, crashed, most recent call last:\n  no Python frame\n" in stacks
    assert "SIGABRT (SI_TKILL" in stacks


# ---- deadlines -----------------------------------------------------------------------------------------

DEADLINE = """
dying = Dying(sys.argv[1])
standby = dying.arm("timeout", await_seconds=0, deadline_seconds=0.2, deadline_source="pytest-timeout")
_native.set_deadline(0, 0.2, standby, False)
end = time.monotonic() + 30
while not _native.deadline_fired(0) and time.monotonic() < end:
    sum(range(1000))
if sys.argv[2] == "exits":
    os._exit(1)
dying.run.wait(timeout=50)
dying.run.close()
"""


def test_a_process_that_ended_at_its_deadline_is_spoken_for(tmp_path: Path) -> None:
    dead = run_dying(DEADLINE, tmp_path, "exits")

    assert dead.status == 1
    first, _, last = lines_of_gencore(dead.errors)
    assert first.startswith("gencore: took longer than 0.2 s (timeout of pytest-timeout): test_a.py::test_a,")
    assert last.startswith(f"gencore: core archive: {dead.archive}  (")


def test_a_process_that_lives_on_speaks_for_itself(tmp_path: Path) -> None:
    dead = run_dying(DEADLINE, tmp_path, "goes on")

    assert (dead.status, dead.errors) == (0, "")
    assert dead.archive is not None
    assert read_manifest(dead.archive)["trigger"]["kind"] == "timeout"


EXITS = """
dying = Dying(sys.argv[1])
standby = dying.arm("timeout", deadline_seconds=0.2, deadline_source="gencore")
_native.set_deadline(0, 0.2, standby, True)
threading.Event().wait()
"""


def test_a_process_that_waits_for_its_collector_is_spoken_for(tmp_path: Path) -> None:
    dead = run_dying(EXITS, tmp_path)

    assert dead.status == 1
    assert lines_of_gencore(dead.errors)[2].startswith(f"gencore: core archive: {dead.archive}  (")


# ---- what a collector leaves for those who wait -----------------------------------------------------------

OUTLIVED = """
from subjects import as_facts, report
dying = Dying(sys.argv[1], stderr_fd=-1)
pid = os.fork()
if not pid:
    dying.watch_crashes(method="memory", await_seconds=0)
    ctypes.string_at(8)
os.waitpid(pid, 0)
(outcome,) = dying.run.wait(timeout=50)
os.write(2, __import__("json").dumps([pid, as_facts(outcome)]).encode())
dying.run.close()
"""


def test_the_outcome_tells_what_happened(tmp_path: Path) -> None:
    dead = run_dying(OUTLIVED, tmp_path)

    pid, outcome = json.loads(dead.errors.splitlines()[-1])
    assert outcome["state"] == "done"
    assert outcome["captured_pid"] == pid
    assert outcome["signal"] == signal.SIGSEGV
    assert outcome["summary"] == f"{SUMMARY}{pid}"
    assert outcome["answer"].splitlines()[0] == f"{SUMMARY}{pid}"
    assert len(outcome["answer"].splitlines()) <= 60
    assert find_left(tmp_path) == [dead.archive], "the answer's file is gone with the rest"


# ---- junit ---------------------------------------------------------------------------------------------

JUNIT = """
import json
def note(**fields):
    _native.note(json.dumps(fields).encode() + b"\\n")
dying = Dying(sys.argv[1], is_local=sys.argv[3] == "local", junit_path=sys.argv[2])
suite = {"suite_name": "pytest", "family": "xunit2", "logging": "no", "prefix": "",
         "timestamp": "2026-01-02T03:04:05+00:00", "hostname": "here"}
note(junit=suite)
for name, outcome in (("test_1", "passed"), ("test_2", "failed"), ("test_3", "skipped")):
    note(started={"classname": "test_a", "name": name})
    facts = {"message": "m", "text": "t", "properties": [["a", "b"]]}
    note(classname="test_a", name=name, time=0.5, outcome=outcome, **facts)
note(started={"nodeid": "test_a.py::test_a", "classname": "test_a", "name": "test_a"})
if sys.argv[4] == "finished":
    note(finished=True)
dying.watch_crashes(method="memory")
ctypes.string_at(8)
"""


def test_junit_of_a_run_that_died(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "junit.xml"

    dead = run_dying(JUNIT, tmp_path / "out", str(path), "local", "running")

    one, two, three, captured = read_junit(path)
    assert [case.results for case in (one, two, three, captured)] == [
        (),
        ("failure",),
        ("skipped",),
        ("error",),
    ]
    assert captured.name == "test_a"
    assert captured.archives == captured.attachments == (str(dead.archive),)
    text = path.read_text()
    assert f"gencore: core archive: {dead.archive}" in text
    assert 'tests="4"' in text
    assert 'message="SIGSEGV (SEGV_MAPERR' in text
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("where", "moment"), [("worker", "running"), ("local", "finished")])
def test_no_junit_where_pytest_has_its_own(tmp_path: Path, where: str, moment: str) -> None:
    path = tmp_path / "junit.xml"

    dead = run_dying(JUNIT, tmp_path / "out", str(path), where, moment)

    assert dead.archive is not None
    assert not path.exists()


def test_junit_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    dead = run_dying(JUNIT, tmp_path / "out", str(tmp_path / "file" / "junit.xml"), "local", "running")

    assert dead.archive is not None
    assert any(line.startswith("gencore: junit: ") for line in lines_of_gencore(dead.errors)), dead.errors
