"""The answer in the log: the culprit's line early, nothing but printable lines, and never too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from counts import count
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gencore.collector.stacks.lines import machinery_of
from pytest_gencore.collector.stacks.model import Frame, PythonThread
from pytest_gencore.collector.stacks.report import BRIEF_LINES, HINT, format_full, make_answer, order_threads
from pytest_gencore.collector.stacks.trigger_text import Facts, describe_signal, describe_trigger
from pytest_gencore.texts import Folders

if TYPE_CHECKING:
    from pytest_gencore.triggers import Trigger

ROOT = "/home/me/project"
SITE = "/venv/lib/python3.11/site-packages"
THREADING = "/usr/lib/python3.11/threading.py"
PYTEST = (
    Frame("/venv/bin/pytest", 8, "<module>", source="sys.exit(console_main())"),
    *(Frame(f"{SITE}/_pytest/main.py", line, "wrap_session") for line in range(15)),
    *(Frame(f"{SITE}/pluggy/_callers.py", line, "_multicall") for line in range(15)),
)
START = tuple(
    Frame(THREADING, line, name) for line, name in enumerate(("_bootstrap", "_bootstrap_inner", "run"))
)
FUTEX = Frame("", None, "__futex_abstimed_wait_common", native=True)
FACTS = Facts(trigger="failure", pid=42, nodeid="test_a.py::test_a", phase="call", folders=Folders(ROOT))


def frame_of_test(line: int = 3, **more: object) -> Frame:
    return Frame(f"{ROOT}/test_a.py", line, "test_a", source=f"line {line}", **more)  # type: ignore[arg-type]


def locker(name: str, number: int, lock: str) -> PythonThread:
    frame = Frame(f"{ROOT}/work.py", number, f"take_{lock}", source=f"with {lock}:")
    return PythonThread(name, number, number, (*START, frame))


def pool(count: int) -> list[PythonThread]:
    waiting = Frame(THREADING, 327, "Condition.wait", source="waiter.acquire()")
    return [PythonThread(f"pool {n}", 100 + n, n, (*START, waiting)) for n in range(count)]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (
            Facts(
                trigger="crash",
                pid=9,
                nodeid="t.py::t",
                phase="call",
                worker_id="g",
                signal_number=11,
                signal_code=1,
                fault_address=8,
            ),
            "SIGSEGV (SEGV_MAPERR: address not mapped) at address 0x8 in t.py::t, call, worker g, process 9",
        ),
        (
            Facts(
                trigger="timeout",
                pid=42,
                nodeid="t.py::t",
                deadline_seconds=5,
                deadline_source="pytest-timeout",
            ),
            "took longer than 5 s (timeout of pytest-timeout): t.py::t, process 42",
        ),
        (Facts(trigger="timeout", pid=42), "took too long: no test, process 42"),
        (Facts(trigger="failure", pid=42, nodeid="t.py::t"), "failed: t.py::t, process 42"),
        (
            Facts(trigger="failure", pid=42, nodeid="t.py::t", exception="KeyError"),
            "failed: t.py::t, process 42: KeyError",
        ),
        (Facts(trigger="request", pid=42), "capture requested: no test, process 42"),
        (Facts(trigger="crash", pid=42), "crashed in no test, process 42"),
    ],
)
def test_triggers(facts: Facts, text: str) -> None:
    assert describe_trigger(facts) == text


@pytest.mark.parametrize(
    ("number", "code", "address", "text"),
    [
        (11, 2, 0, "SIGSEGV (SEGV_ACCERR: no permission for the mapping) at address 0x0"),
        (11, 0x80, 0, "SIGSEGV (SI_KERNEL: raised by the kernel)"),
        (11, 0, 1234, "SIGSEGV (SI_USER: sent with kill)"),
        (6, -6, 99, "SIGABRT (SI_TKILL: sent with tkill or tgkill, as raise and abort do)"),
        (7, 2, 4096, "at address 0x1000"),
        (8, 1, 64, "SIGFPE (FPE_INTDIV: integer division by zero) at address 0x40"),
        (4, 77, 64, "SIGILL (si_code 77) at address 0x40"),
        (999, None, None, "signal 999"),
    ],
)
def test_signals(number: int, code: int | None, address: int | None, text: str) -> None:
    assert text in describe_signal(number, code, address)


def test_the_answer_to_a_failure() -> None:
    inner = Frame(
        f"{SITE}/lib/deep.py", 9, "deep", (("value", "'\x1b[31m\n" + "x" * 200), ("n", "1")), "raise it"
    )
    thread = PythonThread(
        "MainThread", 42, 1, (*PYTEST, frame_of_test(locals=(("a", "1"),)), inner), True, True
    )
    assert make_answer(FACTS, [thread]) == [
        "failed: test_a.py::test_a, call, process 42",
        "Thread MainThread, native id 42, ran the test, holding the GIL, most recent call last:",
        "  ... 31 frames of pluggy and pytest",
        '  File "test_a.py", line 3, in test_a',
        "    line 3",
        "      a = 1",
        f'  File "{SITE}/lib/deep.py", line 9, in deep',
        "    raise it",
        "      value = '\\x1b[31m\\n" + "x" * 90 + "...",
        "      n = 1",
    ]


@pytest.mark.parametrize("depth", [0, 1, 5, 50, 900])
@pytest.mark.parametrize("native", [0, 3, 40])
def test_the_culprits_line_is_early(depth: int, native: int) -> None:
    many_locals = tuple((f"x{n}", str(n)) for n in range(30))
    deep = [Frame(f"{SITE}/lib/a.py", n, f"f{n}", many_locals, f"call {n}") for n in range(depth)]
    compiled = [Frame("", None, f"c{n}", native=True, library="libc.so") for n in range(native)]
    frames = (*PYTEST, frame_of_test(locals=many_locals), *deep, *compiled)
    lines = make_answer(FACTS, [PythonThread("MainThread", 1, 1, frames, is_current=True), *pool(3)])
    assert "    line 3" in lines[:15]
    if depth:
        assert f"    call {depth - 1}" in lines[:15]
    if native:
        assert f"    [native] c{native - 1} (libc.so)" in lines[:25]
    assert not any(line.startswith("    [native]") for line in lines[:3])


def test_a_script_that_starts_pytest_does_not_hide_the_test() -> None:
    script = Frame(f"{ROOT}/run.py", 1, "<module>", source="pytest.main()")
    helpers = [Frame(f"{ROOT}/help.py", n, f"h{n}", source=f"help {n}") for n in range(20)]
    frames = (script, *PYTEST, frame_of_test(), *helpers)
    text = make_answer(FACTS, [PythonThread("MainThread", 1, 1, frames, is_current=True)])
    assert "    line 3" in text
    assert "    help 19" in text


def test_both_sides_of_a_deadlock_are_early() -> None:
    join = Frame(THREADING, 1119, "Thread.join", (("self", "<Thread>"),), "self._wait_for_tstate_lock()")
    inner = Frame(
        THREADING, 1139, "Thread._wait_for_tstate_lock", (("a", "1"),) * 9, "if lock.acquire(block, timeout):"
    )
    frames = (*PYTEST, frame_of_test(locals=(("a", "1"),) * 9), join, inner)
    main = PythonThread("MainThread", 1, 1, frames, is_current=True)
    threads = [main, *pool(12), locker("one", 2, "first"), locker("two", 3, "second")]
    lines = make_answer(FACTS, threads)
    assert {"    with first:", "    with second:"} <= set(lines[:30])
    assert "Thread one, native id 2, most recent call last:" in lines
    assert lines.index("    line 3") < 15
    assert any(line.startswith("12 threads: pool 0, pool 1, ") for line in lines)
    assert len(lines) <= 60


def test_order() -> None:
    threads = [
        PythonThread("machinery", 1, 1, (Frame(f"{SITE}/execnet/gateway_base.py", 1, "run"),)),
        *pool(1),
        PythonThread("runs", 3, 3, (*START, frame_of_test())),
        locker("lock", 4, "a"),
        PythonThread("gil", 5, 5, (frame_of_test(),), holds_gil=True),
        PythonThread("MainThread", 6, 6, (frame_of_test(),), is_current=True),
    ]
    names = [thread.name for thread in order_threads(FACTS, threads)]
    assert names == ["MainThread", "gil", "lock", "runs", "machinery", "pool 0"]
    named = Facts(trigger="crash", pid=1, native_id=3, folders=Folders(ROOT))
    assert order_threads(named, threads)[0].name == "runs"
    assert "runs, native id 3, crashed, " in make_answer(named, threads)[1]


@pytest.mark.parametrize("trigger", ["failure", "request"])
@pytest.mark.parametrize(
    "innermost",
    [
        (Frame(THREADING, 1119, "Thread.join"),),
        (frame_of_test(), Frame("", None, "lock_PyThread_acquire_lock", native=True), FUTEX),
    ],
)
def test_the_thread_that_made_the_capture_runs(trigger: Trigger, innermost: tuple[Frame, ...]) -> None:
    facts = Facts(trigger=trigger, pid=42, folders=Folders(ROOT))
    for is_current, remark in ((True, False), (False, True)):
        thread = PythonThread("t", 1, 1, innermost, is_current=is_current, activity="waiting for the GIL")
        text = "\n".join([*make_answer(facts, [thread]), format_full(facts, [thread])])
        assert ("waiting" in text) is remark


@pytest.mark.parametrize(
    ("file", "function", "part"),
    [
        (f"{SITE}/_pytest/python.py", "f", "pytest"),
        ("/src/pytest/src/_pytest/python.py", "f", "pytest"),
        (f"{SITE}/pytest/__main__.py", "<module>", "pytest"),
        (f"{SITE}/pluggy/_hooks.py", "f", "pluggy"),
        (f"{SITE}/xdist/remote.py", "f", "xdist"),
        (f"{SITE}/pytest_timeout.py", "f", "pytest-timeout"),
        (f"{SITE}/pytest_asyncio/plugin.py", "f", "pytest-asyncio"),
        ("/src/pytest_gencore/plugin/attach.py", "f", "pytest-gencore"),
        ("<frozen runpy>", "f", "pytest"),
        ("<string>", "<module>", "python -c"),
        ("<string>", "f", ""),
        (THREADING, "Thread._bootstrap_inner", "threading"),
        (THREADING, "Condition.wait", ""),
        ("/home/me/pytest/tests/test_a.py", "f", ""),
        (f"{SITE}/requests/api.py", "f", ""),
    ],
)
def test_machinery(file: str, function: str, part: str) -> None:
    assert machinery_of(Frame(file, 1, function)) == part


def test_too_many_threads_end_with_a_count() -> None:
    threads = [locker(f"t{n}", n, f"lock{n}") for n in range(100)]
    lines = make_answer(FACTS, threads)
    assert len(lines) == 60
    assert lines[-1] == "... 441 more lines in stacks.txt"
    assert len(make_answer(FACTS, threads, limit=5)) == 5


def test_brief_answer_that_fits_is_whole() -> None:
    threads = [
        PythonThread("MainThread", 1, 1, (*PYTEST, frame_of_test()), is_current=True),
        locker("a", 2, "x"),
    ]
    whole = make_answer(FACTS, threads, evidence=["What everything waits for:", "  a", "  b"])
    assert len(whole) <= BRIEF_LINES
    assert make_answer(FACTS, threads, evidence=whole[1:4], is_brief=True) == whole


@pytest.mark.parametrize("said", [0, 8])
@pytest.mark.parametrize("evidence", [0, 3, 20])
@pytest.mark.parametrize("unread", [0, 7])
def test_brief_answer(said: int, evidence: int, unread: int) -> None:
    """The culprit's line is in it whatever else there is, then evidence, and how much was left out."""
    facts = FACTS._replace(said=tuple(f"said {n}" for n in range(said)))
    deep = [Frame(f"{SITE}/lib/a.py", n, f"f{n}", source=f"call {n}") for n in range(20)]
    main = PythonThread(
        "MainThread", 1, 1, (*PYTEST, frame_of_test(locals=(("a", "1"),) * 9), *deep), is_current=True
    )
    others = [locker(f"t{n}", n, f"lock{n}") for n in range(2, 30)]
    lines = [f"  waits {n}" for n in range(evidence)]

    def make(limit: int, *, is_brief: bool) -> list[str]:
        return make_answer(
            facts,
            [main, *others],
            limit,
            unread=unread,
            verdict=["deadlock: x"],
            evidence=lines,
            is_brief=is_brief,
        )

    brief, whole = make(60, is_brief=True), make(1000, is_brief=False)
    assert len(brief) <= BRIEF_LINES
    assert brief[: 2 + said] == whole[: 2 + said]
    assert "    line 3" in brief
    shown = sum(line.startswith("  waits ") for line in brief)
    assert shown == evidence or f"  ... {evidence - shown} more lines" in brief or (said and not shown)
    assert (brief[-2] == "7 more threads were not read: faulthandler stops at 100") == bool(unread)
    title, *_ = [line for line in brief if line.startswith("... ")]
    kept = len(brief) - 1 - bool(unread)
    assert title == f"... {len(whole) - 2 * bool(unread) - kept} more lines in stacks.txt; -v shows them here"
    if not (said or evidence or unread):
        assert "    with lock2:" in brief


