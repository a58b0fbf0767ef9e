"""Hostile states of the captured process and its helpers: an archive, or a clear error; never a trace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gencore_archives import read_manifest
from kernel import settings_lock, small_disk, wait_until
from process_state import processes_in
from subjects import open_archived_core, python_for_everybody, run_subject

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes what only root may change")
BOTH = pytest.mark.parametrize("method", ["memory", "kernel"])


@pytest.fixture(autouse=True)
def _plain_core_pattern() -> Iterator[None]:
    """Method kernel needs the pattern to stay."""
    with settings_lock(exclusive=False):
        yield


def assert_done(answer: dict[str, Any], directory: Path, *, threads: int = 1) -> dict[str, Any]:
    """Check that the one capture gave the one file of the directory; return its manifest."""
    (outcome,) = answer["outcomes"]
    assert (outcome["state"], outcome["reason"]) == ("done", "")
    archive = Path(outcome["archive"])
    assert list(directory.iterdir()) == [archive], "nothing else is left"
    core, _ = open_archived_core(archive)
    assert len(core.threads()) == threads
    assert not processes_in(directory)
    return read_manifest(archive)


def assert_failed(answer: dict[str, Any], directory: Path, reason: str) -> None:
    """Check that the one capture failed and left nothing."""
    (outcome,) = answer["outcomes"]
    assert outcome["state"] == "failed"
    assert reason in outcome["reason"]
    assert list(directory.iterdir()) == []
    assert not processes_in(directory)


# ---- the captured process -------------------------------------------------------------------------------

PLAIN = """
import ctypes, os, resource, signal, sys
from subjects import *
directory, method = sys.argv[1:3]
{before}
captures = Captures(directory)
{between}
captures.take(method=method)
{after}
report(outcomes=captures.finish())
"""
DELETED_CWD = """
os.mkdir(directory + ".cwd"); os.chdir(directory + ".cwd"); os.rmdir(directory + ".cwd")
"""
CLOSED_STREAMS = """
saved = os.dup(1)
for number in (0, 1, 2):
    os.close(number)
"""
ALL_DESCRIPTORS = """
import contextlib
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
with contextlib.suppress(OSError):
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
"""
STATES = {
    "deleted cwd": {"between": DELETED_CWD},
    "other cwd": {"between": "os.chdir('/proc/self')"},
    "environment emptied": {"between": "os.environ.clear(); ctypes.CDLL(None).clearenv()"},
    "environment empty from the start": {"before": "os.environ.clear(); ctypes.CDLL(None).clearenv()"},
    "environment full of nonsense": {
        "before": "os.environ.update(PYTHONHOME='/none', PYTHONPATH='/none', LD_PRELOAD='', TMPDIR='/none')"
    },
    "modules of the test's path": {
        "before": "os.mkdir(directory + '.path'); open(directory + '.path/json.py', 'w').close();"
        "os.chdir(directory + '.path'); sys.path.insert(0, directory + '.path')"
    },
    "standard streams closed": {"between": CLOSED_STREAMS, "after": "os.dup2(saved, 1)"},
    "all descriptors taken": {
        "between": ALL_DESCRIPTORS,
        "after": "assert taken; [os.close(number) for number in taken]",
    },
    "not dumpable": {"before": "assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0"},
    "file size limit": {
        "before": "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))"
    },
    "core limit 1": {"before": "resource.setrlimit(resource.RLIMIT_CORE, (1, resource.RLIM_INFINITY))"},
    "umask 0777": {"before": "os.umask(0o777)"},
    "SIGSEGV blocked and ignored": {
        "before": "signal.signal(signal.SIGSEGV, signal.SIG_IGN);"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGSEGV])"
    },
    "calls refused": {
        "before": "refuse_calls({'ptrace': 1, 'process_vm_readv': 1})",
    },
    "no vmsplice": {
        "before": "refuse_calls({'vmsplice': 1})",
    },
    "old kernel": {
        "before": "[os.open('/dev/null', os.O_RDONLY) for _ in range(300)];refuse_calls({'close_range': 38})",
    },
}


@BOTH
@pytest.mark.parametrize("state", STATES)
def test_state(tmp_path: Path, state: str, method: str) -> None:
    script = PLAIN.format(**{"before": "", "between": "", "after": "", **STATES[state]})
    directory = tmp_path / "out"

    manifest = assert_done(run_subject(script, directory, method), directory)

    assert manifest["method"] == method
    assert not manifest["core"]["truncated"]


@BOTH
def test_unprivileged_and_not_dumpable(open_path: Path, method: str) -> None:
    """A process that gave up its privileges and forbids its dump; ``/proc/PID`` is then root's."""
    python = python_for_everybody()
    if python is None or os.geteuid() != 0:
        pytest.skip("needs root and a Python that an unprivileged user may start")
    before = "give_up_privileges(); assert ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) == 0"
    script = PLAIN.format(before=before, between="", after="")

    answer = run_subject(script, open_path / "out", method, python=python)

    assert_done(answer, open_path / "out")


