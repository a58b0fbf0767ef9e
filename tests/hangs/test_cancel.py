"""Runs that are cancelled: SIGTERM, SIGHUP and SIGINT; what they leave, and that they end as without us."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from capabilities import needs
from gencore_archives import read_manifest
from junit_file import read_junit
from kernel import wait_until
from limit_cases import Case, Injector
from projects import ARTIFACTS, QUICK, SUPPORT

if TYPE_CHECKING:
    from projects import Project, Running

WAITS = """
    import os, pathlib, queue, sys, threading, time
    def say_when_it_waits(path):
        main = threading.get_ident()
        def look():
            while True:
                frame = sys._current_frames()[main]
                if (frame.f_code.co_name, frame.f_back.f_code.co_name) == ("wait", "get"):
                    break  # not that of start()
                time.sleep(0.005)
            pathlib.Path(path).touch()
        threading.Thread(target=look, daemon=True).start()
"""
HANG = f"""
    {WAITS}
    def test_one(): pass
    def test_two(): pass
    def test_hang():
        say_when_it_waits("here")
        queue.Queue().get()
"""
GIL_HELD = """
    import itertools, pathlib
    def test_hang():
        pathlib.Path("here").touch()
        sum(itertools.repeat(0))  # no signal ends it
"""


def cancel(project: Project, running: Running, number: signal.Signals) -> None:
    """Send a signal when the test, or what hangs before it, has said that it is there."""
    wait_until((project.folder / "here").exists, "the test runs")
    running.process.send_signal(number)


@pytest.mark.field
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("source", [HANG, GIL_HELD], ids=["waits", "holds the GIL"])
def test_terminated(project: Project, number: signal.Signals, source: str) -> None:
    project.write(test_a=source)
    running = project.start(*QUICK, "--junitxml=j.xml")

    cancel(project, running, number)
    ended = running.end()

    assert ended.status == -number
    sender = f"(sent by process {os.getpid()}, "
    assert f"gencore: cancelled by {number.name} {sender}" in ended.err
    assert ": test_a.py::test_hang, call, for " in ended.err
    (archive,) = ended.announced()
    trigger = read_manifest(project.only_archive())["trigger"]
    assert (trigger["kind"], trigger["signal"], trigger["signal_number"]) == ("cancel", number.name, number)
    assert (trigger["sender"]["pid"], trigger["sender"]["uid"]) == (os.getpid(), os.getuid())
    *finished, hang = read_junit(project.folder / "j.xml")
    assert [case.results for case in finished] == [()] * (2 if source is HANG else 0)
    assert (hang.name, hang.results, hang.archives) == ("test_hang", ("error",), (archive,))


def test_verdict(project: Project) -> None:
    project.write(test_a=HANG)
    running = project.start(*QUICK)

    cancel(project, running, signal.SIGTERM)

    assert "gencore: waits for queue.get() of an empty queue" in running.end().err


def test_signal_that_another_thread_gets(project: Project) -> None:
    """The kernel chooses it, and not always the first one."""
    project.write(
        test_a="""
        import queue, signal, threading
        def terminate():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        def test_hang():
            threading.Timer(0.1, terminate).start()
            queue.Queue().get()
        """
    )

    ended = project.run(*QUICK)

    assert ended.status == -signal.SIGTERM
    assert "gencore: cancelled by SIGTERM (sent by itself): test_a.py::test_hang, call, for " in ended.err
    assert re.search(r"^Thread MainThread, native id \d+, ran the test", ended.err, re.MULTILINE)
    assert len(re.findall(", ran the test", ended.err)) == 1


@pytest.mark.field
def test_interrupted(project: Project) -> None:
    project.write(test_a=HANG)
    running = project.start(*QUICK, "--junitxml=j.xml", "--gencore-interrupt-after=0")

    cancel(project, running, signal.SIGINT)
    ended = running.end()

    assert ended.status == 2
    assert "KeyboardInterrupt" in ended.out
    assert "2 passed" in ended.out
    assert f"gencore: cancelled by SIGINT (sent by process {os.getpid()}, " in ended.err
    (archive,) = ended.announced()
    cases = read_junit(project.folder / "j.xml")
    assert [(case.name, case.results) for case in cases] == [
        ("test_one", ()),
        ("test_two", ()),
        ("test_hang", ("error",)),
    ]
    assert cases[-1].archives == (archive,)
    assert "cancelled by SIGINT" in ended.out, "the summary names the archive"


@pytest.mark.field
def test_interrupted_tasks(project: Project) -> None:
    """Before asyncio cancels them."""
    project.write(
        test_a="""
        import asyncio, pathlib
        async def pay():
            asyncio.get_running_loop().call_later(0.05, pathlib.Path("here").touch)
            await asyncio.Queue().get()
        def test_hang():
            asyncio.run(pay())
        """
    )
    usual = project.start()
    cancel(project, usual, signal.SIGINT)
    usual_status = usual.end().status
    (project.folder / "here").unlink()
    running = project.start(*QUICK, "--gencore-interrupt-after=0")

    cancel(project, running, signal.SIGINT)
    ended = running.end()

    assert ended.status == usual_status == 2
    assert "gencore: asyncio: " in ended.err
    assert "waits for queue.get() of an empty queue" in ended.err
    assert ended.announced()


def test_interrupted_early(project: Project) -> None:
    """A developer who stops his own run is told where it was, and is left alone."""
    project.write(test_a=HANG)
    running = project.start(*QUICK, "--junitxml=j.xml")

    cancel(project, running, signal.SIGINT)
    ended = running.end()

    assert ended.status == 2
    assert "gencore: cancelled by SIGINT" in ended.err
    assert (
        "no core archive: what was interrupted had run for less than 10 s (gencore_interrupt_after)"
        in ended.err
    )
    assert "under way" not in ended.err
    assert not project.find_archives()
    assert "= gencore =" not in ended.out
    (*_, hang) = read_junit(project.folder / "j.xml")
    assert (hang.name, hang.results) == ("test_hang", ("error",))


LINGERS = """
    import os, pathlib, time
    def linger():
        if "PYTEST_XDIST_WORKER" in os.environ:
            return
        try:
            pathlib.Path("here").touch()
            time.sleep(1000)
        finally:
            while not pathlib.Path("told").exists():
                time.sleep(0.01)
