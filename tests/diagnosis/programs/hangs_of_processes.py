"""Hangs with other processes and descriptors: each is captured at its deadline, then ended."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import subprocess
import time

import pytest


@pytest.fixture
def child():
    children = []
    yield children.append
    for one in children:
        one.kill()
        one.wait()


def test_full_pipe(child):
    process = subprocess.Popen(["head", "-c200000", "/dev/zero"], stdout=subprocess.PIPE)
    child(process)
    process.wait()


def test_sleeping_child(child):
    process = subprocess.Popen(["sleep", "1000"])
    child(process)
    process.wait()


def test_read_of_a_pipe():
    reading, _ = os.pipe()
    os.read(reading, 10)


def test_write_to_a_pipe():
    _, writing = os.pipe()
    while True:
        os.write(writing, b"x" * 4096)


def test_flock(tmp_path, child):
    path = tmp_path / "lock"
    path.touch()
    process = subprocess.Popen(["flock", "-F", path, "sleep", "1000"])
    child(process)
    with path.open() as file:
        while True:  # until the other one has it
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                break
            fcntl.flock(file, fcntl.LOCK_UN)
            time.sleep(0.01)
        fcntl.flock(file, fcntl.LOCK_EX)


def test_process_join():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,), daemon=True)
    process.start()
    try:
        process.join()
    finally:
        process.kill()
        process.join()


def test_busy():
    while True:
        pass


def test_module_import(tmp_path, monkeypatch):
    (tmp_path / "slow_mod.py").write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import slow_mod  # noqa: F401
