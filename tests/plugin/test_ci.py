"""Each CI system reads what happened on its own page, once, whichever way a run ends."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest
from cancelled_runs import HANG, cancel
from ci_grammar import read_github
from ci_systems import COMMAND, System
from projects import ARTIFACTS, EXITS, QUICK

if TYPE_CHECKING:
    from projects import Project

SYSTEMS = ("github", "azure", "teamcity", "buildkite")
FAILS = """
    import pytest
    def test_ok(): pass
    @pytest.mark.parametrize("x", ["<script>|`\\n\x1b[31m::error::\u202e"])
    def test_bad(x): assert 0
    def test_worse(): raise ValueError
"""
FIRST, SECOND = r"test_a.py::test_bad[<script>|`\n\x1b[31m::error::\u202e]", "test_a.py::test_worse"
SIZE = r"gencore-artifacts/core_[\d.]+\.tar\.gz, [\d.]+ [KM]iB"
CRASHES = "import os\ndef test_crash(): os.abort()"
WAITS = """
    import threading
    def test_hang():
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
"""


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest, project: Project) -> System:
    return System(request.param, project.folder)


def check_archives(system: System, told: list[str], project: Project, uploads: list[str]) -> None:
    """Each row says what came of its archive, and a system that is asked to keep files has them all."""
    archives = project.find_archives()
    if system.name == "teamcity":
        assert told == [""] * len(archives)
    else:
        assert [bool(re.fullmatch(SIZE, text)) for text in told] == [True] * len(archives), told
    if system.name in ("azure", "teamcity"):
        names = {path.name for path in archives}
        assert sorted(uploads) == sorted(names | {name.replace(".tar.gz", ".txt") for name in names})
        assert all((project.folder / ARTIFACTS / name).is_file() for name in uploads)


@pytest.mark.slow(rows=2)
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["local", "xdist"])
def test_failing(project: Project, system: System, workers: tuple[str, ...]) -> None:
    project.write(test_a=FAILS)

    ended = project.run(*QUICK, *workers, environment=system.environment)

    assert ended.counts() == {"failed": 2, "passed": 1}
    told = system.read(ended)
    assert sorted(test for test, _, _ in told.rows) == [FIRST, SECOND]
    assert all(f"failed: {test}, call" in what for test, what, _ in told.rows)
    assert len(told.stacks) == 2
    assert told.notices == (2 if system.name == "github" else 0)
    check_archives(system, [text for _, _, text in told.rows], project, told.uploads)
    assert "\nci: " not in ended.out


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("kind", ["crash", "hang", "cancel"])
def test_dying(project: Project, system: System, kind: str) -> None:
    """The process ends before it can tell: its collector does."""
    project.write(test_a={"crash": CRASHES, "hang": WAITS, "cancel": HANG}[kind])
    options = (*EXITS, "--gencore-timeout=1") if kind == "hang" else ()

    running = project.start(*QUICK, *options, environment=system.environment)
    if kind == "cancel":
        cancel(project, running, signal.SIGTERM)
    ended = running.end()

    assert ended.status == {"crash": -signal.SIGABRT, "cancel": -signal.SIGTERM}.get(kind, ended.status)
    told = system.read(ended)
    (test, what, archive), *others = told.rows
    assert not others
    assert test == f"test_a.py::test_{'hang' if kind == 'cancel' else kind}"
    words = {"crash": "SIGABRT", "hang": "waits for lock", "cancel": "waits for queue.get"}
    assert words[kind] in what
    assert "Thread MainThread" in told.stacks[0]
    check_archives(system, [archive], project, told.uploads)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["local", "xdist"])
def test_hanging_on(project: Project, workers: tuple[str, ...]) -> None:
    """The test has no report, and the run may be killed: the collector tells that."""
    system = System("github", project.folder)
    project.write(test_a=WAITS)
    running = project.start(*QUICK, "--gencore-timeout=1", *workers, environment=system.environment)
    told = system.read(running.kill_when_told("gencore: core archive: "))
    ((test, what, archive),) = told.rows
    assert (test, told.notices) == ("test_a.py::test_hang", 1)
    assert "waits for lock" in what
    check_archives(system, [archive], project, [])


@pytest.mark.slow
def test_cancelled_workers(project: Project) -> None:
    """The controller's collector tells of each of them, once."""
    system = System("github", project.folder)
    project.write(test_a=HANG)
    running = project.start(*QUICK, "-n", "1", environment=system.environment)
    cancel(project, running, signal.SIGTERM)
    told = system.read(running.end())
    assert [test for test, _, _ in told.rows] == ["test_a.py::test_hang"]


