"""--gencore-capture-memory: what runs is told, once, when so much of the memory is used."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import needs
from memory_cgroup import memory_cgroup
from projects import ARTIFACTS, QUICK, Project

from pytest_gencore.machine import memory
from pytest_gencore.plugin.showing import Showing

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 800 << 20
ALONE = ("-p", "no:rerunfailures")
"""Without the thread of that plugin."""
GROWS = """
    import sys, time

    def is_watched():
        for frame in sys._current_frames().values():
            while frame is not None:
                if frame.f_code.co_filename.endswith("plugin/memory.py"):
                    return True
                frame = frame.f_back
        return False

    def grow(held):
        while is_watched():
            if len(held) < 55:
                held.append(bytearray(b"x" * (8 << 20)))
            time.sleep(0.01)

    def test_grows():
        while not is_watched():  # it may not have come to run yet
            time.sleep(0.001)
        grow([])
"""
"""The thread that watches ends when it has told."""
SMALL = """
    import os, threading, warnings

    def test_small():
        assert threading.active_count() == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            child = os.fork()
        if not child:
            os._exit(len(os.listdir("/proc/self/task")) - 1)
        assert os.waitpid(child, 0)[1] == 0
        assert len(os.listdir("/proc/self/task")) == 2
"""
SUMMARY = re.compile(
    r"^gencore: memory: (\S+) MiB of 800\.0 MiB \((\d+) %\) of the cgroup, this process (\S+) MiB"
    r"(?:, its children \S+ \S+)?: test_\w\.py::test_grows, call, (worker gw\d, )?process \d+$",
    re.MULTILINE,
)


def join(folder: Path) -> tuple[str, ...]:
    return ("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh")


@pytest.mark.slow(rows=1)
@needs("memory_cgroup")
@pytest.mark.parametrize("more", [(), QUICK], ids=["alone", "on failure"])
@pytest.mark.parametrize("limit", [(), ("--gencore-max-cores=0",)], ids=["", "no captures"])
def test_told_once(project: Project, more: tuple[str, ...], limit: tuple[str, ...]) -> None:
    project.write(test_a=GROWS)

    with memory_cgroup(LIMIT) as folder:
        arguments = (*more, *limit, "--gencore-capture-memory=50%")
        ended = project.run(*arguments, prefix=join(folder))

        assert (ended.status, ended.counts()) == (0, {"passed": 1}), ended.out + ended.err
        (found,) = SUMMARY.finditer(ended.err)
        used, percent, own = float(found[1]), int(found[2]), float(found[3])
        assert 50 <= percent == pytest.approx(100 * used / 800, abs=1)
        assert 200 < own < 800
        stacks = ended.err[found.end() :]
        assert ", ran the test, most recent call last:" in stacks.lstrip().splitlines()[0]
        assert ", in test_grows\n" in stacks
        assert "plugin/memory.py" not in ended.err
        assert "archive" not in ended.err
        assert "captured" not in ended.out
        assert not list((project.folder / ARTIFACTS).glob("*"))


@needs("memory_cgroup")
def test_below(project: Project) -> None:
    """Nothing is said; no test sees our thread by ``threading``, and a child by fork has none."""
    project.write(test_a=SMALL)

    with memory_cgroup(LIMIT) as folder:
        ended = project.run(*ALONE, "--gencore-capture-memory=90%", prefix=join(folder))

    assert (ended.status, ended.err) == (0, ""), ended.out
    assert "gencore: " not in ended.out


@pytest.mark.slow
@needs("memory_cgroup")
def test_workers(project: Project) -> None:
    """Each worker that is there then tells."""
    project.write(test_a=GROWS, test_b=GROWS.replace("< 55", "< 1"))

    with memory_cgroup(LIMIT) as folder:
        ended = project.run("-n2", "--gencore-capture-memory=50", prefix=join(folder))

    assert (ended.status, ended.counts()) == (0, {"passed": 2}), ended.out + ended.err
    assert {found[4] for found in SUMMARY.finditer(ended.err)} == {"worker gw0, ", "worker gw1, "}
    assert len(SUMMARY.findall(ended.err)) == 2


@needs("memory_cgroup")
def test_too_little_memory(project: Project) -> None:
    """What is left does not do for a capture: one line, and the run goes on."""
    project.write(test_a=GROWS.replace("< 55", "< 10"))

    with memory_cgroup(160 << 20) as folder:
        ended = project.run("--gencore-capture-memory=60", prefix=join(folder))

    assert (ended.status, ended.counts()) == (0, {"passed": 1}), ended.out + ended.err
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("gencore: memory: ")
    assert "; no stacks: too little memory is left to capture a process of " in line


@pytest.mark.parametrize("value", ["0%", "100.1%"])
def test_bad_values(project: Project, value: str) -> None:
    project.write(test_a="def test_passes(): pass")

    ended = project.run(f"--gencore-capture-memory={value}")

    assert ended.status == 4
    assert f"gencore: invalid capture_memory '{value}': expected a percentage above 0, up to 100" in ended.err


def test_no_thread_without_the_option(project: Project) -> None:
    project.write(test_a="import os\ndef test(): assert len(os.listdir('/proc/self/task')) == 1")
    assert project.run(*ALONE, "--gencore-on-fail").status == 0


@pytest.mark.slow
def test_no_watch_is_left(project: Project) -> None:
    """A program that calls ``pytest.main`` gets its process back."""
    project.write(
        test_a="def test_passes(): pass",
        program="""
            import os, pytest
            status = pytest.main(["-p", "no:rerunfailures", "--gencore-capture-memory=100", "test_a.py"])
            assert status == 0
            assert len(os.listdir("/proc/self/task")) == 1
        """,
    )
    assert project.run_program("program.py").status == 0


@pytest.mark.parametrize("percent", [None, 90.0])
def test_nothing_can_be_watched(monkeypatch: pytest.MonkeyPatch, percent: float | None) -> None:
    monkeypatch.setattr(memory, "find_fullest", lambda: None)
    showing: Any = object.__new__(Showing)
    showing._settings = SimpleNamespace(on_fail=False, capture_memory=percent)
    lines = showing.make_header()
    assert len(lines) == (percent is not None)
    assert all(line.startswith("gencore: memory is not watched: ") for line in lines)
