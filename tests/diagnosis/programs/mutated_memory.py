"""Tests that are captured while words of objects that the probe reads are overwritten; then all is mended.

Environment: FIRST, the first seed; SEEDS, how many. Each test writes ``SEED.json``: which groups of threads
or tasks were not left as they are, and how.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import pytest

from pytest_gencore.capture._native import peek

HERE = Path(__file__).parent
THREADS = """
import queue, threading
first, second, third = threading.Lock(), threading.Lock(), threading.RLock()
orders, changed, over = queue.Queue(), threading.Condition(), threading.Event()
both, ready = threading.Barrier(2), threading.Semaphore(0)

def take(one, other):
    with one:
        both.wait()
        ready.release()
        with other:
            pass

def keep():
    with third:
        ready.release()
        over.wait()

def want():
    ready.release()
    with third:
        pass

def get():
    ready.release()
    orders.get()

def watch():
    with changed:
        ready.release()
        changed.wait()

def end():
    ready.release()
    threads["get"].join()

def start(group):
    for name, function, arguments in (
        ("pay", take, (first, second)),
        ("refund", take, (second, first)),
        ("keep", keep, ()),
        ("get", get, ()),
        ("watch", watch, ()),
    ):
        threads[name] = threading.Thread(
            target=function, args=arguments, name=f"{group}-{name}", daemon=True
        )
        threads[name].start()
    for _ in threads:
        ready.acquire()
    for name, function in (("want", want), ("end", end)):
        threads[name] = threading.Thread(target=function, name=f"{group}-{name}", daemon=True)
        threads[name].start()
        ready.acquire()

threads = {}
"""
TASKS = """
import asyncio, threading
lock, orders, over = asyncio.Lock(), asyncio.Queue(), asyncio.Event()
threads, tasks, loops = {}, {}, []
ready = threading.Semaphore(0)

async def keep():
    async with lock:
        await orders.get()

async def want():
    async with lock:
        pass

async def follow():
    await tasks["want"]

async def both():
    await asyncio.gather(tasks["keep"], tasks["want"])

async def hope():
    await over.wait()

async def serve(group):
    loops.append(asyncio.get_running_loop())
    for function in (keep, want, follow, both, hope):
        name = function.__name__
        tasks[name] = asyncio.create_task(function(), name=f"{group}-{name}")
    for _ in range(20):
        await asyncio.sleep(0)
    ready.release()
    await asyncio.gather(*tasks.values())

def start(group):
    threads["loop"] = threading.Thread(
        target=lambda: asyncio.run(serve(group)), name=f"{group}-loop", daemon=True
    )
    threads["loop"].start()
    ready.acquire()
