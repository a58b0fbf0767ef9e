"""Children of tests: their crashes, and where they stand when their parent hangs; nothing else changes."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest, read_member
from kernel import wait_until
from oracles import run_tool
from projects import ARTIFACTS, EXITS, OPENED, QUICK, SUPPORT

if TYPE_CHECKING:
    from projects import Project

CRASHES = """
    import ctypes, multiprocessing, os, subprocess, sys
    import pytest

    def crash():
        ctypes.string_at(8)

    def test_fork():
        child = os.fork()
        if not child:
            crash()
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 11

    @pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
    def test_process(how):
        process = multiprocessing.get_context(how).Process(target=crash)
        process.start()
        process.join()
        assert process.exitcode == -11

    def test_program():
        script = "import ctypes; ctypes.string_at(8)"
        assert subprocess.run([sys.executable, "-c", script]).returncode == -11
"""
TREE = """
    import multiprocessing, os, pathlib, subprocess, time
    import pytest

    def work(folder):
        child = subprocess.Popen(["sleep", "1000"])
        pathlib.Path(folder, str(os.getpid())).touch()
        child.wait()

    @pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
    def test_pool(how, tmp_path):
        pool = multiprocessing.get_context(how).Pool(4)
        pool.map_async(work, [tmp_path] * 4, chunksize=1)
        while len(list(tmp_path.iterdir())) < 4:
            time.sleep(0.01)
        pathlib.Path("here").touch()
        pool.close()
        pool.join()
"""


@pytest.mark.slow
@pytest.mark.field
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_crashes(project: Project, workers: list[str]) -> None:
    project.write(test_a=CRASHES)

    ended = project.run(*OPENED, "-p", "no:faulthandler", *workers)

    assert ended.status == 0
    assert ended.counts()["passed"] == 5
    archives = project.archives()
    assert {name.partition(" ")[0] for name in archives} == {
        "test_a.py::test_fork",
        *(f"test_a.py::test_process[{how}]" for how in ("fork", "spawn", "forkserver")),
        "test_a.py::test_program",
    }
    for path in archives.values():
        manifest = read_manifest(path)
        assert manifest["trigger"]["signal"] == "SIGSEGV"
        assert manifest["child_of"] not in (None, manifest["pid"])
        summary = f"at address 0x8 in child {manifest['pid']} ("
        assert ended.out.count(f"\n{'SIGSEGV (SEGV_MAPERR: address not mapped)'} {summary}") == 1
        assert f" of {manifest['nodeid']}" in read_member(path, "stacks.txt").decode().splitlines()[0]
        folder = project.unpack(path)
        told = run_tool("gdb", "-q", "-batch", "-x", "open.gdb", "-ex", "bt 3", cwd=folder)
        assert "terminated with signal SIGSEGV" in told
    shown = project.gencore("show", path).out
    assert f"\nprocess    {manifest['pid']}, child of process {manifest['child_of']}, CPython " in shown
    stacks = project.gencore("stacks", path).out
    assert stacks.startswith(f"crash of a child of {manifest['nodeid']}, process {manifest['pid']}\n")
    listed = project.gencore("list", ARTIFACTS).out
    assert listed.count("  crash  a child of test_a.py::test_") == 5


@pytest.mark.slow
@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_tree(project: Project, how: str) -> None:
    project.write(test_a=TREE)
    dumps = ("-v", "--gencore-children=dump", "--gencore-timeout=3", "-k", f"[{how}]")

    running = project.start(*QUICK, "-p", "no:faulthandler", *dumps, *EXITS)
    running.process.wait(60)
    running.kill_group()  # the pool's processes have its standard error
    ended = running.end()

    lines = ended.err.splitlines()
    assert sum(" sleep 1000, sleeping in " in line and line.startswith("  child ") for line in lines) == 4
    assert all(" % CPU over " in line for line in lines if line.startswith("  child "))
    (title,) = [
        title
        for title, *body in zip(lines, lines[1:], lines[2:], lines[3:], strict=False)
        if title.startswith("Stack of child ") and any("in work" in line for line in body)
    ]
    assert title.count("child ") == 4
    manifests = [read_manifest(path) for path in project.find_archives()]
    (parent,) = [manifest["pid"] for manifest in manifests if manifest["child_of"] is None]
    children = {manifest["pid"]: manifest for manifest in manifests if manifest["child_of"] == parent}
    assert {int(word) for word in title.replace(",", " ").split() if word.isdecimal()} <= children.keys()
    assert {manifest["trigger"]["kind"] for manifest in children.values()} == {"child"}
    assert {manifest["nodeid"] for manifest in children.values()} == {f"test_a.py::test_pool[{how}]"}


def test_cancel_lists_them(project: Project) -> None:
    project.write(test_a=TREE)
    running = project.start(*QUICK, "-v", "-p", "no:faulthandler", "-k", "[spawn]")
    wait_until((project.folder / "here").exists, "the pool works", timeout=30)
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(60)
    running.kill_group()
    ended = running.end()

    assert ended.status == -signal.SIGTERM
    assert ended.err.count(": sleep 1000, sleeping in ") >= 4
    assert ", in work" in ended.err
    assert len(project.find_archives()) == 1


def test_none(project: Project) -> None:
    project.write(
        test_a=CRASHES + '    def test_same(): assert os.environ["PYTHONPATH"] == os.environ["SAME"]\n'
    )

    ended = project.run(*QUICK, "--gencore-children=none", environment={"SAME": str(SUPPORT)})

    assert ended.counts() == {"passed": 6}
    assert not project.find_archives()


def test_programs_do_not_notice(project: Project) -> None:
    """The path of modules, a ``sitecustomize`` of the user's own, its errors, and programs without it."""
    (project.folder / "sitecustomize.py").write_text("import sys; sys.seen = __file__\n")
    (project.folder / "bad").mkdir()
    (project.folder / "bad" / "sitecustomize.py").write_text("1 / 0\n")
    project.write(
        test_a="""
        import os, subprocess, sys
        SCRIPT = '''
        import sys
        print(sys.path, getattr(sys, "seen", None), sorted(name for name in sys.modules if "custom" in name))
        '''.replace("        ", "")
        def say(*flags, **environment):
            program = [sys.executable, *flags, "-c", SCRIPT]
            ended = subprocess.run(program, env={**os.environ, **environment}, capture_output=True)
            return ended.stdout, ended.stderr
        def test_it():
            ours, *others = os.environ["PYTHONPATH"].split(os.pathsep)
            for other in ("", os.pathsep.join(others), os.getcwd(), os.path.abspath("bad")):
                for flags in ((), ("-I",), ("-S",), ("-E",), ("-s",)):
                    both = say(*flags, PYTHONPATH=f"{ours}{os.pathsep}{other}" if other else ours)
                    if flags == ("-S",):
                        both = both[0].replace(f"{ours!r}, ".encode(), b""), both[1]
                    assert both == say(*flags, PYTHONPATH=other)
        """,
        conftest="""
        import os
        before = os.environ["PYTHONPATH"]
        def pytest_unconfigure():
            assert os.environ["PYTHONPATH"] == before
            open("restored", "w").close()
        """,
    )

    ended = project.run(*QUICK)

    assert ended.counts() == {"passed": 1}
    assert (project.folder / "restored").exists()