@needs_root
@BOTH
def test_without_the_right_to_trace(tmp_path: Path, method: str) -> None:
    script = PLAIN.format(before="", between="", after="")
    prefix = ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]

    answer = run_subject(script, tmp_path / "out", method, prefix=prefix)

    assert_done(answer, tmp_path / "out")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "nonsense"])
def test_directory_that_is_not_utf_8(tmp_path: Path, locale: str) -> None:
    directory = tmp_path / os.fsdecode(b"out \xff\xfe \xc3\xa4 \n'\"%s")
    script = PLAIN.format(before="", between="", after="")
    raw = f"import os, sys; sys.argv[1] = os.fsdecode(bytes.fromhex(sys.argv[1]));{script}"

    answer = run_subject(raw, os.fsencode(directory).hex(), "kernel", environment={"LC_ALL": locale})

    assert_done(answer, directory)


FORKED = """
import os, sys
from subjects import *
captures = Captures(sys.argv[1])
captures.take(method=sys.argv[2])
child = os.fork()
if not child:
    captures = Captures(sys.argv[1])
    captures.take(method=sys.argv[2])
    inherited = captures.take(method=sys.argv[2])
    report(outcomes=captures.finish(), pid=os.getpid())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
captures.finish()
"""


@BOTH
def test_forked_child_captures_itself(tmp_path: Path, method: str) -> None:
    answer = run_subject(FORKED, tmp_path / "out", method)

    assert [outcome["state"] for outcome in answer["outcomes"]] == ["done", "done"]
    for outcome in answer["outcomes"]:
        assert read_manifest(Path(outcome["archive"]))["pid"] == answer["pid"]
    assert len(list((tmp_path / "out").iterdir())) == 3


VANISHING = """
import os, sys
from subjects import *
captures = Captures(sys.argv[1])
capture = captures.take(method=sys.argv[2])
report(archive=str(capture.archive))
os._exit(0)
"""


@BOTH
def test_process_that_ends_at_once(tmp_path: Path, method: str) -> None:
    archive = Path(run_subject(VANISHING, tmp_path / "out", method)["archive"])

    wait_until(lambda: list(archive.parent.iterdir()) == [archive], "the collector has tidied up")
    core, _ = open_archived_core(archive)
    assert len(core.threads()) == 1
    wait_until(lambda: not processes_in(tmp_path), "the collector has ended")


# ---- namespaces -----------------------------------------------------------------------------------------

NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
FIRST_PROCESS = """
import os, sys
from subjects import *
assert os.getpid() == 1
captures = Captures(sys.argv[1])
captures.take(method=sys.argv[2])
outcomes = captures.finish()
try:
    report(child=os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    report(outcomes=outcomes)
"""


@needs_root
@BOTH
def test_first_process_of_a_pid_namespace(tmp_path: Path, method: str) -> None:
    answer = run_subject(FIRST_PROCESS, tmp_path / "out", method, prefix=NAMESPACE)

    assert assert_done(answer, tmp_path / "out")["pid"] == 1


