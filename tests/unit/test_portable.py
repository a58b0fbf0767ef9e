"""What stands in for the extension: the same names of files, the same values, and no import of Linux."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from without_extension import copy_package

from pytest_gencore.collector.told import describe_late
from pytest_gencore.portable import places
from pytest_gencore.portable.watchdog import Watchdog
from pytest_gencore.probe import named, values
from pytest_gencore.protocol import Stage
from pytest_gencore.redaction import _scanner, slow_scanner

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = """
import sys
import pytest, _pytest.pytester, xdist, asyncio, subprocess, concurrent.futures, http.client, tarfile
import logging.handlers, multiprocessing.pool, urllib.request, uuid, platform, textwrap, fnmatch, shutil
import allure_commons, click, marshal, dis, faulthandler, atexit, json, queue, stat, zlib, gzip, base64
import calendar, tokenize, ctypes, tempfile, pathlib, contextlib, io
import os, posix, signal, select, time, types
fake = types.ModuleType("nt")
fake.__dict__.update({name: value for name, value in vars(posix).items() if not name.startswith("__")})
IS_WINDOWS = sys.argv[1] == "win32"
gone = ["memfd_create", "pidfd_open", "sched_getaffinity", "O_PATH", "copy_file_range"]
gone_signals = ["SIGRTMIN", "SIGRTMAX", "pidfd_send_signal", "sigtimedwait"]
if IS_WINDOWS:
    gone += ["geteuid", "getuid", "uname", "fork", "setsid", "writev", "pwrite", "pread", "statvfs"]
    gone += ["sysconf", "WNOHANG", "mkfifo", "killpg", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC"]
    gone += ["O_NONBLOCK", "O_NOCTTY", "set_blocking"]
    gone_signals += ["SIGHUP", "SIGKILL", "SIGALRM", "pthread_sigmask", "alarm", "setitimer", "sigwait"]
    sys.modules["nt"] = fake
    usage = shutil.disk_usage(".")
    shutil.disk_usage = lambda _: usage  # it has one of its own there
    for name in ("fcntl", "resource", "posix", "pwd", "grp", "termios"):
        sys.modules[name] = None
    del select.poll
    for name in ("pthread_getcpuclockid", "clock_gettime", "CLOCK_MONOTONIC"):
        delattr(time, name)
for name in gone:
    if hasattr(os, name):
        delattr(os, name)
    fake.__dict__.pop(name, None)
for name in gone_signals:
    if hasattr(signal, name):
        delattr(signal, name)
sys.platform = sys.argv[1]
from pytest_gencore.plugin import capturer, capturing, roles, settings, early, watch, deadlines, dormant
from pytest_gencore.plugin import attach, showing, results, progress, shown, xdist, deadworkers, fixture
from pytest_gencore.plugin import secrets, handlers, debuggers, journal, ci_page, pages
import pytest_gencore.api, pytest_gencore.capture, pytest_gencore.portable.native
import pytest_gencore.run.portable, pytest_gencore.run.opening, pytest_gencore.junit.attacher
import pytest_gencore.archive, pytest_gencore.probe.in_process, pytest_gencore.ci.telling
import pytest_gencore.collector.portable, pytest_gencore.redaction.slow_scanner, pytest_gencore.cli.machine
import pytest_gencore.collector.portable
from pytest_gencore.portable import native
class Direct:
    pid = 1
    def __init__(self, *_):
        pass
    def send(self, told):
        pytest_gencore.collector.portable._Capture(json.loads(json.dumps(told))).write()
native.Helper = Direct
directory = pathlib.Path(sys.argv[2])
from pytest_gencore.run.folder import new_run_id
run_id = new_run_id()
engine = pytest_gencore.capture.CaptureEngine(directory, run_id, max_captures=2)
request = pytest_gencore.capture.CaptureRequest(trigger="failure", nodeid="test_a", failure_text="text")
capture = engine.capture(request)
from pytest_gencore.run.opening import open_run
run = open_run(directory, run_id)
(outcome,) = run.wait()
assert (outcome.state, outcome.reason) == ("done", ""), outcome
assert pytest_gencore.archive.read_archive(capture.archive).manifest.type == "text"
from pytest_gencore.run.started import find_lost_runs
assert find_lost_runs(directory) == []
import pytest_gencore.cli
for command in ("list", "wait", "show", "stacks", "unpack", "prune"):
    where = directory if command in ("list", "wait", "prune") else capture.archive
    sys.argv[1:] = [command, *(["--keep=1"] if command == "prune" else []), str(where)]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            pytest_gencore.cli.main()
        except SystemExit as ended:
            assert not ended.code, (command, shown.getvalue())
run.close()
print(*sorted(path.name for path in directory.iterdir()))
"""


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_systems(tmp_path: Path, system: str) -> None:
    """On no such system: with the names taken away that it does not have."""
    environment = copy_package(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", MISSING, system, str(tmp_path / "artifacts")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [Path(name).suffix for name in done.stdout.split()] == [".gz", ".txt"]


def test_scanner() -> None:
    """It finds what the one in C finds."""
    source = random.Random(1)
    for _ in range(50):
        patterns = tuple({bytes(source.choices(b"ab", k=source.randint(4, 9))) for _ in range(5)})
        data = bytearray(source.choices(b"abc", k=300))
        expected = _scanner.find(_scanner.make_table(patterns), data, 290)
        found = slow_scanner.find(slow_scanner.make_table(patterns), data, 290)
        assert sorted(found) == sorted(expected)


lock, other = threading.Lock(), threading.RLock()


class Owner:
    def __init__(self) -> None:
        self.lock = threading.Lock()


@contextlib.contextmanager
def helper(taken: Any) -> Iterator[None]:
    with taken:
        yield


def hold(frames: list[Any]) -> None:
    owner, mine = Owner(), threading.RLock()
    with lock, owner.lock as _, mine, helper(other):
        frame = sys._getframe()
        frames += [[*map(tell, named.held_by(frame))], tell_native(frame)]


def rebind() -> list[Any]:
    mine = threading.Lock()
    with mine:
        mine = threading.Lock()
        return [*map(tell, named.held_by(sys._getframe()))]


def tell(held: values.Held) -> tuple[int, int | None]:
    return id(held.manager), held.line


def tell_native(frame: Any) -> list[Any]:
    assert values.find_layout()
    return [*map(tell, values.held_by(frame))]


def test_held() -> None:
    """What ``with`` statements hold is what the stack of the frame says."""
    frames: list[Any] = []
    hold(frames)
    by_name, by_stack = frames
    assert by_name == by_stack[2:]  # the innermost is the result of a call, which has no name
    assert len(by_name) == 3
    assert rebind() == []


def test_calls() -> None:
    """The C function that a thread is inside of, with what it was called with."""
    told: dict[str, Any] = {}
    taken = threading.Lock()
    taken.acquire()

    def wait(timeout: float) -> None:
        taken.acquire(True, timeout=timeout)
        taken.release()

    def enter() -> None:
        with taken:
            pass

    threads = [threading.Thread(target=wait, args=(60,)), threading.Thread(target=enter)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while (call := find_call(thread)) is None:
                pass
            told[thread.name] = call
    finally:
        taken.release()
        for thread in threads:
            thread.join()
    first, second = told.values()
    assert (first.name, first.owner, first.argument(0), first.argument(1, "timeout")) == (
        "acquire",
        taken,
        True,
        60,
    )
    assert (second.name, second.owner) == ("__enter__", taken)


def find_call(thread: threading.Thread) -> values.Call | None:
    frame = sys._current_frames().get(thread.ident or 0)
    return named.call_of(frame) if frame is not None and frame.f_code.co_name in ("wait", "enter") else None


def test_places(tmp_path: Path) -> None:
    """Claims, slots and names as csrc/runfiles.c makes them; nothing is left of what is refused."""
    directory = str(tmp_path / "artifacts")
    first = places.take(directory, ".gencore-1-portable-2", 1, "hang ", '"test_a"')
    folder = tmp_path / "artifacts/.gencore-1-portable-2"
    assert first.slot == 1
    assert folder.stat().st_mode & 0o777 == 0o700
    for test, stage in (('"test_a"', Stage.CLAIMED), ('"test_b"', Stage.LIMIT)):
        with pytest.raises(places.NoPlaceError) as caught:
            places.take(directory, ".gencore-1-portable-2", 1, "hang ", test)
        assert caught.value.stage is stage
    assert (folder / "refused-limit").stat().st_size == 1
    assert (folder / first.claim).stat().st_size == 1
    first.give_back()
    assert [path.name for path in folder.iterdir()] == ["refused-limit"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_claim_of_the_empty_text() -> None:
    """The offset basis, and a value of FNV-1a with 128 bits from its authors' tests."""
    assert places._hash("") == 0x6C62272E07BB014262B821756295C58D
    assert places._hash("a") == 0xD228CB696F1A8CAF78912B704E4A8964


def test_watchdog() -> None:
    """Deadlines pass once, can be cancelled, restarted, and set anew."""
    passed: list[str] = []
    ended = threading.Event()

    def act(what: str, late: float) -> str:
        passed.append(what)
        assert late >= 0
        if what == "last":
            ended.set()
        return f"{what} has passed"

    watchdog = Watchdog(act)
    watchdog.set(0, 60, "never")
    watchdog.set(1, 0.01, "first")
    watchdog.set(2, 0.05, "last")
    assert watchdog.restart(0) is False
    assert ended.wait(30)
    assert watchdog.cancel(0) is None
    assert watchdog.fired(1) == "first has passed"
    assert watchdog.restart(1) is True
    assert watchdog.cancel(2) == "last has passed"
    assert passed == ["first", "last"]
    watchdog.stop()


def test_a_signal_handler_asks_the_watchdog() -> None:
    """It may have interrupted the thread that has just asked, and is to be answered all the same."""
    watchdog = Watchdog(lambda *_: None)
    answers: list[object] = []

    def ask() -> None:
        with watchdog._changed:
            answers.append(watchdog.fired(1))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(30)
    assert answers == [None]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("moment", ["the lock is held", "a deadline is passing"])
def test_a_child_by_fork_has_a_watchdog_of_its_own(moment: str) -> None:
    """It waits neither for a lock that nobody frees there nor for what goes on in its parent."""
    is_acting, can_end = threading.Event(), threading.Event()

    def act(what: object, _late: float) -> object:
        is_acting.set()
        can_end.wait(60)
        return what

    watchdog = Watchdog(act)
    if moment == "the lock is held":
        holder = threading.Thread(target=lambda: keep_lock(watchdog._changed, is_acting, can_end))
        holder.start()
    else:
        watchdog.set(1, 0.0, "")
    assert is_acting.wait(60)
    pid = os.fork()
    if not pid:
        faulthandler.dump_traceback_later(5, exit=True)
        try:
            can_end.set()
            status = 0 if watchdog.cancel(1) is None else 2
            watchdog.set(1, 0.01, "its own")
            while watchdog.fired(1) is None:
                pass
            status = status or (0 if watchdog.cancel(1) == "its own" else 3)
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    can_end.set()
    if moment == "the lock is held":
        holder.join()
    watchdog.stop()
    assert os.waitstatus_to_exitcode(status) == 0


def keep_lock(lock: threading.Condition, has_it: threading.Event, until: threading.Event) -> None:
    with lock:
        has_it.set()
        until.wait(60)


def test_late_watchdog() -> None:
    """How late a deadline passes is handed on, and said if it is more than a thread waits for its turn."""
    lateness: list[float] = []
    ended = threading.Event()

    def act(_: str, late: float) -> None:
        lateness.append(late)
        ended.set()

    watchdog = Watchdog(act)
    watchdog.set(0, -30, "")
    assert ended.wait(30)
    watchdog.stop()
    assert lateness[0] >= 30
    assert describe_late(30.04).startswith("looked at 30 s after the deadline, too late for a verdict: ")
    assert describe_late(0.1) == ""
