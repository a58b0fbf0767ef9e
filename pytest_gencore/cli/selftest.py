"""A real capture of a small process, opened with what there is: what works here, and not what should."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_gencore.archive import Archive, read_archive
from pytest_gencore.cli.gdb import executable_in
from pytest_gencore.cli.readers import run_gdb, run_pystack
from pytest_gencore.cli.tools import find_tool
from pytest_gencore.cli.workspace import find_mismatches
from pytest_gencore.errors import GencoreError
from pytest_gencore.installed import has_extension

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUBJECT: Final = """
import json, sys, threading
sys.path.insert(0, sys.argv[2])
import pytest_gencore
done, ready = threading.Event(), threading.Event()
def gencore_selftest_thread():
    ready.set()
    done.wait()
threading.Thread(target=gencore_selftest_thread, daemon=True).start()
ready.wait()
try:
    archive = pytest_gencore.collect_core(sys.argv[1]).result(timeout=120)
except Exception as error:
    print(json.dumps({"error": f"{error}" or type(error).__name__}))
else:
    print(json.dumps({"archive": str(archive)}))
"""
_SECONDS: Final = 150
_THREADS: Final = 2
"""At least those: the main thread and the subject's own. The one that waits for the collector comes later."""
_GDB_THREAD = re.compile(r"^Thread \d+ \(.*\):$", re.MULTILINE)
_GDB_FRAME = re.compile(r"^#\d+ +(?:0x[0-9a-f]+ in )?(?!\?\?)[\w@.]+ ", re.MULTILINE)


@dataclass(slots=True)
class SelfTest:
    """What a real capture came to."""

    reason: str = ""
    """Why it failed; empty if it did not."""
    method: str = ""
    """``kernel`` or ``memory``: what made the core."""
    method_reason: str = ""
    has_core: bool = False
    threads: int = 0
    size: int = 0
    """Bytes of the archive."""
    opened_with: list[str] = field(default_factory=list)
    """What has read the archive: ``reader``, and debuggers that found all threads."""
    warnings: list[str] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether there was an archive, and all that is here to open it could."""
        return not self.reason


def run_selftest(directory: Path) -> SelfTest:
    """Capture a small process into a new folder in ``directory``, open the archive, remove it again."""
    result = SelfTest()
    try:
        with _scratch(directory) as folder:
            archive = _capture(folder)
            _open(archive, folder, result)
    except (GencoreError, _SelfTestError) as error:
        result.reason = str(error)
    except OSError as error:
        result.reason = f"{error.strerror}: {error.filename or directory}"
    return result


class _SelfTestError(Exception):
    pass


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    existed = directory.exists()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix=".selftest-", dir=directory.absolute()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):
                directory.rmdir()


def _capture(folder: Path) -> Path:
    package = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", _SUBJECT, str(folder), package]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False, cwd="/"
        )
    except subprocess.TimeoutExpired as error:
        message = f"the capture was not finished after {_SECONDS} s"
        raise _SelfTestError(message) from error
    try:
        answer = json.loads(done.stdout.decode().splitlines()[-1])
    except (ValueError, IndexError) as error:
        errors = done.stderr.decode(errors="replace").strip().splitlines()
        message = (
            f"the captured process ended with {done.returncode}: {errors[-1] if errors else 'no message'}"
        )
        raise _SelfTestError(message) from error
    if "error" in answer:
        raise _SelfTestError(answer["error"])
    return Path(answer["archive"])


def _open(path: Path, scratch: Path, result: SelfTest) -> None:
    archive = read_archive(path)
    manifest = archive.manifest
    result.method, result.method_reason = manifest.method, manifest.method_reason
    result.threads, result.size = len(manifest.threads), archive.size
    result.warnings += manifest.notices
    unreached = [thread for thread in manifest.threads if not thread.native_registers]
    result.has_core = manifest.core is not None
    if len(manifest.threads) >= _THREADS and not has_extension():
        result.opened_with.append("reader")
        return  # there is no core for a debugger, or one without the registers of all threads
    if len(manifest.threads) < _THREADS or unreached:
        message = f"{len(manifest.threads)} threads were captured, {len(unreached)} without registers"
        raise _SelfTestError(message)
    result.opened_with.append("reader")
    try:
        folder = archive.unpack(scratch)  # captures need no other place that can be written
    except GencoreError as error:
        result.warnings.append(f"not opened with debuggers: {error}")
        return
    result.warnings += find_mismatches(archive, folder)
    for name, check in (("gdb", _open_with_gdb), ("pystack", _open_with_pystack)):
        reason = check(archive, folder)
        if reason == "":
            result.opened_with.append(name)
        elif reason is not None:
            result.warnings.append(f"{name}: {reason}")


def _open_with_gdb(archive: Archive, folder: Path) -> str | None:
    """Return empty if gdb shows named frames of every thread, else why not; None without gdb."""
    gdb = find_tool("gdb")
    if gdb is None:
        return None
    commands = ["thread apply all backtrace 30"]
    status, output, errors = run_gdb(gdb, archive.manifest, folder, commands, seconds=_SECONDS)
    _, *stacks = _GDB_THREAD.split(output)
    named = sum(bool(_GDB_FRAME.search(stack)) for stack in stacks)
    if status or named != len(archive.manifest.threads):
        text = f"{named} of {len(archive.manifest.threads)} threads have a stack"
        return f"{text}; {errors.strip().splitlines()[-1]}" if errors.strip() else text
    return ""


def _open_with_pystack(archive: Archive, folder: Path) -> str | None:
    """Return empty if pystack finds the subject's function, else why not; None without pystack."""
    pystack = find_tool("pystack")
    if pystack is None or executable_in(archive.manifest, folder) is None:
        return None
    status, output, errors = run_pystack(pystack, archive.manifest, folder, seconds=_SECONDS)
    if status or "gencore_selftest_thread" not in output:
        return (errors.strip().splitlines() or ["the subject's function is not in its stacks"])[-1]
    return ""
