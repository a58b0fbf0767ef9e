"""Make threads and tasks that wait for each other at random; print what is true, then what the probe says.

Argument: a seed. Standard output: one line of JSON, the edges; standard error: the facts.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import random
import sys
import threading
import time
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

from pytest_gencore.probe import main as probe

chosen = random.Random(int(sys.argv[1]))
LOCKS = [
    threading.Lock() if chosen.random() < 0.6 else threading.RLock() for _ in range(chosen.randint(1, 6))
]
EVENTS = [threading.Event() for _ in range(2)]
QUEUES = [queue.Queue() for _ in range(2)]
COUNT = chosen.randint(2, 6)
TASKS = chosen.randint(2, 6) if chosen.random() < 0.6 else 0
edges: list[list[object]] = []
"""[waiter, kind, resource or null, holders]."""
threads: list[threading.Thread] = []
ready = threading.Semaphore(0)
go = threading.Event()


@contextmanager
def indirectly(lock):
    with lock:
        yield


def hold(locks, then):
    """Take locks in one of several ways, and wait inside of them."""
    if not locks:
        return then()
    lock, *rest = locks
    way = len(rest) % 3
    if way == 0:
        with lock:
            return hold(rest, then)
    if way == 1:
        with indirectly(lock):
            return hold(rest, then)
    with ExitStack() as stack:
        stack.enter_context(lock)
        return hold(rest, then)


def make_plans():
    """Give each lock to at most one thread, and each thread something to wait for."""
    holder = {number: chosen.randrange(COUNT) for number in range(len(LOCKS)) if chosen.random() < 0.8}
    plans = []
    for index in range(COUNT):
        name = f"thread-{index}"
        held = [number for number, who in holder.items() if who == index]
        reentrant = {number for number in held if isinstance(LOCKS[number], type(threading.RLock()))}
        lockable = [number for number in holder if number not in reentrant]
        kind = chosen.choice(["lock", "lock", "lock", "event", "queue", "thread", "sleep"])
        if kind == "lock" and lockable:
            number = chosen.choice(lockable)
            edges.append([name, "lock", f"LOCKS[{number}]", [f"thread-{holder[number]}"]])
            how = chosen.choice(["with", "acquire", "timeout"])
            plans.append((held, "lock", number, how))
        elif kind == "thread":
            other = chosen.choice([number for number in range(COUNT) if number != index])
            edges.append([name, "thread", None, [f"thread-{other}"]])
            plans.append((held, "thread", other, ""))
        elif kind == "event":
            number = chosen.randrange(len(EVENTS))
            edges.append([name, "event", f"EVENTS[{number}]", []])
            plans.append((held, "event", number, ""))
        elif kind == "queue":
            number = chosen.randrange(len(QUEUES))
            edges.append([name, "queue", f"QUEUES[{number}]", []])
            plans.append((held, "queue", number, ""))
        else:
            edges.append([name, "sleep", None, []])
            plans.append((held, "sleep", 0, ""))
    return plans


def wait(kind, number, how):
    ready.release()
    go.wait()
    if kind == "lock" and how == "with":
        with LOCKS[number]:
            pass
    elif kind == "lock":
        LOCKS[number].acquire(timeout=1000) if how == "timeout" else LOCKS[number].acquire()
    elif kind == "thread":
        threads[number].join()
    elif kind == "event":
        EVENTS[number].wait()
    elif kind == "queue":
        QUEUES[number].get()
    else:
        time.sleep(1000)


def run_thread(plan):
    held, kind, number, how = plan
    hold([LOCKS[lock] for lock in held], lambda: wait(kind, number, how))


async def run_tasks():
    """The same with tasks: of a loop in a thread of its own."""
    locks = [asyncio.Lock() for _ in range(3)]
    event, orders = asyncio.Event(), asyncio.Queue()
    holder = {number: chosen.randrange(TASKS) for number in range(3) if chosen.random() < 0.8}
    tasks: list[asyncio.Task] = []
    done = asyncio.Event()
    taken = 0

    async def run(index, held, kind, target):
        nonlocal taken
        async with AsyncExitStack() as stack:
            for number in held[1:]:
                await stack.enter_async_context(locks[number])
            if held:
                async with locks[held[0]]:
                    await last(kind, target)
            else:
                await last(kind, target)

    async def last(kind, target):
        nonlocal taken
        taken += 1
        await done.wait()
        if kind == "lock":
            async with locks[target]:
                pass
        elif kind == "task":
            await tasks[target]
        elif kind == "gather":
            await asyncio.gather(*(tasks[number] for number in target))
        elif kind == "event":
            await event.wait()
        elif kind == "queue":
            await orders.get()
        else:
            await asyncio.sleep(1000)

    for index in range(TASKS):
        name = f"task-{index}"
        held = [number for number, who in holder.items() if who == index]
        kind = chosen.choice(["lock", "lock", "task", "gather", "event", "queue", "sleep"])
        target: object = None
        if kind == "lock" and holder:
            target = chosen.choice(list(holder))
            edges.append([name, "lock", f"locks[{target}]", [f"task-{holder[target]}"]])
        elif kind == "task" and index:
            target = chosen.randrange(index)
            edges.append([name, "task", None, [f"task-{target}"]])
        elif kind == "gather" and index > 1:
            target = chosen.sample(range(index), 2)
            edges.append([name, "gather", None, sorted(f"task-{number}" for number in target)])
        else:
            kind = kind if kind in ("event", "queue") else "sleep"
            resource = {"event": "event", "queue": "orders", "sleep": None}[kind]
            edges.append([name, kind, resource, []])
        tasks.append(asyncio.create_task(run(index, held, kind, target), name=name))
    while taken < TASKS:
        await asyncio.sleep(0)
    done.set()
    for _ in range(20):  # turns of the loop, each of which runs all that is ready
        await asyncio.sleep(0)
    ready.release()
    await asyncio.gather(*tasks)


def is_waiting(thread):
    state = Path(f"/proc/self/task/{thread.native_id}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "S"


def main():
    plans = make_plans()
    for index, plan in enumerate(plans):
        threads.append(threading.Thread(target=run_thread, args=(plan,), name=f"thread-{index}", daemon=True))
    for thread in threads:
        thread.start()
    for _ in threads:
        ready.acquire()
    go.set()
    loop = threading.Thread(target=lambda: asyncio.run(run_tasks()), name="loop", daemon=True)
    if TASKS:
        loop.start()
        ready.acquire()
    everyone = [*threads, *([loop] if TASKS else [])]
    steady = 0
    while steady < 20:  # the kernel says when a thread has come to its wait; nothing here can wake it up
        steady = steady + 1 if all(map(is_waiting, everyone)) else 0
        time.sleep(0.001)
    print(json.dumps(edges), flush=True)
    assert probe.arm()
    probe.run()
    os._exit(0)


main()
