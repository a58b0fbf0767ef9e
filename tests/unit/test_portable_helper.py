"""What a process without the extension tells its helper, and what becomes of that when things go wrong."""

from __future__ import annotations

import errno
import io
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import pytest_gencore.run.portable as waiting_module
from pytest_gencore.capture import CaptureEngine, CaptureRequest, new_run_id, start
from pytest_gencore.capture import engine as engine_module
from pytest_gencore.collector import portable as collector
from pytest_gencore.collector.told_captures import ToldCaptures
from pytest_gencore.errors import CaptureError
from pytest_gencore.portable import native, places
from pytest_gencore.portable.look import Clock
from pytest_gencore.probe import values
from pytest_gencore.protocol import Deadline
from pytest_gencore.request.context import encode_place
from pytest_gencore.run.files import STATE, partial_name
from pytest_gencore.run.folder import run_folder_name
from pytest_gencore.run.portable import PortableRun
from pytest_gencore.run.state import CaptureState, replace_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Told:
    """Stands in for the helper: keeps what it is told."""

    pid = 1
    captures: list[dict[str, Any]]

    def __init__(self, *_: object) -> None:
        self.captures = []

    def send(self, told: dict[str, Any]) -> None:
        self.captures.append(json.loads(json.dumps(told)))


class Portable:
    """An engine without the extension, with the run that waits for its captures."""

    def __init__(self, directory: Path, stderr_fd: int) -> None:
        run_id = new_run_id()
        self.engine = CaptureEngine(directory, run_id, max_captures=2, stderr_fd=stderr_fd)
        self.run = PortableRun(directory, run_id)
        self.directory = directory
        self.folder = directory / run_folder_name(run_id)

    def tell(self, nodeid: str = "test_a") -> dict[str, Any]:
        """Capture, and return what the helper is told."""
        self.engine.capture(CaptureRequest(trigger="failure", nodeid=nodeid, failure_text="text"))
        found: dict[str, Any] = self.engine.plan.helper.captures[-1]  # type: ignore[attr-defined]
        return found


@pytest.fixture
def portable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Portable]:
    for module in (start, engine_module):
        monkeypatch.setattr(module, "has_extension", lambda: False)
    monkeypatch.setattr(values, "_others", [])
    monkeypatch.setattr(native, "Helper", Told)
    monkeypatch.setattr(native, "NATIVE", native.PortableNative())
    descriptor = os.open(tmp_path / "errors", os.O_WRONLY | os.O_CREAT)
    yield Portable(tmp_path / "artifacts", descriptor)
    os.close(descriptor)


def take(portable: Portable) -> str:
    """Make the files of a capture, with a core; return its name."""
    name = places.take(str(portable.directory), portable.folder.name, -1, None, '"test_a"').name
    (portable.folder / name).mkdir()
    (portable.folder / name / "core").write_bytes(b"secret")
    return name


def test_interrupted(portable: Portable, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given up after a second Ctrl-C leaves no core, which nobody has redacted."""
    monkeypatch.setattr(waiting_module, "_CANCEL_SECONDS", 0.0)
    name = take(portable)
    (outcome,) = portable.run.cancel()
    assert (outcome.state, outcome.reason) == ("failed", "interrupted")
    assert not (portable.folder / name).exists()
    portable.run.close()
    assert list(portable.directory.iterdir()) == []


def test_silent_helper(portable: Portable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what is given up because nobody works on it any more."""
    monkeypatch.setattr(waiting_module, "PATIENCE_SECONDS", -1.0)
    name = take(portable)
    (outcome,) = portable.run.outcomes()
    assert outcome.state == "failed"
    assert [path.name for path in portable.folder.iterdir()] == [STATE.named(name)]
    assert list(portable.directory.iterdir()) == [portable.folder]


def test_unexpected_error(portable: Portable) -> None:
    """Nor does a capture that the helper cannot write."""
    told = portable.tell()
    core = portable.folder / told["name"] / "core"
    core.parent.mkdir()
    core.write_bytes(b"secret")
    collector._give_up(told, "unexpected")
    assert not core.parent.exists()
    assert not (portable.directory / partial_name(told["name"])).exists()
    assert [(outcome.state, outcome.reason) for outcome in portable.run.outcomes()] == [
        ("failed", "unexpected")
    ]


def test_waiting(portable: Portable) -> None:
    """What waits for its turn counts as at work, but behind a capture that hangs."""
    tolds = [portable.tell("test_a"), portable.tell("test_b")]
    captures = ToldCaptures()
    data = [json.dumps(told).encode() for told in tolds]
    captures.read(io.BytesIO(b"".join(b"%d\n%b" % (len(text), text) for text in data)))
    long_ago = time.time() - 2 * waiting_module.PATIENCE_SECONDS

    def look(*paths: str) -> list[str]:
        for path in paths:
            os.utime(path, (long_ago, long_ago))
        captures.touch()
        return [outcome.state for outcome in portable.run.outcomes()]

    first, second = (told["state_file"] for told in tolds)
    assert look(first, second) == ["working", "working"]
    os.utime(first, (long_ago, long_ago))
    assert captures.take() == tolds[0]
    assert look(second) == ["working", "working"]
    assert look(first, second) == ["failed", "failed"]
    assert captures.take() == tolds[1]
    assert captures.take() is None


def fail(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))