LARGE_PID = """
import os, sys
from pathlib import Path
from subjects import *
try:
    Path("/proc/sys/kernel/ns_last_pid").write_text("1234566")
    child = os.fork()
except OSError as error:
    report(skip=str(error))
    os._exit(0)
if not child:
    captures = Captures(sys.argv[1])
    captures.take(method=sys.argv[2])
    report(outcomes=captures.finish(), pid=os.getpid())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@needs_root
@BOTH
def test_seven_digit_pid(tmp_path: Path, method: str) -> None:
    answer = run_subject(LARGE_PID, tmp_path / "out", method, prefix=NAMESPACE)

    if "skip" in answer or answer["pid"] < 1_000_000:
        pytest.skip(f"pids are not that large here: {answer}")  # before Linux 6.14 pid_max has no namespaces
    assert assert_done(answer, tmp_path / "out")["pid"] == answer["pid"]


@needs_root
@BOTH
def test_coredump_filter_that_cannot_be_written(tmp_path: Path, method: str) -> None:
    """As under gVisor: recorded, not fatal."""
    mount = 'mount -o remount,bind,ro /proc && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", mount, "sh"]

    answer = run_subject(
        PLAIN.format(before="", between="", after=""), tmp_path / "out", method, prefix=prefix
    )

    notices = assert_done(answer, tmp_path / "out")["notices"]
    filter_notice = "coredump_filter could not be set (Read-only file system): the kernel's own was in force"
    assert (filter_notice in notices) == (method == "kernel"), "method memory applies the filter itself"
    assert "oom_score_adj could not be set: Read-only file system" in notices


# ---- refusals -------------------------------------------------------------------------------------------

REFUSED = """
import os, resource, sys
from pathlib import Path
from subjects import *
from pytest_gencore.errors import CaptureError
from pytest_gencore.run.folder import run_folder_name
from process_state import describe_process
directory = Path(sys.argv[1])
elsewhere = directory.parent / "elsewhere"
{before}
captures = Captures(directory)
run_folder = directory / run_folder_name(captures.run_id)
{between}
describe_process()
state = describe_process()
try:
    capture = captures.take()
    report(error="")
except CaptureError as error:
    report(error=str(error), same=state == describe_process())
"""


def refusal(directory: Path, *, before: str = "", between: str = "", python: str | None = None) -> str:
    """Return the error of a capture that left its process as it was."""
    script = REFUSED.format(before=before, between=between)
    answer = run_subject(script, directory, python=python)
    assert answer["error"], "it was refused"
    assert answer["same"]
    assert not processes_in(directory)
    return str(answer["error"])


def test_directory_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")

    error = refusal(tmp_path / "out")

    assert error == (
        f"cannot make or open the directory {tmp_path}/out: ENOTDIR Not a directory"
        " (choose another one with --gencore-dir)"
    )
    assert (tmp_path / "out").read_text() == "mine"


def test_directory_is_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "none")

    assert "cannot make or open the directory" in refusal(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@needs_root
def test_directory_is_not_writable(open_path: Path) -> None:
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    (open_path / "out").mkdir(mode=0o755)

    error = refusal(open_path / "out", before="give_up_privileges()", python=python)

    assert error == (
        f"cannot make a private folder in {open_path}/out: EACCES Permission denied"
        " (choose another directory with --gencore-dir)"
    )
    assert not list((open_path / "out").iterdir())


@pytest.mark.parametrize(
    "between",
    [
        "directory.mkdir(); elsewhere.mkdir(mode=0o700); run_folder.symlink_to(elsewhere)",
        "directory.mkdir(); run_folder.mkdir(); run_folder.chmod(0o755)",
        "directory.mkdir(); run_folder.mkdir(mode=0o700); os.chown(run_folder, 65534, 65534)",
        "directory.mkdir(); run_folder.write_text('')",
    ],
    ids=["link", "open to others", "of somebody else", "file"],
)
def test_run_folder_is_not_ours(tmp_path: Path, between: str) -> None:
    if "chown" in between and os.geteuid() != 0:
        pytest.skip("needs root")
    error = refusal(tmp_path / "out", between=between)

    assert f"cannot make a private folder in {tmp_path}/out" in error
    assert len(list((tmp_path / "out").iterdir())) == 1, "what was there, and no more"
    assert not (tmp_path / "elsewhere").exists() or not list((tmp_path / "elsewhere").iterdir())


NO_PROCESSES = """
give_up_privileges({uid})
resource.setrlimit(resource.RLIMIT_NPROC, ({limit}, {limit}))
"""


@needs_root
@pytest.mark.parametrize(
    ("limit", "what"),
    [
        (1, "cannot create a process"),
        (2, "cannot create a process"),
        (3, "cannot fork a snapshot of the process"),
    ],
)
def test_limit_of_processes(open_path: Path, limit: int, what: str) -> None:
    """One by one: the middle process, the collector, the snapshot."""
    python = python_for_everybody()
    if python is None:
        pytest.skip("no Python that an unprivileged user may start")
    before = NO_PROCESSES.format(uid=200_000 + os.getpid(), limit=limit)

    error = refusal(open_path / "out", before=before, python=python)

    assert error.startswith(f"{what}: EAGAIN Resource temporarily unavailable (the limit on processes")
    assert not (open_path / "out").exists() or not list((open_path / "out").iterdir())


def test_interpreter_is_gone(tmp_path: Path) -> None:
    before = "os.symlink(sys.executable, sys.argv[1] + '.python'); sys.executable = sys.argv[1] + '.python'"
    between = "os.unlink(sys.executable)"

    error = refusal(tmp_path / "out", before=before, between=between)

    assert error.startswith(f"cannot start the collector with {tmp_path}/out.python: ENOENT")
    assert not list((tmp_path / "out").iterdir())


UNAVAILABLE = """
import sys
from subjects import *
from pytest_gencore.errors import UnavailableError
sys.executable = eval(sys.argv[2])
try:
    Captures(sys.argv[1])
