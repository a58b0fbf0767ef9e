"""Children by fork that hang are told with what they wait for; no other child is touched."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

import pytest
from gencore_archives import read_member
from kernel import wait_until
from projects import EXITS, QUICK, Project

from pytest_gencore.machine.process import state_of

ADVICE = "the classical deadlock after fork (use spawn or forkserver, or fork before threads start)"
LOGGING = """
    import logging, multiprocessing, threading
    inside = threading.Event()
    class AuditHandler(logging.Handler):  # logging makes new locks in a child, but not this one
        def __init__(self):
            super().__init__()
            self.audit = threading.Lock()
        def emit(self, record):
            with self.audit:
                inside.set()
                threading.Event().wait()
    log = logging.getLogger("audit")
    log.addHandler(AuditHandler())
    def test_child():
        threading.Thread(target=log.error, args=("parent",), name="chatter", daemon=True).start()
        inside.wait()
        child = multiprocessing.get_context("fork").Process(target=log.error, args=("child",))
        child.start()
        child.join()
"""
OTHERS = """
    import multiprocessing, os, threading, time
    lock, rlock, inside = threading.Lock(), threading.RLock(), threading.Event()
    def keep():
        with rlock:
            inside.set()
            threading.Event().wait()
    def take(what):
        with what:
            pass
    def fork(function, *arguments):
        child = os.fork()
        if child == 0:
            function(*arguments)
            os._exit(0)
        return child
    def test_owner():
        threading.Thread(target=keep, name="keeper", daemon=True).start()
        inside.wait()
        os.waitpid(fork(take, rlock), 0)
    def test_given_back():
        lock.acquire()
        child = fork(take, lock)
        lock.release()
        os.waitpid(child, 0)
    def test_own_deadlock():
        def both(first, second, met):
            with first:
                met.wait()
                with second:
                    pass
        def child():
            a, b, met = threading.Lock(), threading.Lock(), threading.Barrier(2)
            threading.Thread(target=both, args=(b, a, met), name="rival", daemon=True).start()
            both(a, b, met)
        os.waitpid(fork(child), 0)
    def test_grandchild():
        lock.acquire()
        os.waitpid(fork(lambda: os.waitpid(fork(take, lock), 0)), 0)
    def take_lock():
        take(lock)
    def end():
        os._exit(3)
    def test_pool():
        lock.acquire()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.apply(take_lock)
    def test_pool_that_lost_its_work():
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.apply(end)
    def test_sleep():
        os.waitpid(fork(lambda: time.sleep(1000)), 0)
"""
SPARED = """
    import os, signal, threading, time
    def test_many():
        readings, names = [], {}
        def start(name, function):
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                function(writing)
                os._exit(0)
            os.close(writing)
            assert os.read(reading, 1) == b"."
            readings.append(reading)
            names[name] = child
        def program(file):
            os.dup2(file, 1)
            os.execlp("sh", "sh", "-c", "printf .; exec sleep 1000")
        def blocked(file):
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            os.write(file, b".")
            time.sleep(1000)
        def stopped(file):
            os.write(file, b".")
            os.kill(os.getpid(), signal.SIGSTOP)
        def pauses(file):
            os.write(file, b".")
            signal.pause()
        def usual(file):
            os.write(file, b".")
            threading.Event().wait()
        reading, writing = os.pipe()
        def reads(file):
            os.write(file, b".")
            with open("read", "wb") as found:
                found.write(os.read(reading, 1))
            os.rename("read", "has-read")
        for name, function in {**locals()}.items():
            if name in ("program", "blocked", "stopped", "pauses", "usual", "reads"):
                start(name, function)
        with open("children", "w") as file:
            file.write(repr(names))
        with open("go"):  # hangs here until its capture
            os.write(writing, b"x")
        time.sleep(1000)
"""


def hang_of(project: Project, *arguments: str) -> dict[str, Any]:
    """Run until the hang is captured; return its diagnosis."""
    running = project.start(*QUICK, "--gencore-timeout=1", *arguments)
    try:
        (archive,) = project.wait_for_archives()
    finally:
        running.kill()
    return dict(json.loads(read_member(archive, "diagnosis.json")))


def verdict_of(diagnosis: dict[str, Any]) -> str:
    """Return the verdict without what differs from run to run."""
    return re.sub(r"\d+ \(forked\)", "N (forked)", diagnosis["verdict"]["text"])


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("arguments", [(), EXITS, ("-n2", *EXITS)], ids=["waits", "exits", "worker exits"])
def test_lock_of_a_handler_held_across_a_fork(project: Project, arguments: tuple[str, ...]) -> None:
    project.write(test_a=LOGGING)

    diagnosis = hang_of(project, *arguments)

    assert verdict_of(diagnosis) == (
        "waits for child N (forked): MainThread (test_a.py:9) waits for lock 'AuditHandler.audit', which no "
        f"`with` of the child holds; in the parent it is held by chatter (test_a.py:9): probably {ADVICE}"
    )
    (child,) = diagnosis["forked"]
    (wait,) = [thread["wait"] for thread in child["threads"]]
    assert wait["kind"] == "lock"
    assert any(line.startswith("    MainThread (test_a.py:9) waits") for line in diagnosis["lines"])


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(
    ("test", "told"),
    [
        ("test_owner", "lock 'rlock' held by keeper, a thread of the parent that was not copied: {advice}"),
        (
            "test_given_back",
            "which no `with` of the child holds: probably it was locked at the fork, {advice}",
        ),
        ("test_own_deadlock", "child N (forked): deadlock: MainThread waits for lock 'second' held by rival"),
        ("test_grandchild", "child N (forked): MainThread (test_a.py:9) waits for lock 'lock', which"),
        ("test_sleep", "child N (forked): MainThread (test_a.py:52) waits for sleep(1000)"),
    ],
)
def test_what_a_child_waits_for(project: Project, test: str, told: str) -> None:
    project.write(test_a=OTHERS)

    verdict = verdict_of(hang_of(project, f"test_a.py::{test}"))

    assert "child N (forked): " in verdict
    assert told.format(advice=ADVICE) in verdict


def test_children_are_not_harmed(project: Project) -> None:
    project.write(test_a=SPARED)
    os.mkfifo(project.folder / "go")

    running = project.start(*QUICK, "--gencore-timeout=1")
    try:
        (archive,) = project.wait_for_archives()
        children = eval((project.folder / "children").read_text())
        states = {name: state_of(pid) for name, pid in children.items() if name != "reads"}
        os.kill(children["stopped"], signal.SIGCONT)
        (project.folder / "go").open("w").close()
        wait_until((project.folder / "has-read").exists, "the interrupted read goes on")
    finally:
        running.kill()

    assert states == {"program": "S", "blocked": "S", "stopped": "T", "pauses": "S", "usual": "S"}
    asked = {child["pid"] for child in json.loads(read_member(archive, "diagnosis.json"))["forked"]}
    assert asked == {children["usual"], children["reads"]}


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(
    ("test", "told"),
    [
        ("test_pool", "child N (forked): MainThread (test_a.py:9) waits for lock 'lock', which no `with`"),
        ("test_pool_that_lost_its_work", "all of them wait for work; probably the one that had it has ended"),
    ],
)
def test_pool_of_processes(project: Project, test: str, told: str) -> None:
    project.write(test_a=OTHERS)

    verdict = verdict_of(hang_of(project, f"test_a.py::{test}"))

    assert verdict.startswith(f"waits for a result of a pool of 2 child processes: {told}")
