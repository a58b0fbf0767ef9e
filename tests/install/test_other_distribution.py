"""An archive opens on another release of the distribution, which has nothing of the capturing machine.

``gencore`` must print the same functions there as here, of the archive's libraries and source files. It takes
minutes, root and a network: only on demand.
"""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import find_left, read_manifest
from kernel import settings_lock
from projects import EXITS
from wheels import clean_environment, run

if TYPE_CHECKING:
    from other_root import OtherRoot

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("other distribution"),  # one root file system
    pytest.mark.skipif(
        os.environ.get("GENCORE_OTHER_DISTRIBUTION") != "1",
        reason="makes a root file system of another release: only with GENCORE_OTHER_DISTRIBUTION=1",
    ),
]

HIDE_DEBUG_FILES = 'mount -t tmpfs none /usr/lib/debug && exec "$0" "$@"'
SAMPLE = """
import threading
import time

import subject_extension

def waits_for_a_lock(lock, ready):
    ready.set()
    with lock:
        pass

def sleeps(ready):
    ready.set()
    time.sleep(1000)

def is_called_from_c(done, ready):
    def waits_for_an_event():
        ready.set()
        done.wait()
    subject_extension.call(waits_for_an_event)

def fails():
    assert False

def test_three_threads():
    lock, done = threading.Lock(), threading.Event()
    lock.acquire()
    for function, arguments in ((waits_for_a_lock, [lock]), (sleeps, []), (is_called_from_c, [done])):
        ready = threading.Event()
        threading.Thread(target=function, args=(*arguments, ready), daemon=True).start()
        ready.wait()
    subject_extension.call(fails)
"""
DEADLOCK = """
import threading

accounts, ledger = threading.Lock(), threading.RLock()
both_hold_one = threading.Barrier(2)

def take(first, second):
    with first:
        both_hold_one.wait()
        with second:
            pass

def test_deadlock():
    threading.Thread(target=take, args=(ledger, accounts), name="rival", daemon=True).start()
    take(accounts, ledger)
"""
PYTHON_FUNCTIONS = {"waits_for_a_lock", "sleeps", "is_called_from_c", "waits_for_an_event"}
NATIVE_FUNCTIONS = {"call_inner", "call_outer"}

_GDB_THREAD = re.compile(r"^Thread \d+ \(.*?LWP (\d+)\)+:$", re.MULTILINE)
_GDB_FRAME = re.compile(r'^#\d+ +(?:0x[0-9a-f]+ in )?(\S+) \(|^  File ".*", line \d+, in (\S+)', re.MULTILINE)
_PYSTACK_THREAD = re.compile(r"^Traceback for thread (\d+) ", re.MULTILINE)
_PYSTACK_FRAME = re.compile(r'^    \((?:C|Python)\) File ".*", line \d+, in (\S+)()', re.MULTILINE)

Stacks = list[tuple[int, list[str]]]


