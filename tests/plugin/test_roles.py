"""What each role registers, keeps and leaves behind; the pure decision."""

from __future__ import annotations

import bdb
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.plugin.capturing import is_capturable

if TYPE_CHECKING:
    from pathlib import Path

    from sample_runs import RunGencore

TWICE = """
    import os, sys, pytest
    def descriptors():
        links = {}
        for name in os.listdir("/proc/self/fd"):
            try:
                links[name] = os.readlink(f"/proc/self/fd/{name}")
            except OSError:
                pass  # the one of listdir itself
        return links
    pytest.main(sys.argv[1:])  # what is imported may keep files open
    before = descriptors()
    for _ in range(2):
        pytest.main(sys.argv[1:])
    assert descriptors() == before, (before, descriptors())
    print("nothing is left")
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("options", [["--gencore-on-fail"], []], ids=["armed", "off"])
@pytest.mark.parametrize("workers", [["-n1"], []], ids=["controller", "local"])
def test_no_descriptor_is_left(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: list[str], options: list[str]
) -> None:
    """``pytest.main`` may be called many times in one process."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:cacheprovider -p xdist.plugin -p pytest_gencore.plugin")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # others leave sockets of event loops
    pytester.makepyfile(test_a="def test_ok(): pass", twice=TWICE)
    result = pytester.run(sys.executable, "twice.py", "test_a.py", *workers, *options)
    assert result.ret == 0, result.stderr.str()
    result.stdout.fnmatch_lines(["nothing is left"])


NAMES = """
    def pytest_sessionfinish(session):
        names = sorted(
            name for name, plugin in session.config.pluginmanager.list_name_plugin()
            if plugin is not None and name.startswith("gencore-")
        )
        role = getattr(session.config, "workerinput", {}).get("workerid", "main")
        with open(f"{role}.txt", "w") as file:
            file.write(" ".join(name.removeprefix("gencore-") for name in names))
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], {"main": "dormant"}),
        (["--gencore-on-fail"], {"main": "capturing roles showing watch"}),
        (
            ["--gencore-on-fail", "--junitxml=j.xml"],
            {"main": "capturing journal roles showing watch"},
        ),
        (["--gencore-method=copy"], {"main": "dormant"}),
        (["-n1"], {"main": "controller roles showing", "gw0": "dormant"}),
        (
            ["-n1", "--gencore-on-fail", "--junitxml=j.xml"],
            {"main": "controller journal roles showing watch", "gw0": "capturing roles watch worker"},
        ),
    ],
    ids=["off", "armed", "junit", "option", "xdist-off", "xdist-armed"],
)
def test_plugins_of_a_role(
    pytester: pytest.Pytester, run_gencore: RunGencore, arguments: list[str], expected: dict[str, str]
) -> None:
    pytester.makepyfile(test_a="def test_ok(): pass")
    pytester.makeconftest(NAMES)
    run_gencore(*arguments, fake="").assert_outcomes(passed=1)
    assert read_names(pytester.path) == expected


def test_a_marker_wakes_the_roles(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(
        test_a="import pytest\n@pytest.mark.gencore\ndef test_ok(): pass\ndef test_plain(): pass"
    )
    pytester.makeconftest(NAMES)
    run_gencore(fake="").assert_outcomes(passed=2)
    assert read_names(pytester.path) == {"main": "capturing roles showing watch"}


def read_names(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in folder.glob("*.txt")}


def make_report(outcome: str) -> pytest.TestReport:
    return pytest.TestReport("a.py::test", ("a.py", 1, "test"), {}, outcome, None, "call")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("outcome", "error", "expected"),
    [
        ("failed", AssertionError(), True),
        ("failed", SystemExit(1), True),
        ("failed", pytest.fail.Exception(), True),
        ("failed", None, False),
        ("failed", KeyboardInterrupt(), False),
        ("failed", pytest.exit.Exception("end"), False),
        ("failed", bdb.BdbQuit(), False),
        ("passed", None, False),
        ("skipped", pytest.skip.Exception(), False),
        ("skipped", AssertionError(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_what_can_be_captured(outcome: str, error: BaseException | None, *, expected: bool) -> None:
    assert is_capturable(make_report(outcome), error) is expected


def test_marker_is_asked_once_for_a_failure(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    """One question gets one answer: the decision is made in one place."""
    pytester.makepyfile(test_a="def test_bad(): assert 0")
    pytester.makeconftest(
        """
        from pytest_gencore.plugin import capturing
        asked = []
        real = capturing.is_capturable
        def look(report, error):
            asked.append(report.when)
            return real(report, error)
        capturing.is_capturable = look
        def pytest_sessionfinish():
            assert asked == ["call"]
        """
    )
    run_gencore("--gencore-on-fail", fake="done").assert_outcomes(failed=1)