@pytest.mark.parametrize(("method", "number"), [("replace", errno.EACCES), ("write_bytes", errno.ENOSPC)])
def test_end_that_cannot_be_put_in_place(
    portable: Portable, monkeypatch: pytest.MonkeyPatch, method: str, number: int
) -> None:
    """On Windows the waiting process may have the file open, and a disk may be full: it is written over."""
    name = take(portable)
    path = portable.folder / STATE.named(name)
    monkeypatch.setattr(Path, method, lambda *_: fail(number))
    for reason in ("long " * 100, "short"):
        replace_state(path, CaptureState(state="failed", reason=reason))
        assert [outcome.reason for outcome in portable.run.outcomes()] == [reason]
    assert path.stat().st_size == 4096
    assert sorted(entry.name for entry in portable.folder.iterdir()) == [name, path.name]


def test_full_disk(portable: Portable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing could be said of a capture it is refused at once, and leaves nothing."""
    monkeypatch.setattr(places, "_write", lambda *_: fail(errno.ENOSPC))
    with pytest.raises(CaptureError, match=r"cannot create an archive in .*: ENOSPC"):
        portable.tell()
    assert list(portable.folder.iterdir()) == []
    assert list(portable.directory.iterdir()) == [portable.folder]


def test_text_that_cannot_be_written(portable: Portable, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none rather than a part of it."""
    told = portable.tell()
    monkeypatch.setattr(collector, "create_private", lambda path: os.open(path, os.O_CREAT | os.O_RDONLY))
    collector._Capture(told).write()
    assert [outcome.state for outcome in portable.run.outcomes()] == ["done"]
    assert sorted(path.suffix for path in portable.directory.iterdir() if path.is_file()) == [".gz"]


def end_helper(portable: Portable) -> None:
    def send(_: object) -> NoReturn:
        fail(errno.EPIPE)

    portable.engine.plan.helper.send = send  # type: ignore[attr-defined]


class ProcessEndedError(BaseException):
    """In place of the end."""


@pytest.mark.parametrize("which", [Deadline.GENCORE, Deadline.SESSION])
@pytest.mark.parametrize(
    ("refuse", "reason"),
    [
        (
            lambda portable: [portable.tell(name) for name in "ab"],
            "the limit of 2 captures of one run is reached",
        ),
        (lambda portable: portable.directory.write_text(""), "cannot make a private folder in "),
        (end_helper, "cannot hand over to the collector (errno 32)"),
        (lambda portable: None, ""),
    ],
)
def test_end_of_the_process(
    portable: Portable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    which: Deadline,
    refuse: Callable[[Portable], object],
    reason: str,
) -> None:
    """It says why, and why there is no archive; and it ends whatever a test has patched."""

    def end(status: int) -> NoReturn:
        assert status == 1
        raise ProcessEndedError

    monkeypatch.setattr(native, "_exit", end)
    monkeypatch.setattr(places, "Path", None)
    refuse(portable)
    request = CaptureRequest(trigger="timeout")
    standby: Any = portable.engine.prepare_capture(request, await_seconds=60, exits=True).standby
    native.NATIVE.set_test(encode_place("test_a", "at the end"))
    with pytest.raises(ProcessEndedError):
        native.NATIVE._pass_deadline((which, standby, True, Clock(0)), 0.0)
    said = (tmp_path / "errors").read_text().splitlines()
    assert said.pop().endswith("the process ends: gencore_exit_on_timeout")
    assert [reason in line for line in said] == [True] * bool(reason)
    assert all(line.startswith("gencore: no core archive of test_a, at the end: ") for line in said)
