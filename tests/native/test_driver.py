"""The engine without Python: plain, under sanitizers, and the other architecture as far as qemu goes."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from native_builds import CSRC, GLUE, kernel_headers
from oracles import lines_with, run_tool

from pytest_gencore.protocol import Stage

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [needs("gcc"), pytest.mark.xdist_group("driver")]  # others would wait for what is compiled
STOPPED, CALLING, MASKED = "2", "3", "4"
BUSY = str(int(Stage.BUSY))
RunDriver = Callable[..., str]
QEMU = ("qemu-aarch64", "-L", "/usr/aarch64-linux-gnu")


def run_driver(
    command: tuple[str | Path, ...], mode: str, collector: Path, directory: Path, count: int
) -> str:
    """Run one mode; output goes to files, so that nothing can keep us waiting."""
    output = directory.with_name(f"{directory.name}.txt")
    with output.open("wb") as file:
        done = subprocess.run(
            [str(part) for part in (*command, mode, collector, directory, count)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
    text = output.read_text(errors="replace")
    assert done.returncode == 0, text[-4000:]
    assert text.endswith("finished\n") or mode == "calls"
    return text


@pytest.fixture(params=["plain", "sanitized"])
def run(request: pytest.FixtureRequest, fake_collector: Path, tmp_path: Path) -> RunDriver:
    program = request.getfixturevalue("driver" if request.param == "plain" else "sanitized_driver")
    directory = tmp_path / "out"
    directory.mkdir(mode=0o700)
    return lambda mode, count=1: run_driver((program,), mode, fake_collector, directory, count)


@pytest.mark.slow(rows=2)
@pytest.mark.parametrize("count", [0, 8, 300])
def test_all_threads_are_handed_over(run: RunDriver, count: int) -> None:
    text = run("threads", count)
    threads = {words[0]: words for words in lines_with(text, "thread")}
    live = [words[0] for words in lines_with(text, "tid")]
    assert sorted(threads) == sorted(live)
    assert [words[1] for words in threads.values()].count(CALLING) == 1
    assert {words[1] for words in threads.values()} <= {CALLING, STOPPED}
    assert all(words[4] == "1" for words in threads.values()), "floating point and thread pointer are known"
    assert "memory here is the marker\n" in text
    assert "end 1\n" in text


@pytest.mark.slow(rows=1)
def test_captures_of_two_threads_at_once_are_taken_in_turn(run: RunDriver) -> None:
    (counts,) = lines_with(run("pair", 20), "done")
    assert int(counts[0]) + int(counts[2]) == 40
    assert int(counts[0]) > 0


@pytest.mark.slow(rows=1)
def test_a_refused_capture_lets_nobody_go(run: RunDriver) -> None:
    """The threads belong to the capture that stopped them, until its collector has ended."""
    ((refused, _, disturbed),) = lines_with(run("owned"), "refused")
    assert refused == BUSY
    assert disturbed == "0"


def test_a_handler_may_capture_during_a_capture(run: RunDriver) -> None:
    """One after the other or busy, never a deadlock; a handler that waited for the mask gets its turn."""
    (counts,) = lines_with(run("nested", 30), "done")
    done, busy, nested, nested_busy = (int(counts[i]) for i in (0, 2, 4, 6))
    assert done + busy == 30
    assert done > 0
    assert nested > nested_busy


@pytest.mark.slow(rows=1)
def test_a_thread_that_masks_everything_is_recorded_and_survives(run: RunDriver) -> None:
    """The pending signal must not end the process when the thread takes signals again."""
    text = run("masked")
    ((tid,),) = lines_with(text, "masked")
    first, second = [words for words in lines_with(text, "thread") if words[0] == tid]
    assert first[1] == MASKED
    assert int(first[2], 16) > 0, "pc is known from /proc"
    assert int(first[3], 16) > 0
    assert second[1] == STOPPED


def test_the_alarm_behind_a_deadline_ends_the_wait_of_its_thread(run: RunDriver) -> None:
    """Else a test that pytest-timeout should end would hang."""
    text = run("alarm", 10)
    assert lines_with(text, "slept") == [["0"]]
    assert int(lines_with(text, "elsewhere")[0][0]) < 5  # 10 if the handler blocked the alarm


def test_contracts(run: RunDriver) -> None:
    text = run("contracts")
    assert lines_with(text, "directory") == [[str(-errno.EISDIR)]]
    assert lines_with(text, "memory") == [[str(-errno.EIO)]]
    assert lines_with(text, "missing") == [[str(-errno.ENOENT)]]
    assert lines_with(text, "refused") == [[str(-errno.EDQUOT), str(int(Stage.LIMIT))]]


@pytest.mark.parametrize("groups", [0, 100, 65536])
def test_fields_behind_a_long_line(run: RunDriver, groups: int) -> None:
    assert lines_with(run("fields", groups), "field") == [
        ["3", "one"],
        ["15", *["this", "value", "is", "c"]],
        ["3", "end"],
        [str(-errno.ENOENT)],
        [str(-errno.EISDIR)],
    ]


def test_notes_are_whole_at_any_moment(run: RunDriver) -> None:
    found = lines_with(run("notes", 20), "notes")
    assert len(found) == 20
    assert {wrong for _, _, wrong in found} == {"0"}
    assert int(found[-1][0]) > 0


def test_churn(run: RunDriver) -> None:
    text = run("churn", 50)
    assert len(lines_with(text, "name")) == 50
    assert len(lines_with(text, "end")) == 50
    assert lines_with(text, "healthy") == [["1"]]


def test_registers_of_the_architecture(run: RunDriver) -> None:
    text = run("registers")
    assert "handler ok\nown ok\nsigned 0\nclone ok\n" in text


RESTARTED = {
    *("read", "open-fifo", "recv", "waitpid", "flock", "fcntl-F_OFD_SETLKW", "futex", "sem_wait"),
}
INTERRUPTED = {
    *("recv-SO_RCVTIMEO", "futex-timeout", "sem_timedwait", "nanosleep", "clock_nanosleep-absolute", "poll"),
    *("select", "epoll_wait", "pause", "sigsuspend", "sigtimedwait", "semop", "msgrcv"),
}
"""What signal(7) says is never restarted: the documented limit."""


def test_only_the_documented_calls_say_eintr(driver: Path, fake_collector: Path, tmp_path: Path) -> None:
    directory = tmp_path / "out"
    directory.mkdir(mode=0o700)
    text = run_driver((driver,), "calls", fake_collector, directory, 200)
    counts = {name: int(count) for name, count in lines_with(text, "call")}
    assert counts.keys() == RESTARTED | INTERRUPTED
    assert {name for name, count in counts.items() if count} <= INTERRUPTED
    assert max(counts.values()) <= 200, "at most once a capture"


def wait_for_stop(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            return True
        os.sched_yield()
    return False


def test_a_process_group_stopped_during_captures_goes_on(
    driver: Path, fake_collector: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "out"
    directory.mkdir(mode=0o700)
    captures = 20
    with subprocess.Popen(
        [driver, "steps", fake_collector, directory, str(captures)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        for _ in range(captures):
            process.stdin.write(b"\n")
            process.stdin.flush()
            os.killpg(process.pid, signal.SIGSTOP)
            assert wait_for_stop(process.pid)
            os.killpg(process.pid, signal.SIGCONT)
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.mark.slow
@needs("aarch64")
def test_the_aarch64_part_compiles_without_warnings(aarch64_driver: Path) -> None:
    assert aarch64_driver.exists()


@pytest.mark.slow
@needs("aarch64", "qemu")
@pytest.mark.parametrize("mode", ["registers", "stop"])
def test_the_aarch64_part_runs_under_qemu(
    aarch64_driver: Path, fake_collector: Path, tmp_path: Path, mode: str
) -> None:
    """qemu-user turns clone(VM|VFORK) into fork, so that launcher.c cannot be run: only what is below it."""
    directory = tmp_path / "out"
    directory.mkdir(mode=0o700)
    text = run_driver((*QEMU, aarch64_driver), mode, fake_collector, directory, 3)
    if mode == "registers":
        assert re.search(r"handler ok\nown ok\nsigned 0x7f[0f]*0{8,}\nclone ok\n", text)
    else:
        guests = {words[0] for words in lines_with(text, "tid")}
        slots = {words[0]: words[1:] for words in lines_with(text, "slot")}
        assert {tid: slots.get(tid) for tid in guests} == {key: [STOPPED, "1"] for key in guests}


@needs("musl-gcc")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "count", "told"),
    [
        ("threads", 8, "memory here is the marker\n"),
        ("registers", 1, "handler ok\n"),
        ("pair", 20, "done "),
        ("nested", 30, "done "),
        ("masked", 1, "finished\n"),
        ("alarm", 10, "finished\n"),
        ("contracts", 1, "finished\n"),
        ("churn", 50, "finished\n"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_the_engine_runs_with_musl(
    musl_driver: Path, fake_collector: Path, tmp_path: Path, mode: str, count: int, told: str
) -> None:
    directory = tmp_path / "out"
    directory.mkdir(mode=0o700)
    text = run_driver((musl_driver,), mode, fake_collector, directory, count)
    assert told in text
    if mode == "threads":
        assert sorted(words[0] for words in lines_with(text, "thread")) == sorted(
            words[0] for words in lines_with(text, "tid")
        )


@needs("musl-gcc")
@pytest.mark.slow
def test_what_knows_python_compiles_with_musl(builds: Path, tmp_path: Path) -> None:
    headers = sysconfig.get_paths()["include"]
    options = [*kernel_headers(builds), "-D_GNU_SOURCE=1", "-DPy_LIMITED_API=0x030a0000", f"-I{headers}"]
    files = [CSRC / name for name in sorted(GLUE)]
    run_tool("musl-gcc", "-std=gnu11", "-fPIC", "-Wall", "-Werror", *options, "-c", *files, cwd=tmp_path)
