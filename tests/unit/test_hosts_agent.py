"""What an agent does on another host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from capabilities import needs
from sent_files import DATA, DIGEST, LIBRARIES, NAME

from pytest_gencore.hosts import agent

if TYPE_CHECKING:
    from pathlib import Path


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


@pytest.mark.parametrize(
    ("token_in", "run_id", "chosen"),
    [("home", "", "home"), ("other", "", "other"), ("other", "1-2-3", "other"), ("home", "1-2-3", None)],
    ids=["same path", "another path", "another path, of a run", "captures are not there"],
)
def test_an_agent_knows_the_directory_of_its_controller(
    tmp_path: Path, token_in: str, run_id: str, chosen: str | None
) -> None:
    (tmp_path / token_in).mkdir()
    (tmp_path / token_in / "token").touch()
    channel = Channel(("start", str(tmp_path / "home"), str(tmp_path / "other"), "token", run_id))
    agent.serve(channel)
    assert channel.said[0][2:] == (str(tmp_path / (chosen or "other")), chosen is not None)


@needs("root")
@pytest.mark.parametrize("mode", [0o700, 0o755], ids=["not searched", "not written"])
def test_a_directory_that_may_not_be_used_is_not_that_of_the_controller(tmp_path: Path, mode: int) -> None:
    (tmp_path / "token").touch()
    tmp_path.chmod(mode)
    os.seteuid(65534)
    try:
        assert not agent.is_home(str(tmp_path), "token")
    finally:
        os.seteuid(0)
    assert agent.is_home(str(tmp_path), "token")


def test_an_agent_that_cannot_work_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotADirectoryError(20, "Not a directory", "x")

    monkeypatch.setattr(agent, "open_run", refuse)
    channel = Channel(("start", str(tmp_path), str(tmp_path), "", ""))
    agent.serve(channel)
    assert channel.said[-1] == ("refused", "[Errno 20] Not a directory: 'x'")


def test_libraries_stay_with_what_stays(tmp_path: Path) -> None:
    """What an earlier run has left is none of that."""
    (tmp_path / "core_earlier.txt").touch()
    for landed in (True, False):
        (tmp_path / LIBRARIES).write_bytes(DATA)
        (tmp_path / NAME).write_bytes(DATA)
        channel = Channel()
        served = agent.Agent(channel, tmp_path, "1-2-3")
        served._libraries.add(LIBRARIES)
        served._obey("send", NAME)
        served._obey("landed", LIBRARIES)
        if landed:
            served._obey("landed", NAME)
        served.serve()
        assert (tmp_path / LIBRARIES).exists() is not landed


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    assert list(agent.read_file(tmp_path / NAME)) == [("unread", NAME, "No such file or directory", False)]


def test_an_agent_says_why_it_cannot_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = Channel(("look", 1))
    served = agent.Agent(channel, tmp_path, "1-2-3")

    def refuse() -> None:
        raise OSError(5, "Input/output error", "x\udcff")

    monkeypatch.setattr(served, "_look", refuse)
    served.serve()
    assert channel.said == [("refused", "[Errno 5] Input/output error: 'x\\udcff'")]