"""
BEGINNINGS = {
    "import of conftest.py files": "linger()",
    "session start": "pytest_sessionstart = lambda: linger()",
}


@pytest.mark.parametrize("place", BEGINNINGS)
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["alone", "workers"])
def test_interrupted_early_while_it_starts(project: Project, place: str, workers: list[str]) -> None:
    """Nothing is left, though the answer is there before the process ends: then it has no end of session."""
    project.write(conftest=f"{LINGERS}\n    {BEGINNINGS[place]}\n", test_a="def test_one(): pass")
    running = project.start(*QUICK, *workers)

    cancel(project, running, signal.SIGINT)
    told = running.wait_until_told("no core archive")
    (project.folder / "told").touch()
    ended = running.end()

    assert ended.status == (2 if "session" in place else -signal.SIGINT)
    assert f"{'controller of pytest-xdist' if workers and 'session' in place else place}, for " in told
    assert not (project.folder / "gencore-artifacts").exists()


def test_interrupt_that_python_does_not_see(project: Project) -> None:
    project.write(test_a=GIL_HELD)
    running = project.start(*QUICK, "--gencore-interrupt-after=0")

    cancel(project, running, signal.SIGINT)
    (archive,) = project.wait_for_archives()
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    running.was_killed = True  # nobody was there to tidy up
    assert project.only_archive() == archive, "it is not captured again"
    assert read_manifest(archive)["trigger"]["signal"] == "SIGINT"


def test_termination_after_an_early_interrupt(project: Project) -> None:
    """What was only told can still be captured."""
    project.write(test_a=GIL_HELD)
    running = project.start(*QUICK)

    cancel(project, running, signal.SIGINT)
    assert running.process.stderr is not None
    said = ""
    while "no core archive" not in said:
        said = running.process.stderr.readline()
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert read_manifest(project.only_archive())["trigger"]["signal"] == "SIGTERM"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_second_signal_ends_the_grace(project: Project, second: signal.Signals) -> None:
    project.write(test_a=HANG)
    stop = Case(0, "", (), set(), injected=(signal.SIGSTOP, "collector"), delay=0.0)
    with Injector(stop, project.folder) as injector:
        running = project.start(*QUICK, "--gencore-grace=50s")
        cancel(project, running, signal.SIGTERM)
        wait_until(lambda: injector.victims, "the collector is stopped")
        running.process.send_signal(second)
        assert running.process.wait(timeout=30) in {-second, -signal.SIGTERM}
    running.was_killed = True  # its collector was
    running.end()


@pytest.mark.parametrize("milliseconds", [0.2, 1, 5])
def test_further_signals_do_not_end_the_snapshot(project: Project, milliseconds: float) -> None:
    """Whoever cancels a job signals all its processes, and some pass theirs on.

    The kernel gives them to another thread while the first one is blocked.
    """
    project.write(
        test_a="""
        import pathlib, threading
        def test_hang():
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            pathlib.Path("here").touch()
            threading.Event().wait()
        """
    )
    running = project.start(*QUICK)

    cancel(project, running, signal.SIGTERM)
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end:
        os.kill(running.process.pid, signal.SIGTERM)
    assert running.process.wait(timeout=30) == -signal.SIGTERM
    (archive,) = project.wait_for_archives()
    ended = running.end()

    assert ended.err.count("gencore: cancelled by SIGTERM") == 1
    assert read_manifest(archive)["nodeid"] == "test_a.py::test_hang"


def test_grace_is_the_longest_wait(project: Project) -> None:
    project.write(test_a=HANG)
    stop = Case(0, "", (), set(), injected=(signal.SIGSTOP, "collector"), delay=0.0)
    with Injector(stop, project.folder):
        running = project.start(*QUICK, "--gencore-grace=0.2s")
        cancel(project, running, signal.SIGTERM)
        assert running.process.wait(timeout=30) == -signal.SIGTERM
    running.was_killed = True  # its collector was
    running.end()


def test_without_grace(project: Project) -> None:
    """The text comes nevertheless: the collector is a process of its own."""
    project.write(test_a=HANG)
    running = project.start(*QUICK, "--gencore-grace=0", "--junitxml=j.xml")

    cancel(project, running, signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert "gencore: cancelled by SIGTERM" in ended.err
    project.wait_for_archives()
    (*_, hang) = read_junit(project.folder / "j.xml")
    assert hang.name == "test_hang"


@pytest.mark.parametrize(
    ("handler", "status"),
    [("sys.exit(7)", 1), ("os._exit(9)", 9)],
    ids=["raises", "exits"],
)
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_handlers_of_tests_come_first(project: Project, number: str, handler: str, status: int) -> None:
    project.write(
        test_a=f"""
        import os, pathlib, signal, sys, threading
        def test_handled():
            signal.signal(signal.{number}, lambda *_: {handler})
            pathlib.Path("here").touch()
            threading.Event().wait(60)
        """
    )
    running = project.start(*QUICK, "--gencore-max-cores=0")

    cancel(project, running, signal.Signals[number])
    ended = running.end()

    assert ended.status == status
    assert "cancelled by" not in ended.out + ended.err


@pytest.mark.field
def test_signals_that_tests_are_about(project: Project) -> None:
    """A process that interrupts itself, and children that are terminated as usual."""
    project.write(
        test_a="""
        import multiprocessing, os, signal, subprocess, sys, threading, time
        import pytest
        def test_interrupts_itself():
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(30)
        def test_raises():
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
        def test_child_by_fork(number):
            read_end, write_end = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.write(write_end, b".")
                    time.sleep(60)
                except KeyboardInterrupt:
                    os._exit(33)
                finally:
                    os._exit(44)
            os.read(read_end, 1)
            os.kill(child, number)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status == (33 if number == signal.SIGINT else -number)
        def test_pool():
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join()
            assert child.exitcode == -signal.SIGTERM
        def test_program():
            program = "import signal; print([signal.getsignal(n) for n in (1, 2, 15)])"
            out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
            assert out.count("SIG_DFL") == 2 and "default_int_handler" in out
        def test_what_python_sees():
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            handler = lambda *_: None
            assert signal.signal(signal.SIGTERM, handler) == signal.SIG_DFL
            assert signal.signal(signal.SIGTERM, signal.SIG_DFL) is handler
        def test_sigwait():
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            try:
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
                assert signal.sigwait([signal.SIGTERM]) == signal.SIGTERM
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        """
    )

    ended = project.run(*QUICK)

    assert (ended.status, ended.counts()["passed"]) == (0, 9)
    assert "cancelled" not in ended.err
    assert not project.find_archives()


def test_displaced_handlers_are_put_back(project: Project) -> None:
    project.write(
        test_a="""
        import signal
        def test_displaces():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.signal(number, signal.SIG_IGN))
        """,
        test_b=HANG,
    )
    running = project.start(*QUICK, "--gencore-interrupt-after=0")

    cancel(project, running, signal.SIGINT)
    ended = running.end()

    assert ended.status == 2
    assert ended.announced()


def test_debugger_has_ctrl_c(project: Project) -> None:
    project.write(
        test_a="""
        import pathlib, pytest, time
        def test_debugged(pytestconfig):
            pytestconfig.hook.pytest_enter_pdb(config=pytestconfig, pdb=None)
            pathlib.Path("here").touch()
            with pytest.raises(KeyboardInterrupt):
                time.sleep(60)
        """
    )
    running = project.start(*QUICK, "--gencore-interrupt-after=0")

    cancel(project, running, signal.SIGINT)
    ended = running.end()

    assert ended.status == 0
    assert "cancelled" not in ended.err


def test_ignored_hangup_stays_ignored(project: Project) -> None:
    project.write(test_a=HANG)
    running = project.start(*QUICK, prefix=("nohup",))

    cancel(project, running, signal.SIGHUP)
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert "cancelled by SIGHUP" not in ended.err
    assert "cancelled by SIGTERM" in ended.err


@needs("root")
def test_first_process_of_a_pid_namespace(project: Project) -> None:
    """There SIGTERM has no effect, as in many a container: all the more the text must come."""
    project.write(test_a=HANG)
    running = project.start(*QUICK, "--junitxml=j.xml", prefix=("unshare", "--pid", "--fork", "--mount-proc"))
    wait_until((project.folder / "here").exists, "the test runs")
    (first,) = psutil.Process(running.process.pid).children()

    first.terminate()
    (archive,) = project.wait_for_archives()
    first.kill()
    running.was_killed = True
    ended = running.end()

    assert "cancelled by SIGTERM (sent by a process outside of this PID namespace, uid 0)" in ended.err
    assert read_manifest(archive)["trigger"]["sender"] == {"pid": 0, "uid": 0, "command": None}
    (*_, hang) = read_junit(project.folder / "j.xml")
    assert (hang.name, hang.results) == ("test_hang", ("error",))


BEGUN = "import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(1000)\n"
PLACES = {
    "module": ({"test_a": BEGUN}, "collection of test_a.py"),
    "conftest": ({"conftest": BEGUN, "test_a": HANG}, "import of conftest.py files"),
    "fixture": (
        {
            "conftest": """
                import pathlib, time, pytest
                @pytest.fixture(scope="session")
                def server():
                    pathlib.Path("here").touch()
                    time.sleep(1000)
            """,
            "test_a": "def test_served(server): pass",
        },
        "test_a.py::test_served, setup, session fixture 'server' of conftest.py:3",
    ),
    "session start": (
        {
            "conftest": """
                import os, pathlib, time
                def pytest_sessionstart():
                    if "PYTEST_XDIST_WORKER" not in os.environ:
                        pathlib.Path("here").touch()
                        time.sleep(1000)
            """,
            "test_a": "def test_one(): pass",
        },
        "session start",
    ),
    "session end": (
        {
            "conftest": """
                import pathlib, time
                def pytest_sessionfinish():
                    pathlib.Path("here").touch()
                    time.sleep(1000)
            """,
            "test_a": "def test_one(): pass",
        },
        "session end",
    ),
}


@pytest.mark.slow(rows=3)
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_places(project: Project, where: str, number: signal.Signals) -> None:
    sources, place = PLACES[where]
    project.write(**sources)
    usual = project.start()
    cancel(project, usual, number)
    usual_status = usual.end().status
    (project.folder / "here").unlink()
    running = project.start(*QUICK, "--gencore-interrupt-after=0")

    cancel(project, running, number)
    ended = running.end()

    assert ended.status == usual_status
    assert f"gencore: cancelled by {number.name}" in ended.err
    assert f": {place}, for " in ended.err
    (archive,) = project.find_archives()
    assert read_manifest(archive)["place"] in place


READY = """
    import pathlib
    def pytest_testnodeready(node):
        pathlib.Path(f"ready-{node.gateway.id}").touch()
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("where", ["module", "conftest", "fixture"])
def test_places_with_workers(project: Project, where: str) -> None:
    sources, place = PLACES[where]
    project.write(ready=READY, **sources)
    running = project.start(*QUICK, "-n2", "-p", "ready", environment={"PYTHONPATH": f".:{SUPPORT}"})
    ready = [] if where == "conftest" else ["ready-gw0", "ready-gw1"]  # it hangs in the controller
    for name in ["here", *ready]:
        wait_until((project.folder / name).exists, f"there is {name}", timeout=30)

    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert "gencore: cancelled by SIGTERM" in ended.err
    assert f": {place}, for " in ended.err
    assert any(read_manifest(archive)["place"] in place for archive in project.find_archives())