def test_full_has_everything_and_a_bound() -> None:
    frames = (*PYTEST, *[frame_of_test(locals=(("a", "b\n"),))] * 500)
    threads = [PythonThread("Main", 1, 1, frames, is_current=True), *pool(3), PythonThread(None, None, 1, ())]
    text = format_full(FACTS, threads)
    assert text.count("_pytest/main.py") == 15
    assert text.count("      a = b\\n") == 3
    assert "  ... the same frame 497 more times" in text
    assert text.count("Thread pool") == 3
    assert "  no Python frame\n" in text
    big = [PythonThread("é" * 50, n, n, PYTEST) for n in range(2000)]
    cut = format_full(FACTS, big, byte_limit=10_000)
    assert 9000 < len(cut.encode()) <= 10_000
    assert cut.endswith("... cut at 10000 bytes\n")


def test_no_threads() -> None:
    assert make_answer(FACTS, []) == ["failed: test_a.py::test_a, call, process 42"]
    assert len(HINT) < 100


TEXT = st.text(max_size=20) | st.sampled_from(
    [f"{ROOT}/a.py", f"{SITE}/_pytest/a.py", THREADING, "run", "wait"]
)
FRAME = st.builds(
    Frame,
    TEXT,
    st.none() | st.integers(),
    TEXT,
    st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    TEXT,
    st.booleans(),
    TEXT,
)
THREAD = st.builds(
    PythonThread,
    st.none() | TEXT,
    st.none() | st.integers(),
    st.none() | st.integers(),
    st.lists(FRAME, max_size=12).map(tuple),
    st.none() | st.booleans(),
    st.booleans(),
    st.none() | TEXT,
)


@settings(max_examples=count(50, thorough=150), deadline=None)
@given(st.lists(THREAD, max_size=6), st.integers(2, 60), TEXT)
def test_any_threads(threads: list[PythonThread], limit: int, text: str) -> None:
    facts = Facts(trigger="timeout", pid=1, nodeid=text, deadline_source=text, folders=Folders(ROOT))
    lines = make_answer(facts, threads, limit)
    assert len(lines) <= limit
    brief = make_answer(facts, threads, evidence=lines, is_brief=True)
    assert len(brief) <= BRIEF_LINES
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    format_full(facts, threads).encode()
