"""What holds on every Python: each way in which a test can end, opened by each tool that reads the archive.

``.ci/pythons`` runs this with every Python there is, and makes a table of it: ``END-TOOL`` is a cell.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_manifest, read_member, threads_of
from oracles import gdb_stacks, is_complete_stack, pystack_threads, run_gdb
from projects import EXITS, OPENED, Project

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
HANGS = ("--gencore-timeout=2", *EXITS)
HAS_GIL = not sysconfig.get_config_var("Py_GIL_DISABLED")


@dataclass(frozen=True, slots=True)
class End:
    """How an example ends, and what each tool must show of it."""

    example: str
    options: tuple[str, ...]
    trigger: str
    functions: tuple[str, ...]
    """Of the thread that is told about, outermost first."""
    others: tuple[str, ...] = ()
    """Of the other threads of Python that the test has started, one each."""
    verdict: str = ""
    native: str = ""
    """What gdb shows on top of that thread's stack."""


ENDS = {
    "failure": End("test_example.py", (), "failure", ("test_total",), ("consume",) * 3),
    "GIL hang": End(
        "test_gil.py",
        HANGS,
        "timeout",
        ("test_count", "count_items"),
        verdict=r"busy: \d+ % CPU in sum\(\), test_gil\.py:10",
    ),
    "asyncio hang": End(
        "test_tasks.py",
        HANGS,
        "timeout",
        ("test_serve", "run_forever"),
        verdict=r"asyncio: serve waits for task 'consumer' \(test_tasks\.py:10\), "
        r"which waits for queue\.get\(\) of an empty queue \('orders'\)",
        native=r"#[0-3] .*epoll_wait",
    ),
    "crash": End("test_crash.py", (), "crash", ("test_name", "read_name"), native=r"#[01] .*strlen"),
    "xdist": End(
        "test_deadlock.py",
        ("-n1", *HANGS),
        "timeout",
        ("test_pay_while_refunding", "pay"),
        ("refund",),
        verdict=r"deadlock: MainThread waits for lock 'ledger' held by refund .*",
        native=r"#[0-4] .*(?:futex|sem_\w*wait)",
    ),
}


@dataclass(frozen=True, slots=True)
class Made:
    """What an example has left."""

    archive: Path
    folder: Path
    """The archive, unpacked."""
    log: str

    @property
    def pid(self) -> int:
        return int(read_manifest(self.archive)["pid"])


