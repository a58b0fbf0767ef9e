"""Be captured at random moments of busy code; print what the probe of each capture said.

Arguments: a folder, the kind of work, how many captures, how many threads work beside, a seed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import socket
import struct
import sys
import threading
import time
import zlib
from pathlib import Path

from subjects import Captures, report

from pytest_gencore.capture import CaptureRequest, _native, start
from pytest_gencore.probe import main as probe
from pytest_gencore.probe import values

COLLECTOR = """
import sys; sys.path += sys.argv[1:]
import os, time
from pytest_gencore.collector.diagnosis.diagnosis import _PROBE_MILLISECONDS
from pytest_gencore.collector.source.handover import parse_handover
from pytest_gencore.collector.source.snapshot import Snapshot
os.chdir("/")
with open(3, "rb") as file:
    handover = parse_handover(file.read())
snapshot = Snapshot(handover.snapshot_pid, 6, 7)
started = time.monotonic()
data = snapshot.probe(handover.probe_function, _PROBE_MILLISECONDS)
data += b"%f" % (time.monotonic() - started)
snapshot.end()
part = handover.directory / f"{handover.name}.part"
part.write_bytes(data)
part.rename(part.with_suffix(".said"))
"""


def spin():
    for _ in range(1000):
        pass


def encode():
    json.loads(json.dumps([{"a": "x" * 200, "b": list(range(50))} for _ in range(20)]))


def allocate():
    [bytearray(1000 + 37 * number) for number in range(200)]


def collect():
    gc.collect()


def recurse():
    def fib(number):
        return number if number < 2 else fib(number - 1) + fib(number - 2)

    fib(12)


DATA = random.Random(0).randbytes(300_000)


def compress():
    zlib.compress(DATA, 1)
    bytearray(2_000_000)


def compute():
    sum(range(1_000_000))


def throw():
    try:
        {}["missing"]
    except KeyError as error:
        str(error)


def generate():
    sum(number for number in range(1000))


def change_dicts():
    names = {f"key{number}": number for number in range(200)}
    for name in list(names):
        del names[name]


def make_threads():
    thread = threading.Thread(target=spin)
    thread.start()
    thread.join()


def change_the_list():
    """Stand, with the GIL, where the last object of the collector's list is not known."""
    filled, empty = SOCKETS
    empty.send(bytes(8))
    received = LIBC.recv(filled.fileno(), ctypes.c_void_p(find_young() + 8), 16, socket.MSG_WAITALL)
    assert received == 8, "it was not interrupted: no such address"


def lock_the_threads():
    """Have the lock of CPython's lists of interpreters and threads, as whoever starts a thread."""
    with locked_threads(find_interpreters()):
        spin()


@contextlib.contextmanager
def locked_threads(interpreters):
    if sys.version_info >= (3, 13):
        byte = ctypes.c_uint8.from_address(interpreters)  # a PyMutex
        byte.value = 1
        yield
        byte.value = 0
    else:
        lock = ctypes.c_void_p.from_address(interpreters)
        assert ctypes.pythonapi.PyThread_acquire_lock(lock, 1)
        yield
        ctypes.pythonapi.PyThread_release_lock(lock)


def find_interpreters():
    """Return the address of ``_PyRuntime.interpreters``: a lock, the newest interpreter, the main one."""
    runtime = ctypes.addressof(ctypes.c_char.in_dll(ctypes.pythonapi, "_PyRuntime"))
    interpreter = ctypes.pythonapi.PyInterpreterState_Main
    interpreter.restype = ctypes.c_void_p
    found = ctypes.string_at(runtime, 4096).find(struct.pack("@PP", interpreter(), interpreter()))
    assert found > 0
    return runtime + found - struct.calcsize("P")


SOCKETS = socket.socketpair()
LIBC = ctypes.PyDLL(None)


def find_young():
    """Return the address of the list of young objects: it follows the newest one."""
    newest = []
    node = id(newest) - 16
    while values._object(node + 16)[1]:
        node = values._word_at(node) & ~3
    return node


KINDS = {
    function.__name__: function
    for function in (
        spin,
        encode,
        allocate,
        collect,
        recurse,
        compress,
        compute,
        throw,
        generate,
        change_dicts,
        make_threads,
        change_the_list,
        lock_the_threads,
    )
}


def replace_collector():
    describe = start.collector_command

    def command(**options):
        parts = describe(**options)
        parts[parts.index("-c") + 1] = COLLECTOR
        return parts

    start.collector_command = command


def read_answer(path):
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.001)
    said, _, seconds = path.read_bytes().rpartition(b"\n")
    path.unlink()
    return said.decode(errors="replace"), float(seconds)


def main():
    directory, kind, count, beside, seed = sys.argv[1:]
    chosen = random.Random(int(seed))
    replace_collector()
    captures = Captures(directory)
    assert probe.arm()
    is_over = threading.Event()

    def work(function):
        while not is_over.is_set():
            function()

    others = [
        threading.Thread(target=work, args=(chosen.choice([*KINDS.values()][:-2]),), daemon=True)
        for _ in range(int(beside))
    ]
    for thread in others:
        thread.start()
    answers = []
    for number in range(int(count)):
        _native.set_test(json.dumps(f"test_{number}"))  # a test is captured once
        standby = captures.engine.prepare_capture(CaptureRequest(trigger="timeout")).standby
        _native.set_deadline(0, chosen.uniform(0.001, 0.02), standby, False)
        while not _native.deadline_fired(0):
            if kind == "wait":
                time.sleep(0.01)
            else:
                KINDS[kind]()
        _, result = _native.cancel_deadline(0)
        assert result[0] == 0, result
        answers.append(read_answer(Path(directory) / f"{result[2]}.said"))
    is_over.set()
    for thread in others:
        thread.join()
    report(answers=answers)
    os._exit(0)


main()
