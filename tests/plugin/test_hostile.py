"""Tests whose patches and damage are still in place when they are captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest
from projects import QUICK
from tables import Table

if TYPE_CHECKING:
    from sample_runs import FindArchives, RunGencore

PATCHED = [
    "os.fork",
    "os.getpid",
    "os.open",
    "os.write",
    "os.mkdir",
    "os.path.exists",
    "os.path.join",
    "builtins.open",
    "io.open",
    "subprocess.Popen",
    "time.time",
    "time.monotonic",
    "time.localtime",
    "threading.Thread.start",
    "json.dumps",
    "json.loads",
    "pathlib.Path.open",
    "pathlib.Path.mkdir",
    "pathlib.Path.__str__",
    "socket.socket",
    "tempfile.mkdtemp",
    "uuid.uuid4",
]

SAMPLES = {
    "freezegun": """
        import freezegun, pytest
        @pytest.fixture(autouse=True)
        def frozen():
            with freezegun.freeze_time("1999-01-01"):
                yield
        def test_x(): assert 0
    """,
    "pyfakefs": """
        def test_x(fs):
            fs.create_file("/only/this")
            assert 0
    """,
    "changed_cwd": """
        import os
        def test_x(tmp_path):
            os.chdir(tmp_path)
            assert 0
    """,
    "deleted_cwd": """
        import os
        def test_x(tmp_path, monkeypatch):
            gone = tmp_path / "gone"
            gone.mkdir()
            monkeypatch.chdir(gone)
            gone.rmdir()
            assert 0
    """,
    "closed_stderr": """
        import os, sys
        def test_x():
            os.close(2)
            assert 0
    """,
    "closed_sys_stderr": """
        import io, sys
        def test_x(monkeypatch):
            stream = io.StringIO()
            stream.close()
            monkeypatch.setattr(sys, "stderr", stream)
            assert 0
    """,
    "empty_environment": """
        import os
        def test_x(monkeypatch):
            for name in list(os.environ):
                monkeypatch.delenv(name)
            assert 0
    """,
    "empty_sys_path": """
        import sys
        def test_x(monkeypatch):
            monkeypatch.setattr(sys, "path", [])
            monkeypatch.setattr(sys, "executable", "/nowhere")
            assert 0
    """,
    "hostile_locals": """
        class Hostile:
            def __repr__(self): raise SystemExit(5)
            def __str__(self): raise KeyError
        def test_x():
            local = Hostile()
            assert 0
    """,
    "hostile_error": """
        class HostileError(Exception):
            def __repr__(self): raise ValueError("repr")
            def __str__(self): raise ValueError("str")
        def test_x(): raise HostileError
    """,
    "alarm": """
        import signal
        def test_x():
            def handler(*args): raise RuntimeError("alarm")
            signal.signal(signal.SIGALRM, handler)
            try:
                assert 0
            finally:
                signal.setitimer(signal.ITIMER_REAL, 3600)
    """,
}


PATCH = """
    import pytest
    @pytest.fixture
    def patched():
        with pytest.MonkeyPatch.context() as patch:
            def broken(*args, **kwargs): raise RuntimeError("patched")
            import socket, subprocess, tempfile, uuid
            patch.setattr({name!r}, broken)
            yield
    def test_x(patched): assert 0
"""


def row_of(name: str) -> str:
    return name.replace(".", "_")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Table:
    """All of them, one after the other, in one process, which no patch may outlive.

    Plain tracebacks: pytest itself asks some of these functions when it makes its own report.
    """
    sources = {row_of(name): PATCH.format(name=name) for name in PATCHED}
    fake = bool(request.config.getoption("--fake-engine"))
    return Table(tmp_path_factory.mktemp("patched"), sources, *QUICK, "--tb=native", fake=fake)


@pytest.mark.slow(rows=8)
@pytest.mark.xdist_group("patched")
@pytest.mark.parametrize("name", PATCHED)
def test_patched(table: Table, name: str) -> None:
    if table.counts(row_of(name)) != {"failed": 1}:
        pytest.skip("pytest itself needs the function")
    assert list(table.archives(row_of(name))) == ["test_x call"]


@pytest.mark.slow(rows=3)
@pytest.mark.parametrize("sample", SAMPLES)
def test_damaged(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, sample: str
) -> None:
    pytester.makepyfile(test_a=SAMPLES[sample])
    plugins = ("-p", "fakefs") if sample == "pyfakefs" else ()
    result = run_gencore("--gencore-on-fail", *plugins)
    result.assert_outcomes(failed=1)
    (archive,) = find_archives().values()
    assert read_manifest(archive)["nodeid"] == "test_a.py::test_x"
    assert ".1999" not in archive.name
    result.stdout.fnmatch_lines(["1 captured"])
