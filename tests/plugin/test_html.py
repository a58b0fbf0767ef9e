"""``--gencore-html``: a page beside each archive, made by the run's own Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sealed_runs import make_key

if TYPE_CHECKING:
    from pathlib import Path

    from sample_runs import RunGencore

TEXT = ("--gencore-on-fail", "--gencore-type=text")
BAD = "def test_bad():\n    amount = '<b>'\n    assert amount == 0\n"


def made(pytester: pytest.Pytester) -> tuple[Path, list[Path]]:
    folder = pytester.path / "gencore-artifacts"
    (archive,) = folder.glob("core_*.tar.gz")
    return archive, sorted(folder.glob("*.html"))


def test_page(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    """It is there when the summary is, which names it; only its owner may read it."""
    pytester.makepyfile(test_a=BAD)
    pytester.makeini("[pytest]\ngencore_html = true\n")
    result = run_gencore(*TEXT)

    archive, (page,) = made(pytester)
    assert page.name == archive.name.replace(".tar.gz", ".html")
    assert page.stat().st_mode & 0o777 == 0o600
    assert "test_a.py::test_bad (call)" in page.read_text()
    assert "&lt;b&gt;" in page.read_text()
    result.stdout.fnmatch_lines([f"{archive.relative_to(pytester.path)}  *", f"  page: *{page.name}"])


def test_no_page(pytester: pytest.Pytester, run_gencore: RunGencore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be made the archive is there all the same, and the summary says why there is none."""
    pytester.makepyfile(test_a=BAD)
    broken = pytester.mkdir("broken")
    (broken / "click").mkdir()
    (broken / "click/__init__.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(broken), prepend=":")
    result = run_gencore(*TEXT, "--gencore-html=on")

    assert made(pytester)[1] == []
    result.stdout.fnmatch_lines(["gencore-artifacts/core_*no page was made: gencore needs click: *"])


def test_usage_error(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    """A missing package is told when the run starts, not when a page is wanted."""
    pytester.makeconftest("import sys; sys.modules['jinja2'] = None")
    result = run_gencore(*TEXT, "--gencore-html=on")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: gencore: --gencore-html needs jinja2: pip install *"])


def test_sealed_archive_has_none(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    """What is sealed stands nowhere in clear; nor what a log must not show."""
    pytester.makepyfile(test_a=BAD)
    result = run_gencore(*TEXT, "--gencore-html=on", f"--gencore-recipient={make_key(pytester.path)}")

    assert made(pytester)[1] == []
    result.stdout.no_fnmatch_line("*page*")