def test_forked_while_another_thread_captures(project: Project) -> None:
    """A child has a copy of an engine at work, and none of the threads that would finish it."""
    project.write(
        test_a="""
        import ctypes, os, threading
        import pytest
        def test_it(gencore):
            over = threading.Event()
            def capture():
                while not over.is_set():
                    os.unlink(gencore.create_core().result())
            thread = threading.Thread(target=capture)
            thread.start()
            statuses = set()
            for _ in range(8):
                child = os.fork()
                if not child:
                    ctypes.string_at(8)
                statuses.add(os.waitpid(child, 0)[1] & 127)
            over.set()
            thread.join()
            assert statuses == {11}
        """
    )

    ended = project.run(*QUICK, "-p", "no:faulthandler")

    assert ended.counts()["passed"] == 1
    children = [read_manifest(path)["child_of"] for path in project.find_archives()]
    assert len(children) == 1
    assert None not in children


def test_child_that_has_our_descriptor_for_something_else(project: Project) -> None:
    """Nothing is written to what the test run's standard error was."""
    project.write(
        test_a="""
        import ctypes, os
        def test_it():
            child = os.fork()
            if not child:
                for number in range(3, 64):
                    file = os.open(f"file{number}", os.O_WRONLY | os.O_CREAT)
                    os.dup2(file, number, inheritable=True)
                ctypes.string_at(8)
            assert os.waitpid(child, 0)[1] & 127 == 11
        """
    )

    ended = project.run(*QUICK, "-p", "no:faulthandler", "--gencore-max-cores=0")

    assert ended.counts() == {"passed": 1}
    assert {path.stat().st_size for path in project.folder.glob("file*")} == {0}


def test_environment_without_a_run(project: Project) -> None:
    """A program that outlives the run finds nothing, and says nothing."""
    project.write(test_a='import os\ndef test_it(): open("path", "w").write(os.environ["PYTHONPATH"])\n')
    assert project.run(*QUICK).counts() == {"passed": 1}

    path = (project.folder / "path").read_text()
    command = ("env", f"PYTHONPATH={path}", *("python3", "-c", "print('alive')"))

    assert run_tool(*command) == "alive\n"
    assert not os.path.lexists(path.partition(os.pathsep)[0])


@pytest.mark.slow
@pytest.mark.parametrize("before", [None, "", "/somewhere"])
def test_variable(project: Project, before: str | None) -> None:
    """It is as it was afterwards, and a folder whose name would be two entries is in none."""
    project.write(
        test_a="import os\ndef test_it(): open('path', 'w').write(os.environ.get('PYTHONPATH', 'unset'))\n",
        conftest="""
        import os
        def pytest_unconfigure():
            open("after", "w").write(repr(os.environ.get("PYTHONPATH")))
        """,
    )
    unset = ("env", "-u", "PYTHONPATH") if before is None else ("env", f"PYTHONPATH={before}")
    options = tuple(option for option in QUICK if "without_pystack" not in option)
    program = (*unset, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options)

    for directory, count in (("out", 1), ("a:b", 0)):
        run_tool(*program, f"--gencore-dir={directory}", cwd=project.folder)

        entries = (project.folder / "path").read_text().split(os.pathsep)
        assert sum("/.gencore-" in entry for entry in entries) == count
        assert "" not in entries or (before == "" and not count)
        assert (project.folder / "after").read_text() == repr(before)