except UnavailableError as error:
    report(error=str(error))
"""


@pytest.mark.parametrize("value", ["''", "None", "'/none/python'", "'/etc/passwd'"])
def test_interpreter_is_not_known(tmp_path: Path, value: str) -> None:
    answer = run_subject(UNAVAILABLE, tmp_path / "out", value)

    assert answer["error"].startswith("the Python interpreter cannot be started again: sys.executable is ")
    assert not (tmp_path / "out").exists()


TAKEN = """
import os, sys, time
from pathlib import Path
from subjects import *
directory = Path(sys.argv[1])
directory.mkdir()
captures = Captures(directory)
now = time.time()
for second in range(30):
    stamp = time.strftime("%Y%m%d.%H%M%S", time.gmtime(now + second))
    (directory / f"core_{stamp}.{os.getpid()}.001.tar.gz").write_text("mine")
    (directory / f"core_{stamp}.{os.getpid()}.002.tar.gz.partial").symlink_to("/none")
captures.take()
report(outcomes=captures.finish())
"""


def test_names_are_taken(tmp_path: Path) -> None:
    """Sixty files that are not ours stay; the third name is free."""
    (outcome,) = run_subject(TAKEN, tmp_path / "out")["outcomes"]

    assert outcome["state"] == "done"
    assert outcome["archive"].endswith(".003.tar.gz")
    assert len(list((tmp_path / "out").iterdir())) == 61
    assert all(path.read_text() == "mine" for path in (tmp_path / "out").glob("*.001.tar.gz"))


# ---- the collector and the snapshot ---------------------------------------------------------------------

KILLED = """
import os, sys
import psutil
from kernel import wait_until
from subjects import *
captures = Captures(sys.argv[1])
if sys.argv[3] == "at work":
    ballast = os.urandom(200_000_000)  # cannot be compressed, so that it takes a while
captures.take(method=sys.argv[2])
(collector,) = collectors()
if sys.argv[3] == "at work":
    wait_until(lambda: captures.run.outcomes()[0].bytes_total, "the collector is at work")
snapshots = collector.children()  # method kernel: it has ended when its core is read
for process in [collector] if sys.argv[4] == "collector" else snapshots:
    process.kill()
outcomes = captures.finish()
psutil.wait_procs([collector, *snapshots], 30)
report(outcomes=outcomes)
"""


@BOTH
def test_collector_is_killed_when_it_starts(tmp_path: Path, method: str) -> None:
    answer = run_subject(KILLED, tmp_path / "out", method, "at once", "collector")

    assert_failed(answer, tmp_path / "out", "the collector was killed; out of memory?")


@BOTH
def test_collector_is_killed_at_work(tmp_path: Path, method: str) -> None:
    answer = run_subject(KILLED, tmp_path / "out", method, "at work", "collector")

    assert_failed(answer, tmp_path / "out", "the collector was killed; out of memory?")


@pytest.mark.parametrize("when", ["at once", "at work"])
def test_snapshot_is_killed(tmp_path: Path, when: str) -> None:
    answer = run_subject(KILLED, tmp_path / "out", "memory", when, "snapshot")

    assert_failed(answer, tmp_path / "out", "the snapshot ended before it was read (signal 9)")


@needs_root
@BOTH
def test_disk_is_full(tmp_path: Path, method: str) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        answer = run_subject(PLAIN.format(before="", between="", after=""), disk / "out", method)

        # Which of two it is depends on the moment: the reserve is touched, or a write has failed.
        assert_failed(answer, disk / "out", "full: ")
        assert answer["outcomes"][0]["reason"].startswith(("the disk is full: ", "the disk is nearly full: "))


@BOTH
def test_file_size_limit_that_cannot_be_raised(tmp_path: Path, method: str) -> None:
    before = "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"

    answer = run_subject(PLAIN.format(before=before, between="", after=""), tmp_path / "out", method)

    assert_failed(answer, tmp_path / "out", "File too large")
