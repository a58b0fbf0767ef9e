"""Threads of several sources are merged; what a thread does is told by its frames."""

from __future__ import annotations

import pytest

from pytest_gencore.collector.stacks.model import (
    Frame,
    PythonThread,
    find_activity,
    find_hub,
    find_missed,
    merge_threads,
    threads_of,
)
from pytest_gencore.request.context import ThreadStack


def test_threads_that_only_the_probe_has_seen() -> None:
    places = [("b.py", 2, "b"), ("a.py", 1, "a")]
    known = PythonThread("MainThread", 7, 5, ())
    assert find_missed([known], {7: places, 8: places}) == [
        PythonThread(None, 8, None, (Frame("a.py", 1, "a"), Frame("b.py", 2, "b")))
    ]


def test_threads_of_a_request() -> None:
    stacks = [
        ThreadStack(5, "MainThread", 7, [("b.py", 2, "b"), ("a.py", 1, "a")]),
        ThreadStack(6, None, None, []),
    ]
    main, other = threads_of(stacks)
    assert main == PythonThread(
        "MainThread", 7, 5, (Frame("a.py", 1, "a"), Frame("b.py", 2, "b")), is_current=True
    )
    assert other == PythonThread(None, None, 6, ())


def test_merge_keeps_what_is_known_and_adds_the_rest() -> None:
    known = [
        PythonThread("Main", 1, 10, (Frame("a.py", 1, "a"), Frame("b.py", 2, "b")), is_current=True),
        PythonThread("other", 2, 11, (Frame("c.py", 3, "c"),)),
        PythonThread("gone", 3, 12, (Frame("d.py", 4, "d"),)),
    ]
    entry = Frame("", None, "start_thread", native=True)
    inner = Frame("", None, "read", native=True)
    b = Frame("b.py", 2, "b", (("x", "1"),))
    richer = [
        PythonThread(
            "python",
            1,
            None,
            (entry, Frame("a.py", 1, "a"), b, inner, Frame("/gencore.py", 1, "capture")),
            holds_gil=True,
        ),
        PythonThread(
            "python", 2, None, (entry, Frame("c.py", 3, "c"), inner), activity="waiting for the GIL"
        ),
        PythonThread("native", 4, None, (entry,)),
    ]
    main, other, gone, native = merge_threads(known, richer)
    assert main == PythonThread(
        "Main", 1, 10, (entry, Frame("a.py", 1, "a"), b), holds_gil=True, is_current=True
    )
    assert other.frames == richer[1].frames
    assert other.activity == "waiting for the GIL"
    assert gone is known[2]
    assert native is richer[2]


@pytest.mark.parametrize("count", [1, 2])
def test_a_thread_whose_native_id_is_unknown_stands_once(count: int) -> None:
    """A thread that blocks the stop signal and was started by C code: only pystack knows its id."""
    main = PythonThread("Main", 1, 10, (Frame("a.py", 1, "a"),), is_current=True)
    same = (Frame("b.py", 2, "b"), Frame("c.py", 3, "C.c"))
    known = [main, *(PythonThread(None, None, 20 + number, same) for number in range(count))]
    inner = Frame("", None, "read", native=True)
    bare = (same[0], same[1]._replace(function="c"), inner)
    richer = [
        *(PythonThread("python", 30 + number, None, bare) for number in range(count)),
        PythonThread("python", 40, None, (Frame("d.py", 4, "d"),)),
        PythonThread("python", 1, None, (Frame("a.py", 1, "a"),)),
    ]
    merged = merge_threads(known, richer)
    assert [thread.native_id for thread in merged] == [1, *range(30, 30 + count), 40]
    assert all(thread.ident is None for thread in merged[1:]), "which ident has which id is not known"
    assert [thread.frames[-1] for thread in merged[1:-1]] == [inner] * count


def test_a_deep_stack_that_faulthandler_cut_is_completed() -> None:
    outer = tuple(Frame(f"o{number}.py", number, "outer") for number in range(50))
    inner = tuple(Frame(f"i{number}.py", number, "inner") for number in range(100))
    native = Frame("", None, "read", native=True)
    (merged,) = merge_threads(
        [PythonThread("t", 1, 1, inner)], [PythonThread(None, 1, None, (*outer, *inner, native))]
    )
    assert merged.frames == (*outer, *inner, native)


