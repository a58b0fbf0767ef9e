"""Limits, the sandbox, and which source files may be read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from capabilities import find_python_program, needs

from pytest_gencore.sandbox.bounded import Finished, run_bounded
from pytest_gencore.sandbox.bubblewrap import find_bubblewrap, sandboxed
from pytest_gencore.sandbox.landlock import landlocked
from pytest_gencore.sandbox.limits import Limits, limited
from pytest_gencore.sandbox.paths import LINKS, SYSTEM, needed_paths
from pytest_gencore.sandbox.pystack_command import pystack_command, python_of
from pytest_gencore.sandbox.sources import SOURCE_LIMIT, Sources

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def run(command: list[str], *, seconds: float = 30, **environment: str) -> Finished:
    return run_bounded(
        command, seconds=seconds, output_limit=MIB, environment={**os.environ, **environment}, directory="/"
    )


# ---- limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "program", "error"),
    [
        (Limits(memory=200 * MIB), "bytearray(1 << 30)", "MemoryError"),
        (Limits(memory=200 * MIB), "open('/dev/zero').readlines()", "MemoryError"),
        (Limits(cpu_seconds=1), "while True: pass", -9),
        (Limits(file_size=0), "open(F, 'wb', 0).write(b'a')", "File too large"),
        (
            Limits(),
            "import resource; assert resource.getrlimit(resource.RLIMIT_CORE) != (0, 0)",
            "AssertionError",
        ),
    ],
)
@pytest.mark.timeout(60)
def test_limits(limits: Limits, program: str, error: str | int, tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"F = {str(tmp_path / 'file')!r}\n{program}"]

    done = run(limited(command, limits))

    assert done.status
    if isinstance(error, int):
        assert done.status == error
    else:
        assert error in done.errors.decode()


def test_a_large_file_may_be_mapped(tmp_path: Path) -> None:
    """As elfutils maps a core: it is not memory of the program."""
    (tmp_path / "core").touch()
    os.truncate(tmp_path / "core", 1 << 40)
    program = "import mmap, sys; f = open(sys.argv[1]); mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)"

    done = run(limited([sys.executable, "-c", program, str(tmp_path / "core")], Limits(memory=200 * MIB)))

    assert (done.status, done.errors) == (0, b"")


def test_lower_limits_stay() -> None:
    program = "import resource as r; print(r.getrlimit(r.RLIMIT_DATA), r.getrlimit(r.RLIMIT_CPU))"
    command = limited([sys.executable, "-c", program], Limits(memory=1 << 40, cpu_seconds=100))

    done = run(["/bin/sh", "-c", 'ulimit -d 300000; exec "$@"', "sh", *command])

    assert done.output.decode() == f"{(300000 << 10,) * 2} {(100, 100)}\n"


def test_a_program_that_is_not_there() -> None:
    done = run(limited(["/nowhere/program"], Limits()))

    assert (done.status, done.errors) == (127, b"cannot be started: No such file or directory\n")


# ---- the sandbox -----------------------------------------------------------------------------------------

LOOK = """
import json, os, socket, sys
folder, *paths = sys.argv[1:]
answer = {"read": [], "file": open(folder + "/file").read()}
for path in paths:
    try:
        open(path, "rb").read(1)
        answer["read"].append(path)
    except OSError:
        pass
for name in folder + "/new", folder + "/../new":
    try:
        open(name, "w")
        answer["written"] = name
    except OSError:
        pass
try:
    socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), 5)
    answer["connected"] = True
except (OSError, ValueError):
    pass
