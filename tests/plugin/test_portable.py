"""Without the C extension: failures and hangs of Python give texts, with the same verdicts."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest, read_member
from projects import ARTIFACTS, EXITS, Project
from without_extension import copy_package

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
ON_FAIL = ("--gencore-on-fail", "-q")
BUSY = """
    def test_spin():
        number = 0
        while True:
            number += 1
    """


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return the environment in which the package has no compiled code."""
    return copy_package(tmp_path_factory.mktemp("portable"))


FAILURES = """
    import os
    import pytest
    os.environ["DEPLOY_TOKEN"] = "correct-horse-battery"

    def test_bad(monkeypatch):
        order = {"id": 84}
        token = os.environ["DEPLOY_TOKEN"]
        monkeypatch.setattr("builtins.open", None)
        monkeypatch.setattr("os.write", None)
        monkeypatch.setattr("subprocess.Popen", None)
        assert order == token

    def test_children():
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    @pytest.mark.xfail(strict=True)
    def test_expected():
        assert 0

    def test_core(gencore):
        with pytest.raises(Exception, match="a core cannot be made: the C extension is not built here"):
            gencore.create_core()
        assert gencore.collect_core().result(timeout=60).name.endswith(".tar.gz")
    """


def test_failure(project: Project, portable: Mapping[str, str]) -> None:
    """An archive of kilobytes, whatever the test has patched; exit status and verdicts as ever."""
    project.write(test_a=FAILURES)
    ended = project.run("--gencore-on-fail", environment=portable)
    assert ended.status == 1
    assert ended.counts() == {"passed": 2, "failed": 1, "xfailed": 1}
    assert "gencore: on failure, type text instead of full, archives in gencore-artifacts: " in ended.out
    archives = project.archives()
    assert set(archives) == {"test_a.py::test_bad call", "test_a.py::test_core call"}
    path = archives["test_a.py::test_bad call"]
    assert path.stat().st_size < 100_000
    assert path.with_name(path.name.replace(".tar.gz", ".txt")).is_file()
    manifest = read_manifest(path)
    assert (manifest["type"], manifest["core"]) == ("text", None)
    assert manifest["redaction"]["variables"] == ["DEPLOY_TOKEN"]
    with tarfile.open(path) as tar:
        members = {member.name.partition("/")[2] for member in tar}
    assert {"stacks.txt", "stacks.json", "diagnosis.json", "failure.txt"} <= members
    assert str(project.folder / "test_a.py").lstrip("/") in members
    assert b"correct-horse" not in b"".join(
        read_member(path, name) for name in ("failure.txt", "stacks.txt", "stacks.json", "diagnosis.json")
    )
    assert "test_bad" in project.gencore("stacks", path).out


def test_no_store(project: Project, portable: Mapping[str, str]) -> None:
    """Uploads are watched by what needs the extension: refused, before anything is promised."""
    project.write(test_a="def test_a(): pass")
    ended = project.run("--gencore-on-fail", "--gencore-store=file:///tmp/store", environment=portable)
    assert ended.status == 4
    assert "gencore: archives cannot be uploaded: the C extension is not built here" in ended.err


INTERRUPTED = """
    import os, signal
    import pytest

    @pytest.mark.parametrize("number", range(4))
    def test_bad(number):
        assert 0

    def test_interrupted():
        os.killpg(0, signal.SIGINT)
        signal.pause()
    """


def test_interrupt(project: Project, portable: Mapping[str, str]) -> None:
    """Ctrl-C comes to all processes of a terminal: the helper writes what it was told nevertheless."""
    project.write(test_a=INTERRUPTED)
    ended = project.run("--gencore-on-fail", environment=portable)
    assert ended.status == 2
    assert "Traceback" not in ended.err
    assert len(project.find_archives()) == 4
    assert list((project.folder / ARTIFACTS).glob(".gencore-*")) == []


def find_verdicts(project: Project) -> dict[str, str]:
    """Return the verdict of each capture of a hang, without what depends on time."""
    found = {}
    for name, path in project.archives().items():
        text = read_manifest(path)["diagnosis"]["verdict"] or ""
        found[name] = re.sub(r"\d+ % CPU at (\S+?):\d+", r"busy at \1", text)
    return found


