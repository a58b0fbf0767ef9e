"""A run that asks for nothing pays nothing and keeps nothing."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sample_runs import RunGencore

WITNESS = """
    import os, signal, sys, threading
    import psutil, pytest

    def look():
        return {
            "threads": threading.active_count(),
            "children": len(psutil.Process().children()),
            "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
            "mask": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        }

    BEFORE = look()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(session):
        with open(f"modules-{os.getpid()}.txt", "w") as file:
            file.write("\\n".join(sys.modules))
        if hasattr(session.config, "workerinput") or not session.config.getoption("dist", "no") == "no":
            return
        assert look() == BEFORE
"""


@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_off(pytester: pytest.Pytester, run_gencore: RunGencore, workers: list[str]) -> None:
    pytester.makepyfile(
        test_a="""
        import pytest
        def test_ok(): pass
        def test_bad(): assert 0
        @pytest.mark.gencore(enabled=False)
        def test_off(): assert 0
        """
    )
    pytester.makeconftest(WITNESS)
    result = run_gencore(*workers, "-p", "no:rerunfailures", fake="")  # that one has a thread
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.no_fnmatch_line("gencore: *")
    result.stdout.no_fnmatch_line("*= gencore =*")
    assert not (pytester.path / "gencore-artifacts").exists()
    witnesses = list(pytester.path.glob("modules-*.txt"))
    assert len(witnesses) == 1 + len(workers) * 2
    for path in witnesses:
        modules = path.read_text().split()
        assert "pytest_gencore.plugin" in modules
        assert [
            name for name in modules if name.startswith(("pytest_gencore.capture", "pytest_gencore.coll"))
        ] == []


def test_armed_and_passing_leaves_no_file(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a="import pytest\n@pytest.mark.gencore\ndef test_ok(): pass")
    before = set(pytester.path.iterdir())
    run_gencore("--gencore-on-fail").assert_outcomes(passed=1)
    assert {path.name for path in set(pytester.path.iterdir()) - before} <= {
        "__pycache__",
        "runpytest-0",
        "runpytest-current",
        "stdout",
        "stderr",
    }


OFF_MODULES = {
    "pytest_gencore",
    "pytest_gencore.plugin",
    "pytest_gencore.plugin.dormant",
    "pytest_gencore.plugin.hookspecs",
    "pytest_gencore.plugin.options",
}
"""All that a run imports in which nothing asks for a capture."""


def test_off_imports_nothing_else(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    """Failing tests included; compared with a run without the plugin."""
    pytester.makepyfile(test_a="def test_ok(): pass\ndef test_bad(): assert 0")
    pytester.makeconftest(WITNESS)
    found = []
    for options in (["-p", "no:gencore"], [], ["--gencore-max-cores=3"]):
        run_gencore(*options, "-p", "no:rerunfailures", fake="").assert_outcomes(passed=1, failed=1)
        (path,) = pytester.path.glob("modules-*.txt")
        found.append(set(path.read_text().split()))
        path.unlink()
    without, off, option = found
    assert off - without == OFF_MODULES
    assert option - off == {
        "pytest_gencore.plugin.settings",
        "pytest_gencore.plugin.values",
        "pytest_gencore.contents",
        "pytest_gencore.methods",
        "pytest_gencore.units",
    }


def test_import_of_the_plugin_is_cheap() -> None:
    code = (
        "import pytest, sys; old = {*sys.modules}; import pytest_gencore.plugin; print(*{*sys.modules} - old)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(process.stdout.split()) == OFF_MODULES


def test_switched_off_by_name(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a="import pytest\n@pytest.mark.gencore\ndef test_bad(): assert 0")
    result = run_gencore("-p", "no:gencore")
    result.assert_outcomes(failed=1)
    assert not (pytester.path / "gencore-artifacts").exists()
    result.stdout.no_fnmatch_line("*= gencore =*")


@pytest.mark.slow
def test_nested_configs_keep_their_own_state(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makeconftest("pytest_plugins = ['pytester']")
    pytester.makepyfile(
        test_a="""
        def test_outer(pytester):
            pytester.makepyfile("def test_inner(): assert 0")
            result = pytester.inline_run("--gencore-on-fail", "--gencore-dir=inner")
            assert result.countoutcomes() == [0, 0, 1]
            assert len(list((pytester.path / "inner").glob("*.tar.gz"))) == 1
            result = pytester.inline_run()
            assert result.countoutcomes() == [0, 0, 1]
            assert not (pytester.path / "gencore-artifacts").exists()
            assert 0, "the outer one is still armed"
        """
    )
    result = run_gencore("--gencore-on-fail")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the outer one is still armed*"])
    assert len(list((pytester.path / "gencore-artifacts").glob("*.tar.gz"))) == 1
