"""Run pytest on sample files as a user would."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from documents import check_document
from gencore_archives import find_left, read_manifest
from hypothesis import settings
from lean_runs import base_arguments
from projects import Project, is_foreign

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sample_runs import FindArchives, RunGencore

pytest_plugins = ["pytester", "grouped", "slow_tests"]

# The same examples in every run: CI is green or red for a reason. ``--hypothesis-profile=default`` explores.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

SUPPORT = Path(__file__).parent / "support"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fake-engine", action="store_true", help="Replace the engine in all plugin tests, for speed"
    )


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Return an empty project; nothing of its runs may be left."""
    project = Project(tmp_path)
    yield project
    project.close()


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return a folder that other users may use too."""
    path = Path(tempfile.mkdtemp(prefix="gc-"))
    try:
        path.chmod(0o777)
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def run_gencore(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> RunGencore:
    """Run pytest with the installed plugin in another process; an internal error or a crash is never right.

    ``fake`` replaces the engine, see ``fake_capture``.
    """
    for name in filter(is_foreign, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))

    default = "done" if request.config.getoption("--fake-engine") else ""

    def run(*args: str, fake: str = default, timeout: float = 120) -> pytest.RunResult:
        if fake:
            monkeypatch.setenv("FAKE_CAPTURE", fake)
            args = ("-p", "fake_capture", *args)
        base = base_arguments(args, pystack=bool(fake) or "--gencore-on-fail" not in args)  # off is off
        result = pytester.runpytest_subprocess(*base, *args, timeout=timeout)
        for output in (result.stdout, result.stderr):
            output.no_fnmatch_line("*INTERNALERROR*")
            output.no_fnmatch_line("*Fatal Python error*")
        return result

    return run


@pytest.fixture
def find_archives(pytester: pytest.Pytester) -> FindArchives:
    """Return the archives of the default directory by what their manifests name: ``NODEID PHASE``."""

    def find() -> dict[str, Path]:
        directory = pytester.path / "gencore-artifacts"
        paths = find_left(directory)
        assert not [path for path in paths if not path.name.endswith(".tar.gz")], "nothing else is left"
        manifests = {path: read_manifest(path) for path in paths}
        for path in paths:
            check_document(path)
        found = {f"{manifest['nodeid']} {manifest['phase']}": path for path, manifest in manifests.items()}
        assert len(found) == len(paths), "one archive a test"
        return found

    return find
