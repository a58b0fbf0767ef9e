"""Limits on captures: how many, how large, and what Ctrl-C leaves."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from gencore_archives import find_left, read_manifest
from lean_runs import base_arguments
from lxml import etree
from projects import QUICK, Project

if TYPE_CHECKING:
    from pathlib import Path

    from sample_runs import FindArchives, RunGencore

MANY = """
    import pytest
    @pytest.mark.parametrize("n", range(12))
    def test_x(n):
        assert n < 0
"""
LARGE = """
    import os
    memory = [os.urandom(1 << 20) for _ in range({mebibytes})]
    def test_one(): assert 0
    def test_two(): assert 0
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_number_is_shared_by_all_workers(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, workers: str
) -> None:
    pytester.makepyfile(test_a=MANY)
    result = run_gencore(
        "--gencore-on-fail", "--gencore-max-cores=3", "--gencore-filter=0x11", f"-n{workers}"
    )
    result.assert_outcomes(failed=12)
    assert len(find_archives()) == 3
    result.stdout.fnmatch_lines(
        ["3 captured", "9 not captured: the limit of 3 captures*--gencore-max-cores*"]
    )


def test_locals_are_gathered_for_captures_only(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    """With the limit reached a failing test costs little: nobody asks its objects for their repr."""
    pytester.makepyfile(
        test_a="""
        import pytest
        class Told:
            def __repr__(self):
                with open("asked.txt", "a") as file:
                    file.write("x")
                return "told"
        @pytest.mark.parametrize("n", range(5))
        def test_x(n):
            told = Told()
            assert n < 0
    """
    )
    result = run_gencore("--gencore-on-fail", "--gencore-max-cores=1", "--gencore-filter=0x11")
    result.assert_outcomes(failed=5)
    assert (pytester.path / "asked.txt").read_text() == "x"
    result.stdout.fnmatch_lines(["1 captured", "4 not captured: the limit of 1 captures*"])


def test_no_captures_at_all(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(test_a=MANY)
    result = run_gencore("--gencore-on-fail", "--gencore-max-cores=0")
    result.assert_outcomes(failed=12)
    assert find_archives() == {}
    result.stdout.fnmatch_lines(["12 not captured: the limit of 0 captures*"])


@pytest.mark.slow
def test_the_size_of_all_archives_is_limited(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives
) -> None:
    pytester.makepyfile(test_a=LARGE.format(mebibytes=40))
    result = run_gencore(
        "--gencore-on-fail", "--gencore-max-size=80MiB", "--gencore-method=memory", "--gencore-filter=0x11"
    )
    result.assert_outcomes(failed=2)
    (archive,) = find_archives().values()
    assert archive.stat().st_size < 80 << 20
    result.stdout.fnmatch_lines(["*--gencore-max-size*"])


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
@pytest.mark.parametrize("end", ["assert 0", "ctypes.string_at(8)"], ids=["fails", "crashes"])
def test_stacks_are_kept_of_an_archive_that_is_too_large(
    tmp_path: Path, workers: list[str], end: str
) -> None:
    project = Project(tmp_path)
    project.write(test_a=f"import ctypes\ndef test_x():\n    {end}\n")

    ended = project.run(*QUICK, "--gencore-max-size=1MB", "--junitxml=j.xml", *workers)

    project.close()
    reason = "no core archive: the archives of this run would be larger than 1.0 MB: 0 B are finished"
    junit = str(etree.fromstring((tmp_path / "j.xml").read_bytes()).xpath("string()"))
    assert reason in ended.out + ended.err
    is_crash_report = bool(workers) and end != "assert 0"  # pytest writes it when the worker dies
    assert is_crash_report or reason in junit
    for text in (ended.out + ended.err, junit):
        assert f'test_a.py", line 3, in test_x\n    {end}\n' in text
    assert not (tmp_path / "gencore-artifacts").exists() or not project.find_archives()


def start_session(pytester: pytest.Pytester, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    arguments = ("--gencore-on-fail", *arguments)
    command = [sys.executable, "-m", "pytest", *base_arguments(arguments, pystack=True), *arguments]
    return subprocess.Popen(
        command, cwd=pytester.path, env=environment, stdout=subprocess.PIPE, start_new_session=True
    )


def read_until(process: subprocess.Popen[bytes], text: bytes, seen: bytearray) -> None:
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    while text not in seen:
        ready, _, _ = select.select([descriptor], [], [], 60)
        assert ready, bytes(seen)
        data = os.read(descriptor, 65536)
        assert data, bytes(seen)
        seen += data


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in find_left(folder) if not path.name.endswith(".tar.gz"))


@pytest.mark.slow
def test_two_interrupts_leave_whole_archives_only(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_a=LARGE.format(mebibytes=1500))
    seen = bytearray()
    with start_session(pytester, "--gencore-method=memory", "--gencore-filter=0x11") as process:
        read_until(process, b"writing core archives", seen)
        os.kill(process.pid, signal.SIGINT)
        read_until(process, b"press Ctrl-C again", seen)
        os.kill(process.pid, signal.SIGINT)
        read_until(process, b"2 failed", seen)
        process.communicate(timeout=60)
    assert process.returncode == 1
    folder = pytester.path / "gencore-artifacts"
    assert left_behind(folder) == []
    archives = find_left(folder)
    for archive in archives:
        assert read_manifest(archive)["complete"]
    assert b"interrupted" in seen
    assert len(archives) < 2


@pytest.mark.slow
def test_one_interrupt_only_asks(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_a=LARGE.format(mebibytes=400))
    seen = bytearray()
    with start_session(pytester, "--gencore-method=memory", "--gencore-filter=0x11") as process:
        read_until(process, b"writing core archives", seen)
        os.kill(process.pid, signal.SIGINT)
        read_until(process, b"2 captured", seen)
        process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"press Ctrl-C again" in seen
    folder = pytester.path / "gencore-artifacts"
    assert left_behind(folder) == []
    assert len(find_left(folder)) == 2
