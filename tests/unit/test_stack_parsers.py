"""What faulthandler and pystack say becomes threads; nothing that is read raises."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gencore.collector.stacks.model import (
    Frame,
    PythonThread,
    find_activity,
)
from pytest_gencore.collector.stacks.parsers import parse_faulthandler, parse_pystack

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
