"""Hostile states of the captured process: an archive, and never a trace."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from gencore_archives import find_left, read_manifest
from hostile_captures import BOTH, PLAIN, needs_root
from kernel import wait_until
from process_state import processes_in
from subjects import open_archived_core, python_for_everybody, run_subject

pytestmark = pytest.mark.usefixtures("plain_core_pattern")


def assert_done(answer: dict[str, Any], directory: Path, *, threads: int = 1) -> dict[str, Any]:
    """Check that the one capture gave the one file of the directory; return its manifest."""
    (outcome,) = answer["outcomes"]
    assert (outcome["state"], outcome["reason"]) == ("done", "")
    archive = Path(outcome["archive"])
    assert find_left(directory) == [archive], "nothing else is left"
    core, _ = open_archived_core(archive)
    assert len(core.threads()) == threads
    assert not processes_in(directory)
    return read_manifest(archive)


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


@pytest.mark.slow(rows=4)
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


@pytest.mark.slow(rows=1)
@needs_root
@BOTH
def test_without_the_right_to_trace(tmp_path: Path, method: str) -> None:
    script = PLAIN.format(before="", between="", after="")
    prefix = ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]

    answer = run_subject(script, tmp_path / "out", method, prefix=prefix)

    assert_done(answer, tmp_path / "out")


@pytest.mark.slow(rows=1)
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
    assert len(find_left(tmp_path / "out")) == 3


VANISHING = """
import os, sys
from subjects import *
captures = Captures(sys.argv[1])
capture = captures.take(method=sys.argv[2])
report(archive=str(capture.archive))
os._exit(0)
"""


@pytest.mark.slow(rows=1)
@BOTH
def test_process_that_ends_at_once(tmp_path: Path, method: str) -> None:
    archive = Path(run_subject(VANISHING, tmp_path / "out", method)["archive"])

    wait_until(lambda: find_left(archive.parent) == [archive], "the collector has tidied up")
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


@pytest.mark.slow(rows=1)
@needs_root
@BOTH
def test_seven_digit_pid(tmp_path: Path, method: str) -> None:
    answer = run_subject(LARGE_PID, tmp_path / "out", method, prefix=NAMESPACE)

    if "skip" in answer or answer["pid"] < 1_000_000:
        pytest.skip(f"pids are not that large here: {answer}")  # before Linux 6.14 pid_max has no namespaces
    assert assert_done(answer, tmp_path / "out")["pid"] == answer["pid"]


@pytest.mark.slow(rows=1)
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