"""
"""Code of a group: executed for each anew, so that none has objects of another one."""
GROUPS = {"t0": THREADS, "t1": THREADS, "t2": THREADS, "a0": TASKS, "a1": TASKS}
LIBC = ctypes.CDLL(None)
LIBC_WITH_GIL = ctypes.PyDLL(None)
INSIDE = 3 if sys.version_info >= (3, 11) else 8
"""The word of a frame object that points to its values."""
WILD = (0, 1, 8, 0xDEAD0000, 0x7F0000DEAD0000, 2**47, 2**62, 2**63, 2**64 - 1, 2**64 - 16, 0x4141414141414141)


def start_groups():
    modules = {}
    for group, source in GROUPS.items():
        module = sys.modules[group] = ModuleType(group)
        exec(compile(source, str(HERE / f"{group}.py"), "exec"), vars(module))
        module.start(group)
        modules[group] = module
    steady = 0
    while steady < 20:  # the kernel says when they have come to their waits; nothing here wakes them up
        waiting = [
            Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()[0] == "S"
            for module in modules.values()
            for thread in module.threads.values()
        ]
        steady = steady + 1 if all(waiting) else 0
        time.sleep(0.001)
    return modules


def objects_of(module):
    """Return the objects of a group that the probe reads, and that nobody else uses."""
    names = {name: value for name, value in vars(module).items() if not name.startswith("__")}
    found = [value for value in names.values() if type(value).__module__ in OWNERS]
    found = [value for value in found if type(value) not in SHARED]
    found += [module.threads, vars(module)]
    for thing in [*found, *module.threads.values()]:
        found += [value for value in getattr(thing, "__dict__", {}).values() if type(value) in OWN_TYPES]
        if hasattr(thing, "__dict__"):
            found += [thing, thing.__dict__]
    frames = sys._current_frames()
    for thread in module.threads.values():
        frame = frames[thread.ident]
        while frame is not None:
            found.append(frame)
            if frame.f_code.co_filename.startswith(str(HERE)):
                found.append(frame.f_code)
            frame = frame.f_back
    for task in getattr(module, "tasks", {}).values():
        coroutine = task.get_coro()
        found += [task, task._fut_waiter, coroutine, coroutine.cr_frame]
        if coroutine.cr_await is not None and type(coroutine.cr_await).__name__ == "coroutine":
            found += [coroutine.cr_await, coroutine.cr_await.cr_frame]
    for loop in getattr(module, "loops", ()):
        found += [loop, loop.__dict__, loop._ready, loop._scheduled]
    return [thing for thing in found if thing is not None]


OWNERS = ("_thread", "threading", "queue", "asyncio.locks", "asyncio.queues", "builtins", "collections")
OWN_TYPES = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    type(sys.modules["collections"].deque()),
    list,
    dict,
    *([type(threading.current_thread()._handle)] if hasattr(threading.current_thread(), "_handle") else []),
)
SHARED = (int, str, bytes, float, bool, type(None), type, tuple, ModuleType)


def word_at(address):
    data = peek(address, 8)
    return None if data is None else int.from_bytes(data, "little")


def addresses_of(thing, chosen):
    """Return where the words of an object are, or of memory that it owns; never those of a neighbour."""
    name = type(thing).__name__
    word, size = {
        "list": (3, 8 * len(thing) if name == "list" else 0),
        "dict": (5, 8 * len(thing) if name == "dict" else 0),
        "deque": (chosen.choice((3, 4)), 256),
        "frame": (INSIDE, 96 if INSIDE == 3 else 16),
    }.get(name, (0, 0))
    if size and chosen.random() < 0.6:
        inside = word_at(id(thing) + 8 * word)
        if inside and inside % 8 == 0 and peek(inside, size) is not None:
            return range(inside, inside + size, 8)
    size = type(thing).__basicsize__ + {"coroutine": 16, "code": 32}.get(name, 0)
    return range(id(thing), id(thing) + size // 8 * 8, 8)


def choose_writes(groups, modules, chosen):
    writes = {}
    told = []
    everything = [thing for group in groups for thing in objects_of(modules[group])]
    everything = [thing for thing in everything if type(thing) not in SHARED]
    anything = [thing for module in modules.values() for thing in objects_of(module)]
    for _ in range(chosen.choice((1, 1, 2, 4, 8)) if everything else 0):
        thing = chosen.choice(everything)
        address = chosen.choice(addresses_of(thing, chosen))
        value = chosen.choice(
            (
                chosen.choice(WILD),
                id(chosen.choice(everything)),
                id(chosen.choice(anything)),
                id(thing),
                address,
                (word_at(address) or 0) ^ (1 << chosen.randrange(64)),
            )
        )
        writes[address] = value
        told.append(f"{type(thing).__name__} at {id(thing):#x}: [{(address - id(thing)) // 8}] = {value:#x}")
    is_stack = any("frame" in line or "code" in line or "coroutine" in line for line in told)
    return writes, told, is_stack


MODULES = start_groups()  # while tests are collected: the deadline of a test does not run
gc.disable()


@pytest.mark.parametrize(
    "seed", range(int(os.environ["FIRST"]), int(os.environ["FIRST"]) + int(os.environ["SEEDS"]))
)
def test_mutated(seed):
    chosen = random.Random(seed)
    groups = chosen.sample(sorted(GROUPS), chosen.choice((1, 1, 2, 3))) if seed else []
    writes, told, is_stack = choose_writes(groups, MODULES, chosen)
    Path(f"{seed}.json").write_text(json.dumps({"groups": groups, "writes": told, "is_stack": is_stack}))
    pause = chosen.choice((LIBC, LIBC_WITH_GIL)).pause
    move = ctypes.memmove
    new = [(address, value.to_bytes(8, "little")) for address, value in writes.items()]
    old = [(address, peek(address, 8)) for address in writes]
    for address, data in new:
        move(address, data, 8)
    pause()  # until the deadline's handler has made its snapshot
    for address, data in old:
        move(address, data, 8)