@pytest.mark.slow
def test_workers_that_die(project: Project) -> None:
    system = System("github", project.folder)
    project.write(test_a=CRASHES, test_b=WAITS)
    options = (*EXITS, "--gencore-timeout=1", "-n", "2")
    told = system.read(project.run(*QUICK, *options, environment=system.environment))
    assert sorted(test for test, _, _ in told.rows) == ["test_a.py::test_crash", "test_b.py::test_hang"]
    assert told.notices == 2
    check_archives(system, [text for _, _, text in told.rows], project, [])


@pytest.mark.slow
def test_reruns_and_late_ends(project: Project) -> None:
    """A test that is run again is captured once; one that ends after its deadline is told of, too."""
    system = System("github", project.folder)
    project.write(
        test_a="""
        import threading
        attempts = []
        def test_again():
            attempts.append(1)
            assert len(attempts) > 1
        def test_late(): threading.Event().wait(2)
        """
    )
    ended = project.run(*QUICK, "--reruns=1", "--gencore-timeout=1", environment=system.environment)
    assert ended.counts() == {"passed": 2, "rerun": 1}
    told = system.read(ended)
    assert [test for test, _, _ in told.rows] == ["test_a.py::test_again", "test_a.py::test_late"]


@pytest.mark.slow
def test_sealed_runs_show_what_the_log_shows(project: Project) -> None:
    from sealed_runs import make_key

    system = System("github", project.folder)
    project.write(test_a='def test_bad():\n    found = "the-" + "marker"\n    assert not found')
    options = (f"--gencore-recipient={make_key(project.folder)}", "--gencore-clear-text=off")
    told = system.read(project.run("--gencore-on-fail", *options, environment=system.environment))
    ((test, what, _),) = told.rows
    assert test == "test_a.py::test_bad"
    assert told.stacks == [what]
    text = (project.folder / "summary.md").read_text()
    assert "<code>gencore debug --identity FILE core_" in text
    assert "the-marker" not in text


def test_secrets_are_overwritten(project: Project) -> None:
    system = System("github", project.folder)
    project.write(
        test_a="""
        import pytest
        @pytest.mark.parametrize("value", ["hunter2-hunter2"])
        def test_bad(value): assert not value
        """
    )
    environment = {**system.environment, "API_TOKEN": "hunter2-hunter2"}
    system.read(project.run(*QUICK, environment=environment))
    text = (project.folder / "summary.md").read_text()
    assert "test_a.py::test_bad[" in text
    assert "hunter2" not in text


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("options", [("--gencore-ci=none",), ("-o", "gencore_ci=none")])
def test_switched_off(project: Project, options: tuple[str, ...]) -> None:
    system = System("github", project.folder)
    project.write(test_a=FAILS)
    ended = project.run(*QUICK, "-k", "worse", *options, environment=system.environment)
    assert not COMMAND.findall(ended.out)
    assert (project.folder / "summary.md").read_text() == ""


def test_without_an_environment_nothing_is_told(project: Project) -> None:
    project.write(test_a=FAILS)
    ended = project.run(*QUICK, "-k", "worse")
    assert not COMMAND.findall(ended.out + ended.err)
    assert {path.name for path in project.folder.iterdir()} <= {ARTIFACTS, "test_a.py", "__pycache__"}


def test_a_page_that_cannot_be_written_is_one_line(project: Project) -> None:
    """Verdict and status stay."""
    project.write(test_a=FAILS)
    environment = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "/nowhere/summary.md"}
    ended = project.run(*QUICK, environment=environment)
    assert (ended.status, ended.counts()) == (1, {"failed": 2, "passed": 1})
    notes = [line for line in ended.out.splitlines() if line.startswith("ci: ")]
    assert notes == ["ci: /nowhere/summary.md could not be written: No such file or directory"]
    assert [read_github(line)[0] for line in COMMAND.findall(ended.out)] == ["notice"] * 2


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("options", [(), ("--gencore-dir=mine",)], ids=["default", "chosen"])
def test_bazel_keeps_the_archives(project: Project, options: tuple[str, ...]) -> None:
    project.write(test_a=FAILS)
    outputs = project.folder / "outputs"
    outputs.mkdir()
    environment = {"TEST_UNDECLARED_OUTPUTS_DIR": str(outputs)}
    ended = project.run(*QUICK, "-k", "worse", *options, environment=environment)
    folder = project.folder / "mine" if options else outputs
    assert [path.suffix for path in sorted(folder.iterdir())] == [".gz", ".txt"]
    assert not COMMAND.findall(ended.out)


@pytest.mark.slow
def test_page_of_a_crash(project: Project) -> None:
    """It is made after the archive, and told after it."""
    system = System("github", project.folder)
    project.write(test_a=CRASHES)
    told = system.read(project.run(*QUICK, "-ogencore_html=true", environment=system.environment))
    ((_, _, archive),) = told.rows
    assert "being written" not in archive
    assert ".html" in archive
    (page,) = (project.folder / "gencore-artifacts").glob("*.html")
    page.unlink()