TWO_HANGS = f"""
    {WAITS}
    def hang():
        say_when_it_waits("here-" + os.environ["PYTEST_XDIST_WORKER"])
        queue.Queue().get()
    def test_one(): pass
    def test_hang(): hang()
    def test_two(): pass
    def test_other(): hang()
"""


TOLD = """
    import os, pathlib
    def pytest_runtest_logstart(nodeid):
        if "PYTEST_XDIST_WORKER" not in os.environ:
            pathlib.Path(f"told-{nodeid.rpartition('::')[2]}").touch()
"""


def start_workers(project: Project, *arguments: str) -> Running:
    """Start a run both of whose workers hang, and wait until they do."""
    project.write(test_a=TWO_HANGS, conftest=TOLD)
    running = project.start(*QUICK, "-n2", *arguments)
    for name in ("here-gw0", "here-gw1", "told-test_hang", "told-test_other"):
        wait_until((project.folder / name).exists, "the tests run", timeout=20)
    return running


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("is_group", [False, True], ids=["controller", "all processes"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminated_workers(project: Project, number: signal.Signals, *, is_group: bool) -> None:
    running = start_workers(project, "--junitxml=j.xml")

    if is_group:
        os.killpg(running.process.pid, number)
    else:
        running.process.send_signal(number)
    ended = running.end()

    assert ended.status == -number
    assert f"gencore: cancelled by {number.name} (sent by process {os.getpid()}, " in ended.err
    for worker, test in (("gw0", "test_hang"), ("gw1", "test_other")):
        assert ended.err.count(f": test_a.py::{test}, call, for ") == 1
        assert f", worker {worker}, process " in ended.err
    assert ended.err.count("gencore: waits for queue.get() of an empty queue") == 2
    assert "no answer" not in ended.err
    assert sorted(ended.announced()) == [str(path) for path in project.find_archives()]
    cases = {case.name: case for case in read_junit(project.folder / "j.xml")}
    assert {name: case.results for name, case in cases.items()} == {
        "test_one": (),
        "test_two": (),
        "test_hang": ("error",),
        "test_other": ("error",),
    }
    assert sorted(cases["test_hang"].archives + cases["test_other"].archives) == sorted(ended.announced())


@pytest.mark.slow
def test_interrupted_workers(project: Project) -> None:
    running = start_workers(project, "--junitxml=j.xml", "--gencore-interrupt-after=0")

    running.process.send_signal(signal.SIGINT)
    ended = running.end()

    assert ended.status == 2
    assert "2 passed" in ended.out
    assert "gencore: cancelled by SIGINT to the controller: test_a.py::test_hang, call, for " in ended.err
    assert "2 captured" in ended.out
    cases = {case.name: case for case in read_junit(project.folder / "j.xml")}
    assert cases.keys() == {"test_one", "test_two", "test_hang", "test_other"}
    named = cases["test_hang"].archives + cases["test_other"].archives
    assert sorted(named) == [str(path) for path in project.find_archives()]
    assert len(named) == 2


@pytest.mark.slow
def test_workers_interrupted_early(project: Project) -> None:
    running = start_workers(project)

    running.process.send_signal(signal.SIGINT)
    ended = running.end()

    assert ended.status == 2
    assert ended.err.count("gencore: waits for queue.get() of an empty queue") == 2
    assert not project.find_archives()
    assert "= gencore =" not in ended.out


def test_controller_that_hangs(project: Project) -> None:
    """Its workers have nothing to do."""
    project.write(
        conftest="""
        import os, pathlib, time
        def pytest_runtest_logreport(report):
            if "PYTEST_XDIST_WORKER" not in os.environ and report.when == "teardown":
                pathlib.Path("here").touch()
                time.sleep(1000)
        """,
        test_a="def test_one(): pass",
    )
    running = project.start(*QUICK, "-n2")

    cancel(project, running, signal.SIGTERM)
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert "in pytest_runtest_logreport\n" in ended.err
    assert ": controller of pytest-xdist, for " in ended.err
    assert ended.announced() == [str(project.only_archive())]
    manifest = read_manifest(project.only_archive())
    assert (manifest["place"], manifest["worker_id"]) == ("controller of pytest-xdist", None)


def test_worker_that_is_terminated(project: Project) -> None:
    """Alone, as by somebody who has found it in a list of processes: the report of its end says so."""
    project.write(test_a=HANG)
    running = project.start(*QUICK, "-n1", "--max-worker-restart=0")
    wait_until((project.folder / "here").exists, "the test runs")

    psutil.Process(running.process.pid).children()[0].terminate()
    ended = running.end()

    assert ended.status == 1
    assert f"cancelled by SIGTERM (sent by process {os.getpid()}, " in ended.out
    assert ended.counts()["failed"] == 1


def test_text_beside_an_archive_that_is_not_finished(project: Project) -> None:
    """Uploads leave out hidden folders, and the machine may go before the archive is finished."""
    project.write(test_a=HANG)
    running = project.start(*QUICK, "--gencore-max-size=1KB")
    wait_until((project.folder / "here").exists, "the test runs", timeout=30)
    running.process.send_signal(signal.SIGTERM)
    ended = running.end()

    assert "gencore: no core archive: " in ended.err
    (text,) = (project.folder / ARTIFACTS).glob("*.txt")
    assert text.stat().st_mode & 0o777 == 0o600
    assert text.read_text().splitlines()[0] == "waits for queue.get() of an empty queue"
    text.unlink()


def test_test_that_takes_the_signal_itself(project: Project) -> None:
    """It passes, and the junit XML says so: nobody's run is cancelled."""
    project.write(
        test_a="""
        import os, signal, subprocess, time
        import pytest
        def test_it():
            with pytest.raises(KeyboardInterrupt):
                subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -INT {os.getpid()}"])
                time.sleep(100)
        """
    )
    for after in ("0", "10s"):
        ended = project.run(
            *QUICK, "--junitxml=j.xml", f"--gencore-interrupt-after={after}", "--gencore-children=dump"
        )

        assert ended.counts()["passed"] == 1
        assert [case.results for case in read_junit(project.folder / "j.xml")] == [()]