class Examples:
    """Runs each example once."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._made: dict[str, Made] = {}
        self.projects: list[Project] = []

    def __getitem__(self, name: str) -> Made:
        if name not in self._made:
            end = ENDS[name]
            project = Project(self._factory.mktemp("end"))
            self.projects.append(project)
            (project.folder / end.example).write_text((EXAMPLES / end.example).read_text())
            ended = project.run(*OPENED, *end.options, end.example, pystack=True)
            archive = project.only_archive()
            self._made[name] = Made(archive, project.unpack(archive), ended.out + ended.err)
        return self._made[name]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    made = Examples(tmp_path_factory)
    yield made
    for project in made.projects:
        project.close()


def has_in_order(text: str, functions: tuple[str, ...]) -> bool:
    """Whether a text of Python frames has these functions, outermost first."""
    return bool(re.search("".join(rf"(?s:.*)\bin (?:\w+\.)*{name}\b" for name in functions), text))


def count_threads(text: str, function: str) -> int:
    """Return how many threads of a report are in a function; those with the same stack are told together."""
    _, *parts = re.split(r"^(?:Thread |(?=\d+ threads: ))", text, flags=re.MULTILINE)
    numbers = [int(part.partition(" ")[0]) if part[:1].isdigit() else 1 for part in parts]
    return sum(n for n, part in zip(numbers, parts, strict=True) if has_in_order(part, (function,)))


def cells(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", ENDS, ids=[f"{name}-{tool}" for name in ENDS])


@pytest.mark.slow(rows=1)
@pytest.mark.xdist_group("every python")
class TestEveryPython:
    """The cells; pytest-xdist runs all of them in one worker, so that each example is run once."""

    @cells("stacks")
    def test_stacks(self, examples: Examples, name: str) -> None:
        """In the archive; the test that failed is unwound by then, and the log has its stack."""
        made, end = examples[name], ENDS[name]
        assert read_manifest(made.archive)["trigger"]["kind"] == end.trigger
        text = read_member(made.archive, "stacks.txt").decode()
        assert re.match(end.verdict or r"failed: |SIGSEGV \(", text), text
        own = made.log if end.trigger == "failure" else text.split("\nThread ")[1]
        assert has_in_order(own, end.functions), own
        for function in set(end.others):
            assert count_threads(text, function) == end.others.count(function), text
        if name == "GIL hang":
            assert ("holding the GIL" in text) is HAS_GIL, text

    @needs("gdb")
    @cells("gdb")
    def test_gdb(self, examples: Examples, name: str) -> None:
        made = examples[name]
        stacks = gdb_stacks(made.folder)
        assert sorted(stacks) == sorted(threads_of(made.archive))
        for stack in stacks.values():
            assert is_complete_stack(stack), stack
        assert re.search(ENDS[name].native, stacks[made.pid]), stacks[made.pid]
        if name == "crash":
            address = run_gdb(made.folder, "print $_siginfo._sifields._sigfault.si_addr")
            assert address.rstrip().endswith("$1 = (void *) 0x8")

    @needs("pystack")
    @cells("pystack")
    def test_pystack(self, examples: Examples, name: str) -> None:
        made, end = examples[name], ENDS[name]
        threads = pystack_threads(made.folder / "core")
        functions = ("pytest_runtest_makereport",) if end.trigger == "failure" else end.functions
        assert has_in_order(threads[made.pid], functions), threads[made.pid]
        for function in set(end.others):
            having = [tid for tid, text in threads.items() if has_in_order(text, (function,))]
            assert len(having) == end.others.count(function), threads


ANOTHER_INTERPRETER = """
    import os, threading
    import pytest
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters
    INNER = '''if True:
        import _thread, os
        def in_the_other():
            os.write({told}, b"r")
            os.read({never}, 1)
        _thread.start_new_thread(in_the_other, ())
    '''
    kept = []
    @pytest.fixture
    def started():
        (ready, told), (never, end) = os.pipe(), os.pipe()
        try:
            other = interpreters.create("legacy")
        except TypeError:  # up to 3.12
            other = interpreters.create(isolated=False)
        interpreters.run_string(other, INNER.format(told=told, never=never))
        os.read(ready, 1)
        kept.append(other)  # 3.10 ends it with its last reference
        yield
        os.close(end)
    def test_fails(started):
        assert False
    def test_hangs(started):
        threading.Event().wait()
"""


@needs("pystack")
@pytest.mark.slow
def test_threads_of_another_interpreter(project: Project) -> None:
    """faulthandler knows those of its own interpreter only, and so does all of Python from 3.14 on."""
    project.write(test_a=ANOTHER_INTERPRETER)

    is_listed = sys.version_info < (3, 14)  # else pystack must know them, which fails at some hangs
    project.run(*OPENED, *HANGS, pystack=not is_listed)

    archives = project.archives()
    assert sorted(archives) == ["test_a.py::test_fails call", "test_a.py::test_hangs call"]
    for archive in archives.values() if is_listed else [archives["test_a.py::test_fails call"]]:
        text = read_member(archive, "stacks.txt").decode()
        assert count_threads(text, "in_the_other") == 1, text


NO_GIL = """
    import sys, threading
    def test_fails():
        assert sys._is_gil_enabled()
    def test_hangs():
        threading.Event().wait()
    def test_afterwards():
        assert not sys._is_gil_enabled()
"""


@pytest.mark.skipif(HAS_GIL, reason="of a build without a GIL")
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
def test_gil_is_never_switched_on(project: Project, workers: list[str]) -> None:
    """CPython does so, with a warning, when an extension is imported that does not say that it needs none."""
    project.write(test_a=NO_GIL)

    ended = project.run(*OPENED, *workers, "--gencore-timeout=2", "--timeout=4")

    assert ended.counts() == {"failed": 2, "passed": 1}
    assert "assert False\n" in ended.out
    assert "GIL) has been enabled" not in ended.err + ended.out
    assert "holding the GIL" not in ended.err + ended.out
    assert sorted(project.archives()) == ["test_a.py::test_fails call", "test_a.py::test_hangs call"]
