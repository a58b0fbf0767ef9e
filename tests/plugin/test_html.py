"""``--gencore-html``: a page beside each archive, made by the run's own Python."""

from __future__ import annotations

import html
import json
import re
from typing import TYPE_CHECKING

import pytest
from sealed_runs import make_key

if TYPE_CHECKING:
    from pathlib import Path

    from sample_runs import RunGencore

TEXT = ("--gencore-on-fail", "--gencore-type=text")
PYTEST_HTML = ("-p", "metadata", "-p", "html", "-p", "html_fixtures")
BAD = "def test_bad():\n    amount = '<b>'\n    assert amount == 0\n"


TRACES = """
import json, pytest
from opentelemetry.sdk.trace import TracerProvider
tracer = TracerProvider().get_tracer("tests")
@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    with tracer.start_as_current_span(item.nodeid) as span:
        result = yield
        with open("span.json", "w") as file:
            json.dump(dict(span.attributes), file)
    return result
"""


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


def test_links(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    """Of the junit file, behind the archive's, and of pytest-html's page."""
    pytester.makepyfile(test_a=BAD)
    run_gencore(*TEXT, "--gencore-html=on", "--junitxml=j.xml", *PYTEST_HTML, "--html=out/report.html")

    archive, (page,) = made(pytester)
    tags = re.findall(r"\[\[ATTACHMENT\|(.*)\]\]", (pytester.path / "j.xml").read_text())
    assert tags == [str(archive), str(page)]
    written = html.unescape(html.unescape((pytester.path / "out/report.html").read_text()))
    assert f'href="../{archive.relative_to(pytester.path)}"' in written.replace("\\", "")
    assert f'href="../{page.relative_to(pytester.path)}"' in written.replace("\\", "")


@pytest.mark.slow
def test_records_of_others(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    """Lines of pytest-reportlog, and the span of whoever traces tests with OpenTelemetry."""
    pytester.makepyfile(test_a=BAD)
    pytester.makeconftest(TRACES)
    run_gencore(*TEXT, "-p", "pytest_reportlog", "--report-log=log.json")

    archive, _ = made(pytester)
    lines = [json.loads(line) for line in (pytester.path / "log.json").read_text().splitlines()]
    (found,) = (line["gencore"] for line in lines if "gencore" in line)
    assert [entry["path"] for entry in found] == [str(archive)]
    attributes = json.loads((pytester.path / "span.json").read_text())
    assert attributes == {"gencore.archive": str(archive), "gencore.trigger": "failure"}


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
