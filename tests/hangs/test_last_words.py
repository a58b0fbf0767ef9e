"""What a process said before it died or hung: glibc's message of an abort, the end of its output."""

from __future__ import annotations

import html
import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_manifest, read_member
from projects import EXITS, QUICK, Project
from slow_tests import find_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from projects import Ended

HEAD = """\
import ctypes, os, signal, sys, threading
LIBRARY = ctypes.CDLL({library!r})
LIBC, CXX = ctypes.CDLL(None), ctypes.CDLL("libstdc++.so.6")
LIBC.malloc.restype = LIBC.calloc.restype = ctypes.c_void_p
LIBC.free.argtypes = [ctypes.c_void_p]
def free_wrong():
    LIBC.free(LIBC.calloc(1, 100) + 8)  # the size in front of it is 0
def throw():
    CXX._ZSt19__throw_logic_errorPKc(b"boom \\x1b[31m")  # std::__throw_logic_error(char const*)
def test_it():
    {body}
"""
INVALID = r"free\(\): invalid pointer"
FAILED = r"python[\w.]*: .*crashers\.c:\d+: fail_assertion: Assertion `zero && \"never\"' failed\."
FIRST = "last output on standard error:"
SECOND = "last output on standard output:"


@dataclass(frozen=True, slots=True)
class Case:
    """A way to end, and what must be said."""

    body: str
    message: str | None = None
    """Pattern of glibc's message."""
    output: tuple[str, ...] = ()
    """Patterns of the lines of output in the log."""
    is_kept: bool = True
    """Whether there is an ``output.txt``: glibc's message alone is one, too."""


CASES = {
    "free": Case("free_wrong()", INVALID),
    "twice": Case("p = LIBC.malloc(9999); LIBC.free(p); LIBC.free(p)", r"double free or corruption \(.*\)"),
    "thread": Case("t = threading.Thread(target=free_wrong); t.start(); threading.Event().wait()", INVALID),
    "assertion": Case(
        "print('one', file=sys.stderr); print('two'); LIBRARY.fail_assertion()",
        FAILED,
        (FIRST, "  one", SECOND, "  two"),
    ),
    "throw": Case(
        "throw()",
        output=(FIRST, "  terminate called after .*'std::logic_error'", r"    what\(\):  boom \\x1b\[31m"),
    ),
    "fatal": Case(
        "ctypes.pythonapi.Py_FatalError(b'all is lost')",
        output=(
            FIRST,
            "  Fatal Python error: .*all is lost",
            "  Python runtime state: initialized",
            *(".*",) * 4,
            r"  \.\.\. \d+ more lines in output\.txt",
        ),
    ),
    "abort": Case("os.abort()", is_kept=False),
    "segv": Case("print('item 7'); ctypes.string_at(8)", output=(SECOND, "  item 7")),
    "many": Case(
        "[print('x' * 300, n) for n in range(999)]; print('\\xe4\\x1b[1m'); os.abort()",
        output=(SECOND, *(r"  x{197}\.\.\.",) * 5, r"  \xe4\\x1b\[1m"),
    ),
    "bytes": Case("os.write(1, b'\\xff\\0\\n'); os.abort()", output=(SECOND, r"  \\xff\\x00")),
    "one_file": Case(
        "os.dup2(1, 2); print('said'); os.abort()",
        output=("last output on standard output and error:", "  said"),
    ),
    "closed": Case("os.close(1); os.close(2); os.abort()", is_kept=False),
    # What glibc said of an abort from which the process has come back says nothing about the next one.
    "stale": Case("LIBRARY.survive_assertion(); os.abort()", output=(FIRST, f"  {FAILED}")),
    "stale_pointer": Case("LIBRARY.survive_assertion(); LIBC.abort()", output=(FIRST, f"  {FAILED}")),
    "stale_kill": Case(
        "LIBRARY.survive_assertion(); os.kill(os.getpid(), signal.SIGABRT)", output=(FIRST, f"  {FAILED}")
    ),
    "renewed": Case("LIBRARY.survive_assertion(); free_wrong()", INVALID, output=(FIRST, f"  {FAILED}")),
}

KEPT = {"assertion", "one_file", "fatal", "many"}
"""Those whose ``output.txt`` is looked at as a whole."""


def write_case(project: Project, library: Path, name: str) -> None:
    text = HEAD.format(library=str(library), body=CASES[name].body)
    (project.folder / f"test_{name}.py").write_text(text)


END = "Thread |Python threads of|gencore: |What everything waits for:"


def said_in(text: str, start: str) -> list[str]:
    """Return what follows the last line that begins like that, up to the evidence or the stacks."""
    lines = text.splitlines()
    first = max(number for number, line in enumerate(lines) if re.match(start, line))
    rest = lines[first + 1 :]
    end = next(n for n, line in enumerate(rest) if re.match(END, line))
    return rest[:end]


def check_said(said: list[str], case: Case) -> None:
    expected = [*([] if case.message is None else [f"glibc: {case.message}"]), *case.output]
    assert len(said) == len(expected), said
    for line, pattern in zip(said, expected, strict=True):
        assert re.fullmatch(pattern, line), (pattern, line)


def has_output(archive: Path) -> bool:
    with tarfile.open(archive) as tar:
        return any(member.name.endswith(".001/output.txt") for member in tar)


@dataclass(frozen=True, slots=True)
class Died:
    """All cases, each in a worker of its own."""

    ended: Ended
    archives: dict[str, Path]