def run_sample(environment: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    fixed = ("-p", "no:cacheprovider", "--gencore-on-fail", "test_sample.py")
    return subprocess.run(
        [environment / "bin" / "python", "-m", "pytest", *fixed, *options],
        timeout=120,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=clean_environment(),
    )


def capture(environment: Path, folder: Path, *options: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "test_sample.py").write_text(SAMPLE)
    with settings_lock(exclusive=False):
        result = run_sample(environment, folder, *options)
    assert result.returncode == 1, result.stdout + result.stderr
    (archive,) = find_left(folder / "gencore-artifacts")
    return archive


def run_here(environment: Path, names: list[str], *arguments: str | Path) -> str:
    """Run the command line of the capturing environment.

    Debug files that this machine has and the archive has not are hidden: the other machine cannot know them.
    """
    prefix = []
    if Path("/usr/lib/debug").is_dir() and not any("/usr/lib/debug/" in name for name in names):
        prefix = ["unshare", "--mount", "sh", "-c", HIDE_DEBUG_FILES]
    return run(*prefix, environment / "bin" / "gencore", *arguments, timeout=300)


def parse(text: str, thread: re.Pattern[str], frame: re.Pattern[str]) -> Stacks:
    """Return the functions of each thread, in the order of the text."""
    _, *parts = thread.split(text)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [(int(tid), [name or other for name, other in frame.findall(part)]) for tid, part in pairs]


@needs("root", "gcc", "gdb")
@pytest.mark.parametrize("method", ["memory", pytest.param("kernel", marks=needs("plain core_pattern"))])
def test_same_stacks(environment: Path, other_root: OtherRoot, tmp_path: Path, method: str) -> None:
    archive = capture(environment, tmp_path, f"--gencore-method={method}")
    with tarfile.open(archive) as file:
        names = file.getnames()
    there = other_root.put(archive)

    here_pystack = run_here(environment, names, "stacks", "--native", archive)
    there_pystack = other_root.run("gencore", "stacks", "--native", there)
    here_gdb = run_here(environment, names, "debug", "--batch", "--trust-archive", archive)
    there_gdb = other_root.run("gencore", "debug", "--batch", "--trust-archive", there)

    pystack_stacks = parse(there_pystack, _PYSTACK_THREAD, _PYSTACK_FRAME)
    assert pystack_stacks == parse(here_pystack, _PYSTACK_THREAD, _PYSTACK_FRAME)
    assert {function for _, stack in pystack_stacks for function in stack} >= {
        *PYTHON_FUNCTIONS,
        *NATIVE_FUNCTIONS,
    }
    gdb_stacks = parse(there_gdb, _GDB_THREAD, _GDB_FRAME)
    expected = parse(here_gdb, _GDB_THREAD, _GDB_FRAME)
    threads = len(pystack_stacks)
    if not any(name.endswith("-gdb.py") for name in names):  # only this machine has CPython's commands
        expected = expected[:threads]
    assert gdb_stacks == expected
    assert len(gdb_stacks) % threads == 0
    assert {function for _, stack in gdb_stacks for function in stack} >= NATIVE_FUNCTIONS


@needs("root", "gcc", "pystack")
def test_mini(environment: Path, other_root: OtherRoot, tmp_path: Path) -> None:
    """Python stacks are there without any library; with libraries, what a full archive shows, with locals."""
    mini = capture(environment, tmp_path / "mini", "--gencore-type=mini")
    full = capture(environment, tmp_path / "full")
    here = run_here(environment, [], "stacks", "--native", "--locals", full)

    alone = other_root.run("gencore", "stacks", "--locals", there := other_root.put(mini))
    folder = other_root.run("gencore", "unpack", other_root.put(full), "/tmp").strip()
    complete = other_root.run("gencore", "stacks", "--native", "--locals", "--library-path", folder, there)

    assert set(re.findall(r"\w+", alone)) >= PYTHON_FUNCTIONS, alone
    assert functions_of_the_sample(complete) == functions_of_the_sample(here)
    assert "ready: <Event at 0x" in complete, "a local variable"


def functions_of_the_sample(text: str) -> list[list[str]]:
    """Return those of each thread that pystack names."""
    stacks = parse(text, _PYSTACK_THREAD, _PYSTACK_FRAME)
    ours = PYTHON_FUNCTIONS | NATIVE_FUNCTIONS
    return sorted([function for function in functions if function in ours] for _, functions in stacks)


def read_build_id(path: Path) -> str:
    found = re.search(r"Build ID: ([0-9a-f]+)", run("readelf", "--notes", "--wide", path))
    return found[1] if found else ""


LISTED = {
    "gdb": (
        ["-ex", "info sharedlibrary"],
        re.compile(r"^0x\S+ +0x\S+ +Yes(?: \(\*\))? +(/\S+)$", re.MULTILINE),
    ),
    "lldb": (
        ["-o", "image list"],
        re.compile(r"^\[ *\d+\] [0-9A-F-]+ +(?:0x[0-9a-f]+ +)?(/\S+)", re.MULTILINE),
    ),
}
"""What makes a debugger list its files, and the paths in that."""


@needs("root", "gcc", "readelf")
@pytest.mark.parametrize("debugger", LISTED)
def test_libraries_are_those_of_the_archive(
    environment: Path, other_root: OtherRoot, tmp_path: Path, debugger: str
) -> None:
    archive = capture(environment, tmp_path, "--gencore-method=memory")
    arguments, pattern = LISTED[debugger]
    (own,) = (other_root.folder / "lib").glob("*-linux-gnu/libc.so.6")
    target = Path("/tmp", f"unpacked-{debugger}-{os.urandom(4).hex()}")

    there = ["gencore", "debug", "--batch", f"--{debugger}", debugger, "--dir", str(target)]
    output = other_root.run(*there, other_root.put(archive), "--", *arguments)

    paths = [Path(path) for path in pattern.findall(output)]
    assert all(path.is_relative_to(target) for path in paths), "no library of the other machine"
    ids = {path.name: read_build_id(other_root.folder / path.relative_to("/")) for path in paths}
    captured = {Path(entry["path"]).name: entry["build_id"] for entry in read_manifest(archive)["libraries"]}
    assert set(ids.values()) <= set(captured.values())
    assert ids["libc.so.6"] == captured["libc.so.6"]
    assert any("subject_extension" in name for name in ids)
    assert ids["libc.so.6"] != read_build_id(own), "the other machine has another one at its path"


@needs("root", "gcc")
def test_stacks_of_lldb(environment: Path, other_root: OtherRoot, tmp_path: Path) -> None:
    archive = other_root.put(capture(environment, tmp_path, "--gencore-method=memory"))

    output = other_root.run("gencore", "debug", "--batch", "--lldb", "lldb", archive)

    _, *threads = re.split(r"^[* ] thread #\d+,", output, flags=re.MULTILINE)
    stacks = [re.findall(r"^ +\*? *frame #\d+: .*?`(\w+)", text, re.MULTILINE) for text in threads]
    assert len(stacks) == 4
    reached = {"_PyEval_EvalFrameDefault"}
    if (
        environment / "lib" / "python3.12"
    ).exists():  # lldb 19 stops below it; gdb unwinds all of the same core
        reached |= {"PyObject_Vectorcall", "_PyObject_MakeTpCall"}
    assert all(reached & set(functions) for functions in stacks)
    assert stacks[0][:2] == ["gencore_capture", "native_capture"]


@needs("root", "gcc")
def test_source_lines_are_those_of_the_archive(
    environment: Path, other_root: OtherRoot, tmp_path: Path
) -> None:
    """The other machine has a file of the same path, whose lines are others."""
    archive = capture(environment, tmp_path, "--gencore-method=memory")
    source = tmp_path / "test_sample.py"
    changed = other_root.folder / source.relative_to("/")
    changed.parent.mkdir(parents=True)
    changed.write_text("".join(f"changed_line({line!r})\n" for line in SAMPLE.splitlines()))
    with tarfile.open(archive) as file:
        has_commands = any(name.endswith("-gdb.py") for name in file.getnames())

    there = other_root.put(archive)
    outputs = [other_root.run("gencore", "stacks", there)]
    if has_commands:
        listing = ["-ex", "thread apply all py-list"]
        outputs.append(
            other_root.run("gencore", "debug", "--batch", "--trust-archive", there, "--", *listing)
        )

    for output in outputs:
        assert "with lock:" in output
        assert "changed_line" not in output


@needs("root")
def test_same_diagnosis(environment: Path, other_root: OtherRoot, tmp_path: Path) -> None:
    """What everything waits for is read at the capture; elsewhere nothing of that machine is needed."""
    (tmp_path / "test_sample.py").write_text(DEADLOCK)
    log = run_sample(environment, tmp_path, "--gencore-timeout=2", *EXITS).stderr
    (archive,) = find_left(tmp_path / "gencore-artifacts")

    there = other_root.run("gencore", "stacks", other_root.put(archive))

    verdict = next(line for line in log.splitlines() if line.startswith("gencore: deadlock: "))
    waits = [line for line in log.splitlines() if " waits for lock " in line and line.startswith("  ")]
    assert len(waits) == 2
    assert {verdict.removeprefix("gencore: "), *waits} <= {*there.splitlines()}