print(json.dumps(answer))
"""


@pytest.fixture
def folder_and_hidden(tmp_path: Path) -> tuple[str, list[str]]:
    """Return a folder with a file, and files of this machine."""
    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / "file").write_text("contents")
    (tmp_path / "beside").write_text("beside")
    return str(folder), [str(tmp_path / "beside"), "/etc/passwd", "/proc/self/environ", __file__]


@needs("bubblewrap")
@pytest.mark.timeout(60)
def test_what_a_sandbox_shows(folder_and_hidden: tuple[str, list[str]]) -> None:
    folder, hidden = folder_and_hidden
    command = [sys.executable, "-c", LOOK, folder, *hidden]
    bubblewrap = find_bubblewrap()
    assert bubblewrap is not None
    paths = needed_paths(folder, [sys.executable])

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        free = run(command, PORT=port)
        shut = run(sandboxed(bubblewrap, command, folder=folder, paths=paths), PORT=port)

    assert "connected" in json.loads(free.output)
    assert json.loads(free.output)["read"] == hidden
    assert "written" in json.loads(free.output)
    assert json.loads(shut.output) == {"read": [], "file": "contents"}, shut.errors


@needs("landlock")
def test_landlock_keeps_of_path_what_may_be_opened(tmp_path: Path) -> None:
    path = f"{tmp_path}/bin:/usr/bin:/bin:/usr/binaries:{tmp_path}/mine/bin:relative"

    done = run(landlocked(["/bin/sh", "-c", "echo $PATH"], [*SYSTEM, *LINKS, f"{tmp_path}/mine"]), PATH=path)

    assert done.output.decode() == f"/usr/bin:/bin:{tmp_path}/mine/bin\n"


@needs("landlock")
@pytest.mark.timeout(60)
def test_what_landlock_allows(folder_and_hidden: tuple[str, list[str]], tmp_path: Path) -> None:
    folder, hidden = folder_and_hidden
    os.mkfifo(tmp_path / "fifo")  # refused, not waited for
    command = [sys.executable, "-c", LOOK, folder, *hidden, str(tmp_path / "fifo"), "/dev/zero"]

    done = run(landlocked(command, [*SYSTEM, *LINKS, *needed_paths(folder, [sys.executable])]), PORT="none")

    assert json.loads(done.output) == {"read": [], "file": "contents"}, done.errors


@needs("bubblewrap")
@pytest.mark.timeout(60)
def test_nothing_of_a_sandbox_is_left(tmp_path: Path) -> None:
    """It ends with the program that started it, also if that is killed."""
    bubblewrap = find_bubblewrap()
    assert bubblewrap is not None
    reader, writer = os.pipe()
    paths = needed_paths(str(tmp_path), [sys.executable])
    program = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    command = sandboxed(bubblewrap, program, folder=str(tmp_path), paths=paths)
    with os.fdopen(reader, "rb") as output, subprocess.Popen(command, stdout=writer) as process:
        os.close(writer)
        assert output.readline() == b"up\n"
        process.kill()

        assert output.read() == b"", "all that could write have ended"


# ---- sources ---------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return an unpacked archive with a source, beside a file that is not to be read."""
    (tmp_path / "secret.py").write_text("secret\n")
    folder = tmp_path / "unpacked"
    (folder / "a").mkdir(parents=True)
    (folder / "a/x.py").write_bytes("# é\r\nline\n".encode())
    (folder / "a/latin.py").write_bytes(b"# coding: latin-1\n# \xe9\n")
    (folder / "a/link.py").symlink_to(tmp_path / "secret.py")
    (folder / "a/up").symlink_to(tmp_path)
    (folder / "a/zeros.py").symlink_to("/dev/zero")
    (folder / "a/inner.py").symlink_to("x.py")
    (folder / "a/binary.py").write_bytes(b"a\0b")
    (folder / "a/large.py").write_bytes(b"#" * (SOURCE_LIMIT + 1))
    (folder / "a/sparse.py").touch()
    os.truncate(folder / "a/sparse.py", 2 << 30)
    os.mkfifo(folder / "a/fifo.py")
    return folder


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("/a/x.py", "# é\nline\n"),
        (b"/a/x.py", "# é\nline\n"),
        ("//a/./b/../x.py", "# é\nline\n"),
        ("/../../a/x.py", "# é\nline\n"),
        ("/a/inner.py", "# é\nline\n"),
        ("/a/latin.py", "# coding: latin-1\n# é\n"),
        ("a/x.py", None),
        ("/../secret.py", None),
        ("/a/../../secret.py", None),
        ("/a/up/secret.py", None),
        ("/a/link.py", None),
        ("/a/zeros.py", None),
        ("/a/fifo.py", None),
        ("/a/binary.py", None),
        ("/a/large.py", None),
        ("/a/sparse.py", None),
        ("/a", None),
        ("/", None),
        ("", None),
        ("/a\0", None),
        ("/\ud800", None),
        ("/" + "a" * 5000, None),
        (0, None),
        ("<string>", None),
    ],
)
@pytest.mark.timeout(20)
def test_which_sources_are_read(folder: Path, name: str | bytes | int, text: str | None) -> None:
    sources = Sources(str(folder))

    assert sources.exists(name) is (text is not None)
    if text is None:
        with pytest.raises(FileNotFoundError):
            sources.open(name)
    else:
        assert sources.open(name, "r", encoding="utf-8").read() == text


def test_sources_of_this_machine(folder: Path) -> None:
    sources = Sources("/")

    assert sources.open(str(folder.parent / "secret.py")).read() == "secret\n"
    assert not any(map(sources.exists, ("/dev/zero", str(folder / "a/fifo.py"), str(folder / "a/sparse.py"))))


# ---- pystack ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "python"),
    [
        ("#!/usr/bin/python3\n", ["/usr/bin/python3"]),
        ("#!/v/bin/python3.13t\n", ["/v/bin/python3.13t"]),
        ("#! /v/bin/python3.11 -sP\n", ["/v/bin/python3.11", "-sP"]),
        ("#!/bin/sh\n'''exec' \"/my venv/bin/python\" \"$0\" \"$@\"\n' '''\n", ["/my venv/bin/python"]),
        ("#!/bin/sh\n'''exec' /v/bin/python3 \"$0\" \"$@\"\n' '''\n", ["/v/bin/python3"]),
        ("#!/bin/sh\n'''exec' '/my venv/bin/python' \"$0\" \"$@\"\n' '''\n", ["/my venv/bin/python"]),
        (
            "#!/bin/sh\n'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python' \"$0\" \"$@\"\n' '''\n",
            ["BESIDE/python"],
        ),
        ("#!/bin/sh\nexec python3\n", None),
        ("\x7fELF", None),
        ("", None),
    ],
)
def test_python_of_a_script(tmp_path: Path, lines: str, python: list[str] | None) -> None:
    (tmp_path / "pystack").write_text(lines)

    found = python_of(str(tmp_path / "pystack"))

    assert found == (python and [part.replace("BESIDE", str(tmp_path)) for part in python])


@needs("pystack")
def test_a_pystack_that_reads_otherwise_is_not_run(tmp_path: Path) -> None:
    """Nothing is known of which files it would open."""
    (tmp_path / "pystack").mkdir()
    (tmp_path / "pystack/__init__.py").touch()
    (tmp_path / "pystack/traceback_formatter.py").write_text("def format_frame(frame): print(open(frame))\n")
    script = find_python_program("pystack")
    assert script is not None
    command = pystack_command(script, "/", ["--version"])
    assert command is not None

    assert run(command).status == 0
    other = run(command, PYTHONPATH=str(tmp_path))
    assert (other.status, other.output) == (1, b"")
    assert other.errors.startswith(b"this version reads source files in a way that is not known")
