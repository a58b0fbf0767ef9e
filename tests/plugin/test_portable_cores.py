"""Cores as on macOS, made by Linux: all but what the kernel is asked, with core_pattern=/cores/core.%p."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_manifest
from kernel import core_pattern, small_disk
from oracles import run_tool
from without_extension import add_library, copy_package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from projects import Project

pytestmark = [
    pytest.mark.kernel_settings,
    needs("gcc", "gdb"),
    pytest.mark.skipif(os.geteuid() != 0, reason="core_pattern is root's"),
]
CORES = Path("/cores")
PATTERN = "/cores/core.%p"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Return that in which the package has no extension, but the library of macOS."""
    folder = tmp_path_factory.mktemp("cores")
    copy_package(folder)
    return add_library(folder)


@pytest.fixture
def cores() -> Iterator[Path]:
    """Let the kernel write cores there; it must be empty in the end."""
    CORES.mkdir()
    try:
        with core_pattern(PATTERN):
            yield CORES
        assert list(CORES.iterdir()) == []
    finally:
        shutil.rmtree(CORES)


TESTS = """
    import os, signal, threading
    import pytest
    os.environ["DEPLOY_TOKEN"] = "correct-horse-battery"
    came = []
    signal.signal(signal.SIGCHLD, lambda *_: came.append("SIGCHLD"))
    signal.signal(signal.SIGABRT, lambda *_: came.append("SIGABRT"))

    def test_core(monkeypatch):
        marker = "-".join(["local", "of", "this", "test"])
        monkeypatch.setattr("os.rename", None)
        monkeypatch.setattr("os.open", None)
        assert marker == os.environ["DEPLOY_TOKEN"]

    def test_after_core():
        assert came == ["SIGCHLD"]
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    @pytest.mark.gencore(type="text")
    def test_text():
        came.clear()
        raise KeyError

    def test_after_text():
        assert came == []

    @pytest.mark.gencore(timeout=0.3)
    def test_slow():
        threading.Event().wait(1)
    """


def test_archives(project: Project, cores: Path, environment: Mapping[str, str], tmp_path: Path) -> None:
    """Failure and deadline leave a core that gdb reads, redacted; type text makes none, and no child."""
    project.write(test_a=TESTS)
    ended = project.run("-p", "darwin_cores", "--gencore-on-fail", environment=environment)
    assert ended.counts() == {"passed": 3, "failed": 2}, ended.out
    assert "gencore: on failure, type full, archives in gencore-artifacts: " in ended.out
    archives = project.archives()
    found = {name.split("::")[1]: read_manifest(path) for name, path in archives.items()}
    kinds = {name: (manifest["type"], manifest["method"]) for name, manifest in found.items()}
    assert kinds == {
        "test_core call": ("full", "kernel"),
        "test_text call": ("text", "memory"),
        "test_slow call": ("full", "kernel"),
    }
    own = found["test_core call"]["threads"][0]
    assert (own["native_registers"], found["test_slow call"]["threads"][0]["native_registers"]) == (
        True,
        False,
    )
    path = archives["test_a.py::test_core call"]
    run_tool("tar", "xzf", path, "-C", tmp_path)
    core = tmp_path / path.name.removesuffix(".tar.gz") / "core"
    stack = run_tool("gdb", "-nx", "-batch", "-ex", "bt", os.path.realpath(sys.executable), core)
    assert "SIGABRT" in stack
    assert "gencore_abort_copy" in stack
    assert "PyEval" in stack
    data = core.read_bytes()
    assert b"local-of-this-test" in data
    assert b"correct-horse" not in data
    assert found["test_core call"]["redaction"]["places"] > 0


SCRIPT = """
import os, resource, sys, time
from pathlib import Path
import darwin_cores
from pytest_gencore.errors import UnavailableError
from pytest_gencore.portable import macos
folder = Path(sys.argv[1])
def attempt(seconds=20.0):
    try:
        path = macos.write_core(folder, time.monotonic() + seconds)
    except UnavailableError as error:
        print(error)
    else:
        print("core", path.stat().st_size > 1 << 20)
        path.unlink()
    assert os.listdir(folder) == os.listdir("/cores") == [], (os.listdir(folder), os.listdir("/cores"))
    try:
        raise SystemExit(os.wait())
    except ChildProcessError:
        pass
attempt()
attempt(seconds=0)
resource.setrlimit(resource.RLIMIT_CORE, (0, 1024))  # less than Linux begins a core for
attempt()
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
attempt()
"""


def test_refusals(environment: Mapping[str, str], cores: Path, tmp_path: Path) -> None:
    """From another file system; no time, too small a limit: a reason, nothing left, no child."""
    cores.rmdir()
    with small_disk(cores, "400m"):  # it makes the folder
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, tmp_path],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    whole, late, cut, none = done.stdout.splitlines()
    assert whole == "core True"
    assert late == "the core was not written in time"
    assert cut.startswith("the system wrote no core, or not all of it, to /cores/core.")
    assert ": a limit of 1.0 KiB, " in cut
    assert none.startswith("the hard limit on the size of cores is 0")
