"""What a controller knows of another host, whatever the other end says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sent_files import DATA, DIGEST, NAME, make_outcome

from pytest_gencore.hosts import host, wire
from pytest_gencore.hosts.budget import Budget
from pytest_gencore.plugin import attach

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gencore.run.outcome import Outcome


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

    def make_connection(_specs: object, _paths: object, take: Any) -> Line:
        line.take = take
        return line

    monkeypatch.setattr(host, "Connection", make_connection)
    monkeypatch.setattr(host, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(host, "_CLOSE_SECONDS", 0.01)
    return line


def connect(line: Line, home: Path, budget: Budget | None = None) -> host.Host:
    far = host.Host("far", [], [], home, budget or Budget(0, lambda: 0))
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
    line.take(("file", NAME, len(DATA)))
    line.take(("piece", DATA))
    line.take(("end", DIGEST))
    assert (only(far).state, only(far).size_bytes) == ("done", len(DATA)), "its report did not say the size"


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


@pytest.mark.parametrize(
    "nonsense",
    [
        {"archive": 5},
        {"archive": NAME, "trigger": [1]},
        {"archive": NAME, "trigger": "none of ours"},
        {"archive": NAME, "state": "lost"},
        {"archive": NAME, "size_bytes": -1},
        {"archive": NAME, "no": "field"},
        None,
    ],
)
def test_an_agent_that_says_nonsense(line: Line, tmp_path: Path, nonsense: Any) -> None:
    far = connect(line, tmp_path)
    far.expect(make_outcome(tmp_path, state="working"))
    line.take(("seen", 1, [nonsense], "", (0, 0, 0)))
    assert "unexpected " in only(far).reason


@pytest.mark.parametrize(
    ("is_named", "state", "reason"),
    [
        (False, "dropped", ""),
        (True, "failed", f"there is no archive at far:/far/{NAME}: No such file or directory"),
    ],
)
def test_what_a_run_has_forgotten(
    line: Line, tmp_path: Path, is_named: bool, state: str, reason: str
) -> None:
    """The folder of a run goes with its last process; an archive that nobody wanted has gone before."""
    far = connect(line, tmp_path)
    if is_named:
        far.expect(make_outcome(tmp_path, state="working", size_bytes=0))
    see(line, 0, make_outcome(tmp_path, state="working", size_bytes=0))
    see(line, 1)
    assert far.is_at_work()
    assert ("send", NAME) in line.sent
    line.take(("unread", NAME, "No such file or directory", False))
    assert (only(far).state, only(far).reason) == (state, reason)


@pytest.mark.parametrize("is_there", [True, False])
def test_a_directory_of_both_without_a_run(line: Line, tmp_path: Path, is_there: bool) -> None:
    far = host.Host("far", [], [], tmp_path, Budget(0, lambda: 0))
    far.plan("/far", "", is_armed=True)
    far.open()
    ((_, _, _, token, _),) = line.sent
    assert (tmp_path / token).exists()
    line.take(("hello", "1-2-3", "/far", True))
    assert not (tmp_path / token).exists()
    if is_there:
        (tmp_path / NAME).write_bytes(DATA)
    far.expect(make_outcome(tmp_path, state="working", size_bytes=0))
    see(line, 1)
    expected = ("done", len(DATA)) if is_there else ("failed", 0)
    assert (only(far).state, only(far).size_bytes) == expected


def test_what_failed_there(line: Line, tmp_path: Path) -> None:
    far = connect(line, tmp_path)
    see(line, 0, make_outcome(tmp_path, state="failed", reason="the disk is full"))
    assert only(far).state == "working", "its text may come"
    line.take(("unread", NAME, "No such file or directory", False))
    assert only(far).reason == "the disk is full (on far)"


def test_a_name_that_another_host_has(line: Line, tmp_path: Path) -> None:
    budget = Budget(0, lambda: 0)
    outcome = make_outcome(tmp_path)
    first = connect(line, tmp_path, budget)
    see(line, 0, outcome)
    second = connect(line, tmp_path, budget)
    see(line, 0, outcome)
    here = NAME.replace(".001.", ".1001.")
    assert (only(first).archive.name, only(second).archive.name) == (NAME, here)
    assert second.name_there(here) == NAME
    assert line.sent.count(("send", NAME)) == 2
    assert not second.acknowledge(NAME.removesuffix(".tar.gz"))
    assert second.acknowledge(here.removesuffix(".tar.gz"))
    assert line.sent[-1] == ("seen", NAME.removesuffix(".tar.gz"))


def test_a_report_of_an_archive_with_another_name() -> None:
    old, new = "/home/core_a.tar.gz", "/home/core_b.tar.gz"
    properties = [*attach.make_properties(old, "file:///x"), ("mine", f"{old}, and more")]
    report = pytest.TestReport("test_a", ("test_a", 1, "test_a"), {}, "failed", None, "call")
    report.user_properties = list(properties)
    report.sections = [(attach.SECTION, attach.describe_archive(old)), ("Captured stdout", old)]
    report.gencore = [{"path": old}]  # type: ignore[attr-defined]
    teardown = pytest.TestReport("test_a", ("test_a", 1, "test_a"), {}, "passed", None, "teardown")
    teardown.user_properties = list(properties)
    for one in (report, teardown):
        assert attach.find_archives(one) == [old]
        attach.rename_archive(one, old, new)
        assert attach.find_archives(one) == [new]
        assert one.user_properties[1:] == properties[1:]
    assert report.sections == [(attach.SECTION, attach.describe_archive(new)), ("Captured stdout", old)]
