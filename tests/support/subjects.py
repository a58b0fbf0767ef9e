"""Subjects: processes that capture themselves and tell what came of it.

A subject is a short script. It runs in a process and a session of its own, under a time limit, and answers
with one ``report``. Both sides import this module; it needs no pytest.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import io
import json
import os
import pwd
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from process_state import processes_in

import pytest_gencore
from pytest_gencore.capture import Capture, CaptureEngine, CaptureRequest, new_run_id
from pytest_gencore.corefile.reader import CoreFile, read_core
from pytest_gencore.run.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gencore.run.outcome import Outcome

SMALL_FILTER = 0x11
"""Anonymous private memory and ELF headers: what a debugger needs, and little more."""
_ANSWER = "ANSWER "
_NOBODY = "nobody"
_TIDYING_SECONDS = 10
_CALLS = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "close_range": (436, 436),
    "vmsplice": (278, 75),
    "pipe2": (293, 59),
    "pidfd_open": (434, 434),
}
"""Numbers of system calls: x86_64, aarch64."""

# ---- in the test ---------------------------------------------------------------------------------------


def run_subject(
    script: str,
    directory: Path | str,
    *arguments: str,
    prefix: Sequence[str] = (),
    python: str | None = None,
    environment: dict[str, str] | None = None,
    timeout: float = 60,
) -> Any:
    """Run a script with the directory and the arguments in ``sys.argv``; return what it reported."""
    command = [*prefix, python or sys.executable, "-c", script, os.fspath(directory), *arguments]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": search_path(), **(environment or {})},
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    print(output.decode(errors="replace"), end="")
    print(errors.decode(errors="replace"), end="", file=sys.stderr)
    answers = [line for line in output.decode(errors="replace").splitlines() if line.startswith(_ANSWER)]
    assert process.returncode == 0, errors.decode(errors="replace")
    assert answers, errors.decode(errors="replace")
    assert b"Fatal Python error" not in errors
    return json.loads(answers[-1].removeprefix(_ANSWER))


def search_path() -> str:
    """Return a PYTHONPATH with which every interpreter of this machine can be a subject."""
    folders = [Path(__file__).parent, Path(pytest_gencore.__file__).parents[1]]
    for name in ("psutil", "isal"):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parents[1])
    return os.pathsep.join(str(folder) for folder in dict.fromkeys(folders))


def python_for_everybody() -> str | None:
    """Return an interpreter that an unprivileged user may start, None if there is none."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        path = Path(candidate).resolve()
        if path.exists() and all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.parents)):
            return candidate
    return None


def open_archived_core(archive: Path) -> tuple[CoreFile, bytes]:
    """Return the headers and the bytes of the core in an archive, which must be complete."""
    top = archive.name.removesuffix(".tar.gz")
    with tempfile.TemporaryDirectory() as folder:
        # tar(1), as users do: the module tarfile takes seconds for the many pieces of a sparse core
        command = [
            "tar",
            "--extract",
            "--gzip",
            "--occurrence=1",
            f"--file={archive}",
            f"--directory={folder}",
        ]
        subprocess.run([*command, f"{top}/core"], check=True, timeout=60)
        data = (Path(folder) / top / "core").read_bytes()
    core = read_core(io.BytesIO(data))
    assert core.missing_bytes(len(data)) == 0
    return core, data


# ---- in the subject ------------------------------------------------------------------------------------


class Captures:
    """The captures of a subject."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        run_id = new_run_id()
        self.run_id = run_id
        self.engine = CaptureEngine(self.directory, run_id)
        self.run = Run(self.directory, run_id)

    def take(self, **options: Any) -> Capture:
        """Take one; small unless told otherwise."""
        return self.engine.capture(
            CaptureRequest(**{"trigger": "request", "core_filter": SMALL_FILTER, **options})
        )

    def finish(self, *, timeout: float = 50) -> list[dict[str, Any]]:
        """Wait for all, close the run, and return the outcomes in a form that can be reported.

        Collectors tidy up after they have told their outcome; those that do end are waited for, too.
        """
        outcomes = self.run.wait(timeout=timeout)
        self.run.close()
        deadline = time.monotonic() + _TIDYING_SECONDS
        own = str(os.getpid())
        while any(line.split()[0] != own for line in processes_in(self.directory)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)
        return [as_facts(outcome) for outcome in outcomes]


def as_facts(outcome: Outcome) -> dict[str, Any]:
    """Turn an outcome into what JSON can hold."""
    return {**outcome._asdict(), "archive": os.fspath(outcome.archive)}


def report(**facts: Any) -> None:
    """Answer the test."""
    os.write(1, f"{_ANSWER}{json.dumps(facts)}\n".encode())


def give_up_privileges(uid: int | None = None) -> None:
    """Become nobody, or another user, for good."""
    nobody = pwd.getpwnam(_NOBODY)
    uid = nobody.pw_uid if uid is None else uid
    os.setgroups([])
    os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
    os.setresuid(uid, uid, uid)


def refuse_calls(errors: dict[str, int]) -> None:
    """Let system calls fail with an errno from now on, here and in children, as container runtimes do."""
    load, jump_if_equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    program = [(load, 0, 0, 0)]
    for name, error in errors.items():
        number = _CALLS[name][os.uname().machine == "aarch64"]
        program += [(jump_if_equal, 0, 1, number), (answer, 0, 0, 0x00050000 | error)]  # SECCOMP_RET_ERRNO
    program.append((answer, 0, 0, 0x7FFF0000))  # SECCOMP_RET_ALLOW
    code = b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    filter_program = ctypes.create_string_buffer(
        struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(buffer))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, filter_program, 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP


@contextlib.contextmanager
def blocked_threads(count: int) -> Iterator[list[int]]:
    """Run threads that block in a futex; their ids."""
    done = threading.Event()
    ready = threading.Barrier(count + 1)
    ids: list[int] = []

    def block() -> None:
        ids.append(threading.get_native_id())
        ready.wait(30)
        done.wait()

    threads = [threading.Thread(target=block, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    ready.wait(30)
    try:
        yield sorted(ids)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def collectors() -> list[psutil.Process]:
    """Return the collectors of this machine that belong to a capture of the calling process."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if f".{os.getpid()}." in str(Path(f"/proc/{process.pid}/fd/4").readlink()):
                found.append(process)
    return found
