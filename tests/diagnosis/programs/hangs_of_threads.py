"""Hangs of threads: each test is captured at its deadline, then ended by pytest-timeout."""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
import socket
import threading
import time

ledger, accounts = threading.Lock(), threading.Lock()
vault, drawer = threading.RLock(), threading.RLock()
both = threading.Barrier(2)


def start(function, name):
    thread = threading.Thread(target=function, name=name, daemon=True)
    thread.start()
    return thread


def in_both(first, second, meeting):
    with first:
        meeting.wait()
        with second:
            pass


def test_two_locks():
    start(lambda: in_both(ledger, accounts, both), "rival-thread")
    with accounts:
        both.wait()
        with ledger:
            pass


def test_two_rlocks():
    meeting = threading.Barrier(2)
    start(lambda: in_both(vault, drawer, meeting), "rival-thread")
    in_both(drawer, vault, meeting)


def test_lock_twice():
    lock = threading.Lock()
    with lock:
        lock.acquire()


class Account:
    def __init__(self):
        self.lock = threading.RLock()


def test_lock_of_an_object():
    account, taken = Account(), threading.Event()

    def close():
        with account.lock:
            taken.set()
            time.sleep(1000)

    start(close, "closer")
    taken.wait()
    with account.lock:
        pass


@contextlib.contextmanager
def locked(lock):
    with lock:
        yield


def test_lock_behind_a_generator():
    lock, taken = threading.Lock(), threading.Event()

    def hold():
        with locked(lock):
            taken.set()
            time.sleep(1000)

    start(hold, "holder")
    taken.wait()
    lock.acquire()


def test_lock_in_an_exit_stack():
    lock, taken = threading.Lock(), threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            lock.acquire()
            stack.push(lock.__exit__)  # as enter_context does from 3.15 on
            taken.set()
            time.sleep(1000)

    start(hold, "holder")
    taken.wait()
    lock.acquire()


def test_lock_without_with():
    lock = threading.Lock()
    lock.acquire()
    try:
        lock.acquire()
    finally:
        lock.release()


def test_join():
    never = threading.Event()
    start(never.wait, "worker").join()


def test_get():
    jobs = queue.Queue()
    jobs.get()


def test_put():
    jobs = queue.Queue(maxsize=1)
    jobs.put(1)
    jobs.put(2)


def test_queue_join():
    jobs = queue.Queue()
    jobs.put(1)
    jobs.join()


def test_simple_queue():
    letters = queue.SimpleQueue()
    letters.get()


def test_condition():
    changed = threading.Condition()
    with changed:
        changed.wait()


def test_event():
    never = threading.Event()
    never.wait()


def test_barrier():
    gate = threading.Barrier(3)
    gate.wait()


def test_semaphore():
    slots = threading.Semaphore(1)
    slots.acquire()
    slots.acquire()


def test_pool_that_waits_for_itself():
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="pool")
    inner = None

    def outer():
        nonlocal inner
        inner = pool.submit(print)
        inner.result()

    try:
        pool.submit(outer).result()
    finally:
        inner.cancel()


def test_future_behind_our_lock():
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="pool")
    lock = threading.Lock()

    def job():
        with lock:
            pass

    with lock:
        pool.submit(job).result()


def test_sleep():
    time.sleep(1000)


def test_recv():
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    client.recv(10)