def test_a_stack_of_another_moment_is_not_merged() -> None:
    known = PythonThread("t", 1, 1, (Frame("a.py", 1, "a"), Frame("b.py", 1, "b")))
    (merged,) = merge_threads([known], [PythonThread(None, 1, None, (Frame("z.py", 1, "z"),) * 3)])
    assert merged.frames == known.frames


FUTEX = "__futex_abstimed_wait_common64 (inlined)"


@pytest.mark.parametrize(
    ("frame", "activity"),
    [
        (Frame("/lib/python3.12/threading.py", 1, "Condition.wait"), "in threading's Condition.wait()"),
        (Frame("/lib64/python3.10/threading.py", 1, "join"), "in threading's join()"),
        (Frame("/lib/python3.12/threading.py", 1, "Thread.run"), None),
        (Frame("/home/me/project/threading.py", 1, "wait"), None),
        (Frame("t.py", 1, "f", source="with lock:"), None),
        (Frame("t.py", 1, "f", source="with self.locks[0] as held: pass"), None),
        (Frame("t.py", 1, "f", source="lock.acquire()"), None),
        (Frame("t.py", 1, "f", source="worker.join()"), None),
    ],
)
def test_what_a_python_frame_tells(frame: Frame, activity: str | None) -> None:
    """Not its source: nobody knows how far the line is."""
    assert find_activity(PythonThread("t", 1, 1, (Frame("o.py", 1, "o"), frame))) == activity


@pytest.mark.parametrize(
    ("functions", "activity"),
    [
        (["lock_PyThread_acquire_lock", "PyThread_acquire_lock_timed", FUTEX], "waiting for a lock"),
        (["_multiprocessing_SemLock_acquire", "__new_sem_wait_slow64", FUTEX], "waiting for a lock"),
        (["PyThreadHandleObject_join", "ThreadHandle_join", FUTEX], "waiting for the end of a thread"),
        (["_queue_SimpleQueue_get", "PyThread_acquire_lock_timed", FUTEX], "waiting for an item of a queue"),
        (["work", "___pthread_mutex_lock", "__lll_lock_wait"], "waiting for a lock of compiled code"),
        (["lock_PyThread_acquire_lock", "PyEval_RestoreThread", "take_gil", FUTEX], "waiting for the GIL"),
        (["work", FUTEX], None),
        (["lock_PyThread_acquire_lock", "PyThread_acquire_lock_timed"], None),
        (["lock_PyThread_acquire_lock", "PyThread_acquire_lock_timed", "abort", "raise"], None),
        (["gc_collect_main", "subtype_dealloc"], "collecting garbage"),
        (["collect_statistics", "read"], None),
        ([], None),
    ],
)
def test_what_native_frames_tell(functions: list[str], activity: str | None) -> None:
    native = (Frame("", 1, function, native=True, library="libpython3.so") for function in functions)
    assert find_activity(PythonThread("t", 1, 1, (Frame("t.py", 1, "f"), *native))) == activity


@pytest.mark.parametrize(
    ("outermost", "hub"),
    [
        ("/v/lib/python3.11/site-packages/gevent/hub.py", "gevent"),
        ("/v/lib/python3.11/site-packages/eventlet/hubs/hub.py", "eventlet"),
        ("/v/lib/python3.11/site-packages/gevent/event.py", None),
        ("/p/test_hub.py", None),
    ],
)
def test_hub_of_greenlets(outermost: str, hub: str | None) -> None:
    """A test that calls into gevent is no hub: its own frames are there."""
    thread = PythonThread("MainThread", 1, None, (Frame(outermost, 5, "run"), Frame("/x/loop.py", 1, "wait")))
    assert find_hub(thread) == hub
    assert find_hub(PythonThread("MainThread", 1, None, ())) is None


@pytest.mark.parametrize("is_current", [False, True])
def test_inner_frames_that_only_pystack_knows(is_current: bool) -> None:
    """Of another interpreter; those of the thread that captured are the capture's."""
    outer, inner = Frame("a.py", 1, "a"), Frame("<string>", 4, "b")
    known = PythonThread("runs", 7, 5, (outer,), is_current=is_current)
    (merged,) = merge_threads([known], [PythonThread(None, 7, None, (outer, inner))])
    assert merged.frames == ((outer,) if is_current else (outer, inner))
