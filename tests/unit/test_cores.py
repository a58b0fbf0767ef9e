"""Cores without the extension: where macOS writes them, what is refused before a process is copied."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import needs
from native_builds import ROOT, compile_c

from pytest_gencore import systems
from pytest_gencore.cli import machine
from pytest_gencore.collector.told_core import stream_file
from pytest_gencore.errors import UnavailableError
from pytest_gencore.portable import cores, macos

if TYPE_CHECKING:
    from collections.abc import Callable

SAFE = {
    *("clock_gettime", "close", "_exit", "fcntl", "fork", "getpid", "kill", "lstat", "pipe", "poll"),
    *("pthread_sigmask", "read", "shutdown", "sigaction", "sigaddset", "sigemptyset", "sigfillset"),
    *("sigprocmask", "socketpair", "time", "unlink", "waitpid", "write"),
}
"""What POSIX lists as async-signal-safe (2.4.3, Signal Actions)."""
BESIDES = {"getrlimit", "setrlimit", "__errno_location", "_GLOBAL_OFFSET_TABLE_"}
"""System calls, where errno is, and the linker's own."""


@needs("gcc")
def test_only_safe_functions_are_called(tmp_path: Path) -> None:
    """In the copies any lock may be held."""
    source = ROOT / "pytest_gencore/portable/csrc/macos.c"
    built = compile_c(tmp_path / "macos.o", [source], ("-c", "-fPIC"))
    listing = subprocess.run(["nm", "-u", built], check=True, capture_output=True, text=True).stdout
    names = {line.split()[-1] for line in listing.splitlines()}
    assert "fork" in names
    assert names <= SAFE | BESIDES


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("/tmp/core.%P", ("/tmp/core.", "")),
        ("/tmp/%U-100%%.%P.core", (f"/tmp/{os.getuid()}-100%.", ".core")),
    ],
)
def test_path(pattern: str, expected: tuple[str, str]) -> None:
    assert macos._check(macos.Settings(pattern, are_on=True)) == expected


@pytest.mark.parametrize(
    ("pattern", "are_on", "reason"),
    [
        ("/cores/core.%P", False, "the system writes no cores"),
        ("core.%P", True, "cores are not looked for where kern.corefile says, core.%P"),
        ("/cores/core", True, "cores are not looked for where"),
        ("/cores/%N.%P", True, "cores are not looked for where"),
        ("/cores/%P%", True, "cores are not looked for where"),
        ("/cores/%P.%P", True, "cores are not looked for where"),
        ("/cores/%P/core", True, "cores are not looked for where"),
        ("/nowhere/core.%P", True, r"cores cannot be written into /nowhere \(sudo chmod 1777 /nowhere\)"),
    ],
)
def test_what_is_refused(monkeypatch: pytest.MonkeyPatch, pattern: str, are_on: bool, reason: str) -> None:
    monkeypatch.setattr(macos, "read_settings", lambda: macos.Settings(pattern, are_on))
    with pytest.raises(UnavailableError, match=reason):
        macos.write_core(Path("/nowhere"), 0)


@pytest.mark.parametrize(
    ("library", "state", "words"),
    [
        ("/x/_macos.so", "method kernel: compiled, ", "never run on macOS"),
        (None, "none: the C part of method kernel", "was not built"),
    ],
)
def test_check(monkeypatch: pytest.MonkeyPatch, library: str | None, state: str, words: str) -> None:
    """What was only compiled is called so; sealed archives never have a core of the system."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(systems, "find_library", lambda _: library)
    monkeypatch.setattr(machine, "find_library", lambda _: library)
    (finding,) = machine._cores()
    assert finding.value.startswith(state)
    assert words in finding.value
    assert systems.has_cores() is (library is not None)
    assert not systems.has_cores(seals=True)


def test_linux_has_none() -> None:
    assert systems.find_system() is None
    assert cores.load() is None
    assert list(machine._cores()) == []


def fail(_folder: Path, _stop_at: float) -> Path:
    raise UnavailableError("there is no room", help_text="make some")


def full(_folder: Path, _stop_at: float) -> Path:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (fail, "there is no room (make some)"),
        (full, "the core could not be written: [Errno 28] No space left on device"),
        (lambda folder, _: folder / "core", ""),
    ],
)
def test_what_the_helper_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write: Callable[..., Path], reason: str
) -> None:
    monkeypatch.setattr(macos, "write_core", write)
    folder = tmp_path / "name"
    told = cores.Cores(systems.SYSTEMS["darwin"]).make(str(folder), 1)
    assert (told["path"], told["reason"]) == (None if reason else str(folder / "core"), reason)
    assert folder.is_dir()
    cores.discard(str(folder))
    assert not folder.exists()


def test_interrupt_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A handler of a signal may raise while the core is awaited, as that of pytest-timeout does."""

    def interrupt(folder: Path, _stop_at: float) -> Path:
        (folder / "core").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(macos, "write_core", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cores.Cores(systems.SYSTEMS["darwin"]).make(str(tmp_path / "name"), 1)
    assert list(tmp_path.iterdir()) == []


def test_stream(tmp_path: Path) -> None:
    """Any file, with its holes, as the archive wants it."""
    path = tmp_path / "core"
    with path.open("wb") as file:
        file.write(b"begin")
        file.seek(1 << 20)
        file.write(b"end")
    with path.open("rb", buffering=0) as file:
        core = stream_file(file)
        assert core.size == (1 << 20) + 3
        found: dict[int, Any] = {}
        for offset, length in core.extents:
            found[offset] = memoryview(bytearray(length))
            core.read(offset, found[offset])
    assert bytes(found[0][:5]) == b"begin"
    assert re.search(b"end$", bytes(found[max(found)]))
    assert core.data_size < core.size
