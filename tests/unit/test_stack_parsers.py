"""What faulthandler, pystack and the engine say becomes the same threads; nothing that is read raises."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gencore.collector.stacks.model import (
    Frame,
    PythonThread,
    find_activity,
    merge_threads,
    threads_of,
)
from pytest_gencore.collector.stacks.parsers import parse_faulthandler, parse_pystack
from pytest_gencore.request.context import ThreadStack

HANDLER = r"""Fatal Python error: Segmentation fault

Thread 0x00007f00000000a1 [pool 0] (most recent call first):
  File "/usr/lib/python3.14/threading.py", line 359 in wait
  File "/p/caf\xe9 \u20ac.py", line 7 in Pool.run
  ...

Thread 0x00007f00000000a2 (most recent call first):
  <no Python frame>

Current thread 0x00007f00000000a3 (most recent call first):
  Garbage-collecting
  File ???, line ??? in ???
  File "/p/test_a.py", line 3 in <module>
...

Current thread's C stack trace (most recent call first):
  Binary file "/usr/lib/libx.so.1", at crash_here+0x1b [0x7f01]
  Binary file "/usr/bin/python3", at +0x20f4 [0x7f02]
  <truncated rest of calls>

Extension modules: x (total: 1)
"""
PYSTACK = """
Core file information:
state: R zombie: True niceness: 0

Traceback for thread 12 (worker (2)) [Waiting for the GIL] (most recent call last):
    (C) File "./nptl/pthread_create.c", line 442, in start_thread (libc.so.6)
    (Python) File "/p/a "b".py", line 3, in Pool.run
        work(
      Arguments:
        self: <Pool at 0x7f>
      Locals:
        text: "one
Traceback for nobody
two"
        .0: <iterator at 0x1>
    (C) File "???", line 0, in take_gil (inlined) (libpython3.11.so)

Traceback for thread 11 [Has the GIL,Garbage collecting] (most recent call last):
* - Unable to merge native stack due to insufficient native information - *
    (Python) File "/p/test_a.py", line 5, in test_a
      Arguments:
        n: 1

The frame stack for thread 13 is empty
Traceback for thread 14 (most recent call last):
  In the main interpreter []
    (Python) File "x", line 1, in <module>
  In interpreter 1 [Has the GIL]
    (Python) File "y", line -1, in f
"""


def test_faulthandler() -> None:
    pool, nothing, current = parse_faulthandler(HANDLER, native_ids={0x7F00000000A3: 9})
    assert pool == PythonThread(
        "pool 0",
        None,
        0x7F00000000A1,
        (
            Frame("/p/caf\xe9 \u20ac.py", 7, "Pool.run"),
            Frame("/usr/lib/python3.14/threading.py", 359, "wait"),
        ),
    )
    assert nothing.frames == ()
    assert current.native_id == 9
    assert current.is_current
    assert current.frames == (
        Frame("/p/test_a.py", 3, "<module>"),
        Frame("???", None, "???"),
        Frame("", None, "+0x20f4", native=True, library="python3"),
        Frame("", None, "crash_here+0x1b", native=True, library="libx.so.1"),
    )


def test_names_that_are_known_win() -> None:
    thread = parse_faulthandler(HANDLER, names={0x7F00000000A1: "mine"})[0]
    assert thread.name == "mine"


def test_pystack() -> None:
    worker, holder, empty, two = parse_pystack(PYSTACK)
    assert (worker.name, worker.native_id, worker.holds_gil, worker.activity) == (
        "worker (2)",
        12,
        False,
        "waiting for the GIL",
    )
    start, run, take = worker.frames
    assert start == Frame("./nptl/pthread_create.c", 442, "start_thread", native=True, library="libc.so.6")
    assert run.file == '/p/a "b".py'
    assert run.source == "work("
    assert run.locals == (
        ("self", "<Pool at 0x7f>"),
        ("text", '"one\nTraceback for nobody\ntwo"'),
        (".0", "<iterator at 0x1>"),
    )
    assert take == Frame("", None, "take_gil (inlined)", native=True, library="libpython3.11.so")
    assert (holder.name, holder.holds_gil, holder.activity) == (None, True, "collecting garbage")
    assert holder.frames == (Frame("/p/test_a.py", 5, "test_a", (("n", "1"),)),)
    assert empty == PythonThread(None, 13, None, ())
    assert two.holds_gil
    assert [(frame.file, frame.line) for frame in two.frames] == [("x", 1), ("y", None)]


def test_a_value_cannot_make_up_threads() -> None:
    text = """Traceback for thread 1 (most recent call last):
    (Python) File "a.py", line 1, in a
      Locals:
        evil: "
Traceback for thread 2 (most recent call last):
    (Python) File "b.py", line 1, in b
"
        cut: ["abc
Traceback for thread 3 (most recent call last):...
        fine: 1
"""
    (thread,) = parse_pystack(text)
    assert [name for name, _ in thread.frames[0].locals] == ["evil", "cut", "fine"]


def test_a_value_without_end_costs_few_lines() -> None:
    thread = "Traceback for thread {} (most recent call last):"
    before = [thread.format(1), '    (Python) File "a.py", line 1, in a', "      Locals:", '        open: "']
    text = "\n".join([*before, *map(thread.format, range(2, 9))])
    assert [thread.native_id for thread in parse_pystack(text)] == [1, 5, 6, 7, 8]


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
    bare = (same[0], replace(same[1], function="c"), inner)
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


def test_pystack_suspects_every_collect_of_garbage_collection() -> None:
    text = """Traceback for thread 1 [Garbage collecting] (most recent call last):
    (Python) File "a.py", line 1, in a
    (C) File "x.c", line 1, in collect_statistics (x.so)
"""
    (thread,) = parse_pystack(text)
    assert find_activity(thread) is None


LINES = st.lists(
    st.one_of(
        st.sampled_from([*HANDLER.splitlines(), *PYSTACK.splitlines()]),
        st.text(max_size=40),
        st.builds(
            lambda line, at, junk: line[: at % (len(line) + 1)] + junk + line[at % (len(line) + 1) :],
            st.sampled_from([*HANDLER.splitlines(), *PYSTACK.splitlines()]),
            st.integers(0, 100),
            st.text(max_size=5),
        ),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(LINES)
def test_parsers_take_anything(lines: list[str]) -> None:
    text = "\n".join(lines)
    for thread in [*parse_faulthandler(text), *parse_pystack(text)]:
        find_activity(thread)


def test_numbers_of_any_length() -> None:
    digits = "9" * 10_000
    text = f'Thread 0x{digits} (most recent call first):\n  File "a", line {digits} in f\n'
    assert parse_faulthandler(text) == []
    assert parse_pystack(f"Traceback for thread {digits} (most recent call last):") == []