@pytest.fixture(scope="module")
def died(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, crashers: Path
) -> Iterator[Died]:
    project = Project(tmp_path_factory.mktemp("died"))
    for name in find_rows("test_said", request) | KEPT:
        write_case(project, crashers, name)
    ended = project.run("-n2", "--max-worker-restart=99", "--junitxml=j.xml", *QUICK, timeout=240)
    yield Died(ended, project.archives())
    project.close()


@pytest.mark.slow(rows=5)
@needs("gcc")
@pytest.mark.xdist_group("last words")
@pytest.mark.parametrize("name", CASES)
def test_said(died: Died, name: str) -> None:
    """In the report of the dead worker, in ``stacks.txt``, in the manifest, in ``output.txt``."""
    case = CASES[name]
    archive = died.archives[f"test_{name}.py::test_it call"]
    start = rf"SIG\w+ .* in test_{name}\.py::test_it, call, worker"

    check_said(said_in(died.ended.out, start), case)
    check_said(said_in(read_member(archive, "stacks.txt").decode(), start), case)
    manifest = read_manifest(archive)
    message = manifest["trigger"]["abort_message"]
    assert (message is None) is (case.message is None)
    check_said([*([] if message is None else [f"glibc: {message}"]), *manifest["last_output"]], case)
    assert has_output(archive) is case.is_kept
    check_said(said_in(html.unescape((archive.parents[1] / "j.xml").read_text()), start), case)


@needs("gcc")
@pytest.mark.xdist_group("last words")
def test_all_that_is_kept(died: Died) -> None:
    """``output.txt`` has both outputs, as they were printed, and not more than a bounded part."""

    def read(name: str) -> str:
        return read_member(died.archives[f"test_{name}.py::test_it call"], "output.txt").decode()

    errors, output = read("assertion").split("\n\n")
    assert re.fullmatch(rf"the last \d+ bytes that went to standard error:\none\n{FAILED}", errors)
    assert output == "the last 4 bytes that went to standard output:\ntwo\n"
    assert read("one_file") == "the last 5 bytes that went to standard output and error:\nsaid\n"
    assert re.search(
        r'^Current thread .*\n(  File ".*\n)*  File ".*test_fatal\.py", line ', read("fatal"), re.MULTILINE
    )
    many = read("many")
    assert many.startswith("the last 16384 bytes that went to standard output:\n")
    assert many.endswith(" 998\n\xe4\x1b[1m\n")
    assert len(many.encode()) < 17_000


@pytest.mark.slow(rows=3)
@needs("gcc")
@pytest.mark.parametrize("option", ["--capture=fd", "--capture=sys", "--capture=no", "--capture=tee-sys"])
@pytest.mark.parametrize("name", ["free", "throw"])
def test_ways_to_capture(project: Project, crashers: Path, name: str, option: str) -> None:
    """Without pytest-xdist. What pytest does not capture is in the log already, and cannot be read."""
    write_case(project, crashers, name)

    ended = project.run(*QUICK, option, "--junitxml=j.xml")

    is_captured = option == "--capture=fd"
    case = CASES[name]
    said = said_in(ended.err, r"gencore: SIGABRT \(SI_TKILL: .*\) in test_")
    check_said(said, case if is_captured else Case(case.body, case.message))
    archive = project.only_archive()
    assert ended.announced() == [str(archive)]
    assert has_output(archive) is is_captured
    text = html.unescape((project.folder / "j.xml").read_text())
    assert "\n".join(said).replace("\\", "") in text.replace("\\", "")


def test_deadline_ends_the_process(project: Project) -> None:
    """pytest cannot show what it captured."""
    project.write(test_a="import threading\ndef test_a(): print('connecting'); threading.Event().wait()")

    ended = project.run(*QUICK, *EXITS, "--gencore-timeout=300ms")

    assert said_in(ended.err, "gencore: took longer than") == [SECOND, "  connecting"]
    archive = project.only_archive()
    assert read_manifest(archive)["last_output"] == [SECOND, "  connecting"]
    assert read_member(archive, "output.txt").decode().endswith(":\nconnecting\n")


@pytest.mark.slow
def test_captured_output_stays_whole(project: Project) -> None:
    """A test that goes on after its deadline writes on where it was."""
    project.write(
        test_a="""
        import pathlib, sys
        def test_a():
            print("before")
            print("wrong before", file=sys.stderr)
            while not list(pathlib.Path("gencore-artifacts").glob(".gencore-*/*.txt")):
                pass  # the stacks: the output has been read
            print("after")
            print("wrong after", file=sys.stderr)
            assert 0
        """
    )

    ended = project.run(*QUICK, "--gencore-timeout=300ms")

    shown = re.search(
        "Captured stdout call -*\n(.*?)\n-+ Captured stderr call -*\n(.*?)\n-", ended.out, re.DOTALL
    )
    assert shown is not None
    assert shown.groups() == ("before" + "\nafter", "wrong before\nwrong after")
    kept = read_member(project.only_archive(), "output.txt").decode()
    assert "wrong before" in kept
    assert "after" not in kept


def test_plain_failure_has_none(project: Project) -> None:
    """pytest shows its output."""
    project.write(test_a="def test_a(): print('said'); assert 0")

    project.run(*QUICK)

    archive = project.only_archive()
    assert not has_output(archive)
    assert read_manifest(archive)["last_output"] == []
