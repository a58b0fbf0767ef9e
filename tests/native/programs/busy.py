"""CAPTURES HELPERS DIRECTORY [real]: 64 threads block in every way or compute; print what they computed.

Captures run with a collector that does nothing, so that many are quick; ``real`` adds some with the true one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import select
import sys
import threading
import time
from pathlib import Path

from pytest_gencore import create_core
from pytest_gencore.capture import _native
from pytest_gencore.protocol import Stage

CAPTURES, HELPERS, DIRECTORY = int(sys.argv[1]), ctypes.CDLL(sys.argv[2]), Path(sys.argv[3])
HELPERS.chaos.restype = ctypes.c_double
HELPERS.chaos.argtypes = [ctypes.c_double, ctypes.c_long]
LIBC = ctypes.CDLL(None, use_errno=True)
GROUP = 10
START = time.monotonic()

results: dict[str, object] = {}
ready = threading.Semaphore(0)
finished = threading.Event()
word = ctypes.c_int(0)
semaphore = ctypes.create_string_buffer(64)
LIBC.sem_init(semaphore, 0, 0)


def wait_for_semaphore(_: int) -> object:
    ready.release()
    return LIBC.sem_wait(semaphore)


def wait_in_poll(_: int) -> object:
    descriptor, end = os.pipe()
    ends.append(end)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    ready.release()
    return [event for _, event in poll.poll()]


def read_a_pipe(_: int) -> object:
    descriptor, end = os.pipe()
    ends.append(end)
    ready.release()
    return os.read(descriptor, 5)


def wait_on_futex(_: int) -> object:
    ready.release()
    return LIBC.syscall(202, ctypes.byref(word), 128, 0, None, None, 0), ctypes.get_errno()


def sleep_until_the_end(_: int) -> object:
    """Sleep in pieces until it is over; each piece must have its full length."""
    ready.release()
    short = 0
    while not finished.is_set():
        before = time.monotonic()
        time.sleep(0.2)
        short += time.monotonic() - before < 0.2
    return short


def wait_for_a_lock(_: int) -> object:
    ready.release()
    return finished.wait()


def switch_and_hash(number: int) -> object:
    ready.release()
    value = str(number).encode()
    for _ in range(30_000):
        value = hashlib.sha256(value).digest()
    return value.hex()


def compute_in_c(number: int) -> object:
    ready.release()
    return {HELPERS.chaos(0.1 + number / 100, 20_000_000) for _ in range(3)}


ends: list[int] = []
WORK = [
    *((wait_for_semaphore, number) for number in range(GROUP)),
    *((wait_in_poll, number) for number in range(GROUP)),
    *((read_a_pipe, number) for number in range(GROUP)),
    *((wait_on_futex, number) for number in range(GROUP)),
    *((sleep_until_the_end, number) for number in range(GROUP)),
    *((wait_for_a_lock, number) for number in range(GROUP)),
    *((switch_and_hash, number) for number in range(2)),
    *((compute_in_c, number) for number in range(2)),
]


def main() -> None:
    sys.setswitchinterval(1e-4)
    threads = []
    for function, number in WORK:
        name = f"{function.__name__} {number}"
        run = lambda f=function, n=number, name=name: results.__setitem__(name, f(n))  # noqa: E731
        threads.append(threading.Thread(target=run))
        threads[-1].start()
    for _ in threads:
        ready.acquire()
    plan = _native.prepare([b"/bin/true"], [], os.fsencode(DIRECTORY), b".run", [b""] * len(Stage), -1, -1)
    for _ in range(CAPTURES):
        stage, error, *_rest = _native.capture(plan, b"", "{}", 0, True, None, 0.0)
        assert stage == 0, (stage, error)
    futures = [
        create_core(DIRECTORY, method="memory", core_filter=1) for _ in range(5 if sys.argv[4:] else 0)
    ]
    for future in futures:
        assert future.result(60).stat().st_size
    finished.set()
    word.value = 1
    LIBC.syscall(202, ctypes.byref(word), 129, 1000, None, None, 0)
    for _ in range(GROUP):
        LIBC.sem_post(semaphore)
    for end in ends:
        os.write(end, b"hello")
    for thread in threads:
        thread.join()
    for name in sorted(results):
        print(name, results[name])
    print(f"{len(WORK)} threads, {time.monotonic() - START:.1f} s", file=sys.stderr)


main()
