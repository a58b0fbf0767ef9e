"""An archive opens on another release of the distribution, which has nothing of the capturing machine.

The root file system is made with debootstrap: its own C library, gdb and Python; the project's wheel and
pystack are installed there. ``gencore`` must print the same functions there as here. It takes minutes, root
and a network: only on demand.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from interpreters import find_interpreter
from kernel import settings_lock
from wheels import build_wheel, clean_environment, copy_sources, run

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        os.environ.get("GENCORE_OTHER_DISTRIBUTION") != "1",
        reason="makes a root file system of another release: only with GENCORE_OTHER_DISTRIBUTION=1",
    ),
]

RELEASES = ("trixie", "bookworm")
"""Of Debian; the first that this machine is not. Both have a Python that the command line runs on."""
PACKAGES = "gdb,python3,python3-venv"
INSTALLED = "/opt/gencore"
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
ENTER = 'mount -t proc proc "$0/proc" && exec chroot "$0" env -i LANG=C.UTF-8 "$@"'
"""In new namespaces: the mount ends with the process, and no process of this machine is seen."""
HIDE_DEBUG_FILES = 'mount -t tmpfs none /usr/lib/debug && exec "$0" "$@"'
EXTENSION = """
#include <Python.h>
static __attribute__((noinline)) PyObject *call_inner(PyObject *function)
{
    PyObject *result = PyObject_CallNoArgs(function);
    __asm__ volatile("" ::: "memory"); /* no tail call */
    return result;
}
static PyObject *call_outer(PyObject *self, PyObject *function)
{
    PyObject *result = call_inner(function);
    __asm__ volatile("" ::: "memory");
    return result;
}
static PyMethodDef methods[] = {{"call", call_outer, METH_O, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "subject_extension", NULL, -1, methods};
PyMODINIT_FUNC PyInit_subject_extension(void) { return PyModule_Create(&module); }
"""
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
PYTHON_FUNCTIONS = {"waits_for_a_lock", "sleeps", "is_called_from_c", "waits_for_an_event"}
NATIVE_FUNCTIONS = {"call_inner", "call_outer"}

_GDB_THREAD = re.compile(r"^Thread \d+ \(.*?LWP (\d+)\)+:$", re.MULTILINE)
_GDB_FRAME = re.compile(r'^#\d+ +(?:0x[0-9a-f]+ in )?(\S+) \(|^  File ".*", line \d+, in (\S+)', re.MULTILINE)
_PYSTACK_THREAD = re.compile(r"^Traceback for thread (\d+) ", re.MULTILINE)
_PYSTACK_FRAME = re.compile(r'^    \((?:C|Python)\) File ".*", line \d+, in (\S+)()', re.MULTILINE)

Stacks = list[tuple[int, list[str]]]


@dataclass(frozen=True, slots=True)
class OtherRoot:
    """The root file system."""

    folder: Path

    def run(self, *command: str, timeout: float = 300) -> str:
        """Run a program in it; return what it prints."""
        path = f"PATH={INSTALLED}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return run(*NAMESPACES, "sh", "-c", ENTER, self.folder, path, *command, timeout=timeout)

    def put(self, file: Path) -> str:
        """Copy a file into it; return its path there."""
        shutil.copy(file, self.folder / "tmp")
        return f"/tmp/{file.name}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source") / "main"
    copy_sources(source)
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def other_root(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherRoot]:
    """Make it, install the wheel there, and remove it: it takes half a GiB."""
    folder = tmp_path_factory.mktemp("other") / "root"
    here = platform.freedesktop_os_release().get("VERSION_CODENAME")
    release = next(name for name in RELEASES if name != here)
    bootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release, str(folder)]
    try:
        # What debootstrap mounts and starts, and leaves if it fails, ends with its namespaces.
        run(*NAMESPACES, "--mount-proc", *bootstrap, timeout=1500)
        root = OtherRoot(folder)
        packages = tmp_path_factory.mktemp("packages")
        show = "import sys; print('%d.%d' % sys.version_info[:2])"
        download(wheel, packages, root.run("python3", "-c", show).strip())
        shutil.copytree(packages, folder / "tmp" / "packages")
        root.run("python3", "-m", "venv", INSTALLED)
        options = ["--quiet", "--no-index", "--find-links", "/tmp/packages"]
        root.run(f"{INSTALLED}/bin/pip", "install", *options, "pytest-gencore[cli,stacks]")
        yield root
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def download(wheel: Path, folder: Path, version: str) -> None:
    """Get what the wheel needs on another Python; here, where pip knows its index and certificates."""
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(28, 16, -1)]
    tags = ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    tags += [f"--platform={name}" for name in (*platforms, f"manylinux2014_{machine}", f"linux_{machine}")]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
    run(*pip, *tags, f"{wheel}[cli,stacks]", timeout=600)


@pytest.fixture(scope="module", params=(10, 11, 12, 13), ids=lambda minor: f"3.{minor}")
def environment(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a virtual environment of one Python, with the wheel, pystack and a C extension."""
    interpreter = find_interpreter(request.param)
    if interpreter is None:
        pytest.skip(f"no CPython 3.{request.param}")
    folder = tmp_path_factory.mktemp(f"environment-3.{request.param}") / "env"
    run(interpreter, "-m", "venv", folder)
    run(folder / "bin" / "pip", "install", "--quiet", f"{wheel}[cli,stacks]", timeout=600)
    show = "import sysconfig; print(*map(sysconfig.get_path, ('include', 'platlib')), sep='\\n')"
    headers, packages = run(folder / "bin" / "python", "-c", show).splitlines()
    source = folder / "subject_extension.c"
    source.write_text(EXTENSION)
    options = ["-g", "-O2", "-shared", "-fPIC", f"-I{headers}"]
    run("gcc", *options, source, "-o", Path(packages, "subject_extension.abi3.so"))
    return folder


def capture(environment: Path, folder: Path, method: str) -> Path:
    (folder / "test_sample.py").write_text(SAMPLE)
    options = ["-p", "no:cacheprovider", "--gencore-on-fail", f"--gencore-method={method}"]
    with settings_lock(exclusive=False):
        result = subprocess.run(
            [environment / "bin" / "python", "-m", "pytest", *options, "test_sample.py"],
            timeout=120,
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=clean_environment(),
        )
    assert result.returncode == 1, result.stdout + result.stderr
    (archive,) = (folder / "gencore-artifacts").iterdir()
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
    archive = capture(environment, tmp_path, method)
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


@needs("root", "gcc", "gdb")
def test_libraries_are_those_of_the_archive(environment: Path, other_root: OtherRoot, tmp_path: Path) -> None:
    there = other_root.put(capture(environment, tmp_path, "memory"))

    output = other_root.run("gencore", "debug", "--batch", there, "--", "-ex", "info sharedlibrary")

    paths = re.findall(r"^0x\S+ +0x\S+ +Yes(?: \(\*\))? +(/\S+)$", output, re.MULTILINE)
    assert any("/libc.so" in path for path in paths), output
    assert any("subject_extension" in path for path in paths)
    assert all(path.startswith("/tmp/gencore-") for path in paths), "no library of the other machine"
