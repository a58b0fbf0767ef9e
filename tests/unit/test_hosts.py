"""What comes from another host: whole or not at all, within the limit, and whatever the other end says."""

from __future__ import annotations

import hashlib
import resource
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.errors import ArchiveError
from pytest_gencore.hosts import agent, host, landing, wire
from pytest_gencore.hosts.arrivals import Arrivals
from pytest_gencore.hosts.budget import Budget
from pytest_gencore.hosts.landing import Landing
from pytest_gencore.run.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "core_20261130.120000.7.001.tar.gz"
DATA = bytes(range(256)) * 64
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=[True, False], ids=["without a name", "with a name"])
def _naming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write as on Linux, and as elsewhere."""
    monkeypatch.setattr(landing, "_IS_LINUX", request.param)


@pytest.mark.usefixtures("_naming")
def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / NAME
    file = Landing(path, len(DATA))
    file.add(DATA[:1000])
    file.add(DATA[1000:])
    assert not path.exists()
    file.finish(DIGEST)
    file.close()
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.usefixtures("_naming")
@pytest.mark.parametrize(
    ("size", "digest", "problem"),
    [
        (len(DATA) + 1, DIGEST, f"{len(DATA)} bytes of {len(DATA) + 1}"),
        (len(DATA) - 1, DIGEST, f"{len(DATA)} bytes of {len(DATA) - 1}"),
        (len(DATA), "0" * 64, "the digests differ"),
    ],
    ids=["short", "long", "changed"],
)
def test_what_is_not_what_was_sent_leaves_nothing(
    tmp_path: Path, size: int, digest: str, problem: str
) -> None:
    file = Landing(tmp_path / NAME, size)
    with pytest.raises(ArchiveError, match=problem):
        receive(file, digest)
    file.close()
    assert list(tmp_path.iterdir()) == []


def receive(file: Landing, digest: str) -> None:
    file.add(DATA)
    file.finish(digest)


@pytest.mark.usefixtures("_naming")
def test_no_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("another one")
    file = Landing(tmp_path / NAME, len(DATA))
    with pytest.raises(ArchiveError, match="exists already"):
        receive(file, DIGEST)
    file.close()
    assert (tmp_path / NAME).read_text() == "another one"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def _small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("_small_files")
def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    landed: list[str] = []
    arrivals = Arrivals(tmp_path, Budget(0, lambda: 0), landed.append)
    assert arrivals.expect(NAME, len(DATA))
    send(arrivals)
    assert (arrivals.all[NAME].state, arrivals.all[NAME].reason) == ("failed", "File too large")
    assert (landed, list(tmp_path.iterdir())) == ([], [])


def send(arrivals: Arrivals, name: str = NAME) -> None:
    arrivals.begin(name, len(DATA))
    arrivals.add(DATA)
    arrivals.end(DIGEST)


def test_the_size_of_all_archives(tmp_path: Path) -> None:
    landed: list[str] = []
    arrivals = Arrivals(tmp_path, Budget(len(DATA) + 10, lambda: 5), landed.append)
    assert arrivals.expect(NAME, len(DATA))
    assert not arrivals.expect(NAME, len(DATA)), "once"
    send(arrivals, "libraries_20261130.120000.7.001.tar.gz")
    send(arrivals)
    assert not arrivals.expect("core_2.tar.gz", 1000)
    assert landed == [NAME]
    assert "would be larger than" in arrivals.all["core_2.tar.gz"].reason
    (note,) = arrivals.all[NAME].notes
    assert "libraries_20261130.120000.7.001.tar.gz did not come: the archives of this run" in note


@pytest.mark.parametrize("name", ["../core_x.tar.gz", "core_/x.tar.gz", ".bashrc", "core_x.tar.gz\n", "", 5])
def test_names_that_are_none(tmp_path: Path, name: Any) -> None:
    arrivals = Arrivals(tmp_path / "home", Budget(0, lambda: 0), lambda _: None)
    send(arrivals, name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r".*"):
        wire.decode({"archive": name}, tmp_path)


def make_outcome(directory: Path, **changes: Any) -> Outcome:
    facts: dict[str, Any] = {"nodeid": "test_a", "phase": "call", "worker_id": "gw0", "method": "memory"}
    facts |= {"size_bytes": len(DATA), "bytes_done": 0, "bytes_total": 0, "reason": "", "trigger": "failure"}
    return Outcome(archive=directory / NAME, **{"state": "done", **facts, **changes})


def test_an_outcome_passes(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    outcome = make_outcome(there, answer="two\nlines", signal=11)
    assert wire.decode(wire.encode(outcome), here) == outcome._replace(archive=here / NAME)
    hostile = wire.encode(outcome._replace(reason="\x1b[2J"))
    assert "\x1b" not in wire.decode(hostile, here).reason


class Line:
    """Connects a host to an agent that a test plays."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []
        self.take: Any = None

    def open(self, *first: Any) -> None:
        self.sent.append(first)

    def send(self, *message: Any) -> bool:
        self.sent.append(message)
        return True

    def close(self) -> None:
        self.take(None)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line()

    def connect(_specs: object, _paths: object, take: Any) -> Line:
        line.take = take
        return line

    monkeypatch.setattr(host, "Connection", connect)
    monkeypatch.setattr(host, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(host, "_CLOSE_SECONDS", 0.01)
    return line


def connect(line: Line, home: Path) -> host.Host:
    far = host.Host("far", [], [], home, Budget(0, lambda: 0))
    far.plan("/far", "", is_armed=True)
    far.open()
    line.take(("hello", "1-2-3", "/far", False))
    return far


def see(line: Line, number: int, *outcomes: Outcome) -> None:
    line.take(("seen", number, list(map(wire.encode, outcomes)), "", (0, 0, 0)))


def only(far: host.Host) -> Outcome:
    (outcome,) = far.look()
    return outcome


def test_an_archive_is_at_work_until_it_is_here(line: Line, tmp_path: Path) -> None:
    far = connect(line, tmp_path)
    see(line, 0, make_outcome(tmp_path))
    assert ("send", NAME) in line.sent
    line.take(("file", NAME, len(DATA)))
    line.take(("piece", DATA[:100]))
    outcome = only(far)
    assert (outcome.state, outcome.bytes_done, outcome.bytes_total) == ("working", 100, len(DATA))
    line.take(("piece", DATA[100:]))
    line.take(("end", DIGEST))
    assert ("landed", NAME) in line.sent
    assert (only(far).state, only(far).archive.read_bytes()) == ("done", DATA)


def test_a_capture_that_its_test_has_waited_for(line: Line, tmp_path: Path) -> None:
    """It is of no run."""
    far = connect(line, tmp_path)
    far.expect(make_outcome(tmp_path, state="working", trigger="request"))
    assert ("look", 0) in line.sent
    see(line, 0)
    assert line.sent[-1] == ("send", NAME)
    line.take(("unread", NAME, "No such file or directory"))
    assert only(far).reason == f"the archive stays at far:/far/{NAME}: No such file or directory"


def test_a_connection_that_ends(line: Line, tmp_path: Path) -> None:
    far = connect(line, tmp_path / "home")
    see(line, 0, make_outcome(tmp_path))
    line.take(("file", NAME, len(DATA)))
    line.take(("piece", DATA[:100]))
    line.take(None)
    place = f"far:/far/{NAME}"
    assert only(far).reason == f"the archive stays at {place}: the connection ended"
    far.expect(make_outcome(tmp_path / "home", state="working")._replace(archive=tmp_path / "core_2.tar.gz"))
    reasons = [outcome.reason for outcome in far.look()]
    assert reasons[1] == "the archive is, or will be, at far:/far/core_2.tar.gz: the connection ended"
    assert list((tmp_path / "home").iterdir()) == []


def test_an_agent_that_falls_silent(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = connect(line, tmp_path)
    see(line, 0, make_outcome(tmp_path, state="working"))
    monkeypatch.setattr(host, "SILENCE_SECONDS", 0.0)
    far.begin_wait()
    far.wait(0.01)
    assert only(far).state == "failed"
    assert "it has said nothing for" in only(far).reason


def test_an_agent_that_says_nonsense(line: Line, tmp_path: Path) -> None:
    far = connect(line, tmp_path)
    far.expect(make_outcome(tmp_path, state="working"))
    line.take(("seen", 1, [{"archive": 5}], "", ()))
    assert "unexpected ValueError" in only(far).reason


def test_what_failed_there(line: Line, tmp_path: Path) -> None:
    far = connect(line, tmp_path)
    see(line, 0, make_outcome(tmp_path, state="failed", reason="the disk is full"))
    assert only(far).state == "working", "its text may come"
    line.take(("unread", NAME, "No such file or directory"))
    assert only(far).reason == "the disk is full (on far)"


class Channel:
    """The agent's end: what it is told, and what it says."""

    TimeoutError = TimeoutError

    def __init__(self, *told: tuple[Any, ...]) -> None:
        self._told = list(told)
        self.said: list[tuple[Any, ...]] = []

    def receive(self, timeout: float | None = None) -> tuple[Any, ...]:
        if self._told:
            return self._told.pop(0)
        if timeout == 0:  # something is being sent
            raise TimeoutError
        raise EOFError

    def send(self, message: tuple[Any, ...]) -> None:
        self.said.append(message)


def test_an_agent_sends_what_lies_beside_first(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(DATA)
    (tmp_path / NAME.replace(".tar.gz", ".txt")).write_text("stacks")
    channel = Channel(("start", "/nowhere", str(tmp_path), "", ""), ("send", NAME), ("send", "../x"))
    agent.serve(channel)
    words = [message[:2] if message[0] == "file" else message[0] for message in channel.said]
    text = NAME.replace(".tar.gz", ".txt")
    assert words[0] == "hello"
    assert [word for word in words[1:] if word != "seen"] == [
        ("file", text),
        "piece",
        "end",
        ("file", NAME),
        "piece",
        "end",
        "closed",
    ]
    assert channel.said[-2] == ("end", DIGEST)
    assert (tmp_path / NAME).exists(), "nobody has said that it landed"


def test_an_agent_knows_the_directory_of_its_controller(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    (home / "token").touch()
    channel = Channel(("start", str(home), str(other), "token", "1-2-3"))
    agent.serve(channel)
    assert channel.said[0] == ("hello", "1-2-3", str(home), True)
    assert not other.exists()


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    assert list(agent.read_file(tmp_path / NAME)) == [("unread", NAME, "No such file or directory")]
