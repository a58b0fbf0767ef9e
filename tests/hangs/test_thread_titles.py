"""What is said of threads: each stands once, under its native id, and no guess is told as a fact."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_manifest, read_member
from projects import EXITS, QUICK

if TYPE_CHECKING:
    from pathlib import Path

    from projects import Project

pytestmark = pytest.mark.field

PYSTACK = [pytest.param(True, id="pystack", marks=needs("pystack")), pytest.param(False, id="without")]
TITLE = re.compile(r"^Thread .*most recent call last:$", re.MULTILINE)


def titles_of(archive: Path) -> list[str]:
    """Return the titles of the threads in ``stacks.txt``."""
    return TITLE.findall(read_member(archive, "stacks.txt").decode())


THREADS = """
    import _thread, threading, time
    def work(ready):
        ready.set()
        time.sleep(1000)
    def start_threads():
        events = [threading.Event(), threading.Event()]
        threading.Thread(target=work, args=events[:1], daemon=True).start()
        _thread.start_new_thread(work, tuple(events[1:]))  # as execnet does: threading does not know it
        for event in events:
            event.wait()
    def test_failure():
        start_threads()
        assert 0
    def test_hang():
        start_threads()
        time.sleep(1000)
"""


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(
    ("workers", "pystack"),
    [
        pytest.param("-n1", True, marks=needs("pystack")),
        pytest.param("-n2", True, marks=needs("pystack")),
        ("-n1", False),
    ],
)
def test_every_thread_stands_once(project: Project, workers: str, pystack: bool) -> None:
    project.write(test_a=THREADS)

    ended = project.run(workers, *QUICK, "--gencore-timeout=1.5", *EXITS, pystack=pystack)

    assert ended.counts() == {"failed": 2}
    archives = project.archives()
    assert sorted(archives) == ["test_a.py::test_failure call", "test_a.py::test_hang call"]
    for archive in archives.values():
        titles = titles_of(archive)
        listed = [int(native_id) for title in titles for native_id in re.findall(r", native id (\d+)", title)]
        threads = [thread["tid"] for thread in read_manifest(archive)["threads"]]
        assert sorted(listed) == sorted(threads), titles
        assert len(titles) == len(threads) >= 4, titles
    assert "ident 0x" not in ended.out


FAILURES = """
    import queue, threading
    lock = threading.Lock()
    def test_join():
        thread = threading.Thread(target=int); thread.start()
        thread.join(); assert 0
    def test_with():
        with lock: assert 0
    def test_acquire():
        lock.acquire(); assert 0
    def test_wait():
        threading.Event().wait(0.01); assert 0
    def test_empty():
        queue.Queue().get(timeout=0.01)
"""


@pytest.mark.slow
@pytest.mark.parametrize("pystack", PYSTACK)
def test_a_failing_thread_does_not_wait(project: Project, pystack: bool) -> None:
    """It ran our hook; whatever stands on the line of the failure."""
    project.write(test_a=FAILURES)

    ended = project.run(*QUICK, pystack=pystack)

    assert ended.counts() == {"failed": 5}
    archives = project.archives()
    assert len(archives) == 5
    assert len(re.findall(r"^Thread MainThread, .*, ran the test,", ended.out, re.MULTILINE)) == 5
    titles = [title for archive in archives.values() for title in titles_of(archive)]
    for title in [*titles, *TITLE.findall(ended.out)]:
        assert "waiting" not in title
        assert "threading" not in title


HANGS = """
    import threading, time
    taken = threading.Lock()
    taken.acquire()
    def test_with():
        with taken: pass
    def test_event():
        threading.Event().wait()
    def test_join():
        thread = threading.Thread(target=time.sleep, args=(1000,), daemon=True); thread.start()
        thread.join()
    def test_sleep():
        with threading.Lock(): time.sleep(1000)
"""
IN_THREADING = {
    "test_event": r", in threading's (?:Condition\.)?wait\(\),",
    "test_join": r", in threading's (?:Thread\.)?(?:join|_wait_for_tstate_lock)\(\),",
}


@pytest.mark.slow
@pytest.mark.parametrize("pystack", PYSTACK)
def test_a_hanging_thread_waits_for_what_is_known(project: Project, pystack: bool) -> None:
    """A lock of C code has no Python frame: native frames tell, and without them it is not said."""
    project.write(test_a=HANGS)

    ended = project.run("-n1", *QUICK, "--gencore-timeout=1", *EXITS, pystack=pystack)

    assert ended.counts() == {"failed": 4}
    archives = project.archives()
    for name in ("test_with", "test_event", "test_join", "test_sleep"):
        (title,) = [
            title for title in titles_of(archives[f"test_a.py::{name} call"]) if "ran the test" in title
        ]
        assert ("waiting for a lock" in title) is (pystack and name == "test_with"), title
        assert title.count("waiting") <= 1
        assert ("threading" in title) is (name in IN_THREADING), title
        assert re.search(IN_THREADING.get(name, ""), title)


DEEP = """
    import threading
    def walk(depth):
        threading.Event().wait() if depth == 0 else walk(depth - 1)
    def test_walk(): walk(150)
"""


@pytest.mark.slow
@pytest.mark.parametrize("pystack", PYSTACK)
def test_deep_recursion(project: Project, pystack: bool) -> None:
    """faulthandler's walk ends before it comes to the test, and that is said; pystack's does not."""
    project.write(test_a=DEEP)

    ended = project.run(*QUICK, "--gencore-timeout=1", *EXITS, pystack=pystack)

    text = read_member(project.only_archive(), "stacks.txt").decode()
    said = "  ... outer frames not known: faulthandler stops at 100\n"
    assert said in ended.err
    assert (said in text) is not pystack
    assert (", in test_walk\n" in text) is pystack