@pytest.mark.slow
def test_hangs(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, portable: Mapping[str, str]) -> None:
    """With pytest-xdist, and the verdicts of the extension."""
    verdicts = []
    for environment in (None, portable):
        project = Project(tmp_path_factory.mktemp("hangs"))
        project.write(
            test_busy=BUSY,
            **{
                name: (EXAMPLES / f"{name}.py").read_text()
                for name in ("test_deadlock", "test_rlock", "test_tasks")
            },
        )
        ended = project.run(*ON_FAIL, "--gencore-type=text", "-n2", "--timeout=3", environment=environment)
        assert ended.status == 1
        assert ended.counts() == {"failed": 4}
        verdicts.append(find_verdicts(project))
        project.close()
    with_extension, without = verdicts
    assert without == with_extension
    assert {text.partition(":")[0] for text in without.values()} == {"deadlock", "asyncio", "busy"}


REFUSED = """
    import signal

    def test_bad():
        assert 0

    def test_hangs():
        signal.pause()
    """


def test_end_without_archive(project: Project, portable: Mapping[str, str]) -> None:
    """A process that ends at its deadline says which test it was, and why there is no archive."""
    project.write(test_a=REFUSED)
    options = (*ON_FAIL, "--gencore-timeout=0.5", "--gencore-max-cores=1")
    ended = project.run(*options, *EXITS, environment=portable)
    assert ended.status == 1
    assert "gencore: the test took too long, the process ends: gencore_exit_on_timeout\n" in ended.err
    assert (
        "gencore: no core archive of test_a.py::test_hangs: "
        "the limit of 1 captures of one run is reached\n" in ended.err
    )


KEEPS_THE_GIL = """
    import ctypes, time

    def test_a():
        ctypes.PyDLL(None).usleep(1_500_000)
        ended = time.process_time() + 1
        while time.process_time() < ended:
            pass
    """


@pytest.mark.slow
def test_look_that_comes_late(project: Project, portable: Mapping[str, str]) -> None:
    """The deadline has passed in a call that keeps the GIL: what stands behind it is not blamed."""
    project.write(test_a=KEEPS_THE_GIL)
    ended = project.run(*ON_FAIL, "--gencore-timeout=0.5", environment=portable)
    assert (ended.status, ended.counts()) == (0, {"passed": 1})
    (path,) = project.archives().values()
    manifest = read_manifest(path)
    assert manifest["diagnosis"]["verdict"] is None
    late = re.compile(
        r"looked at [\d.]+ s after the deadline, too late for a verdict: something kept the GIL"
    )
    assert any(map(late.match, manifest["notices"]))
    assert late.search(ended.out)
    assert late.search(read_member(path, "stacks.txt").decode())


OWN_DEADLINE = """
    import json, socket, threading, time

    def test_ends():
        before = threading.enumerate()
        time.sleep(1.5)
        assert threading.enumerate() == before

    def test_asks():
        server = socket.create_server(("127.0.0.1", 0))
        with socket.create_connection(server.getsockname()) as client:
            client.settimeout(1.5)
            try:
                client.recv(100)
            except TimeoutError:
                pass
    """


@pytest.mark.slow
def test_own_deadline(project: Project, portable: Mapping[str, str]) -> None:
    """Tests go on after it, and pass; what only the kernel knows has no verdict."""
    project.write(test_a=OWN_DEADLINE)
    ended = project.run(*ON_FAIL, "--gencore-timeout=0.5", environment=portable)
    assert (ended.status, ended.counts()) == (0, {"passed": 2})
    archives = project.archives()
    assert set(archives) == {"test_a.py::test_ends call", "test_a.py::test_asks call"}
    stacks = json.loads(read_member(archives["test_a.py::test_asks call"], "stacks.json"))
    own = next(thread for thread in stacks["threads"] if thread["captured"])
    frame = next(frame for frame in own["frames"] if frame["function"] == "test_asks")
    assert {"server", "client"} <= {local["name"] for local in frame["locals"]}
    assert read_manifest(archives["test_a.py::test_asks call"])["diagnosis"]["verdict"] is None


@pytest.mark.slow
def test_process_that_is_ended(project: Project, portable: Mapping[str, str]) -> None:
    """pytest-timeout ends it from a thread: the helper writes the archive, and tells what it found."""
    project.write(test_deadlock=(EXAMPLES / "test_deadlock.py").read_text())
    ended = project.run(
        *ON_FAIL, "--timeout=2", "--timeout-method=thread", "-s", environment=portable, timeout=60
    )
    (path,) = project.wait_for_archives()
    assert ended.status == 1
    assert read_manifest(path)["diagnosis"]["kind"] == "deadlock"
    assert "gencore: deadlock: MainThread waits for lock 'ledger'" in ended.err
