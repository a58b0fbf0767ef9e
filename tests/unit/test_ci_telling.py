"""CI systems are told once of each capture, within their limits; what others wrote stays."""

from __future__ import annotations

import dataclasses
import fcntl
import os
from typing import TYPE_CHECKING, Any

import pytest
from ci_grammar import read_azure, read_github, read_page, read_teamcity

from pytest_gencore.ci import telling
from pytest_gencore.ci.captures import Capture
from pytest_gencore.ci.systems import Target
from pytest_gencore.ci.telling import RunPlace, Telling, tell
from pytest_gencore.run.files import CI

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOBODY = "ci: no annotation: buildkite-agent"


class Teller:
    """A run in a folder, and a system that is told of its captures."""

    def __init__(self, folder: Path, system: str, place: str = "") -> None:
        self.folder = folder / ".gencore-1-2-abc"
        self.folder.mkdir()
        self.run = RunPlace(self.folder, self.folder.name, folder)
        self.target = Target(system, place, str(folder))

    def tell(self, *captures: Capture, **options: Any) -> Telling:
        return tell(self.run, self.target, captures, environ={"TOKEN": "secret"}, **options)


@pytest.fixture
def early(tmp_path: Path) -> Capture:
    (tmp_path / "core_1.tar.gz").touch()
    return Capture(
        test="t.py::test_a",
        trigger="failure",
        verdict="failed: t.py::test_a",
        answer="failed: t.py::test_a\n  File",
        archive=tmp_path / "core_1.tar.gz",
        state="working",
    )


def end(capture: Capture, **facts: Any) -> Capture:
    return dataclasses.replace(capture, **{"state": "done", "size_bytes": 4096, **facts})


def also(capture: Capture, number: int) -> Capture:
    name = f"core_{number}.tar.gz"
    return dataclasses.replace(
        capture, archive=capture.archive.with_name(name), test=f"t.py::test_{number}", verdict="failed"
    )


def test_github_is_completed_in_place_between_what_others_write(tmp_path: Path, early: Capture) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before, without end of line")
    teller = Teller(tmp_path, "github", str(path))
    (line,) = teller.tell(early).lines
    assert read_github(line)[2] == "failed: t.py::test_a (core_1.tar.gz)"
    first = path.read_text()
    assert "core_1.tar.gz</code>, being written " in first
    with path.open("a") as file:
        file.write("after\n")
    assert teller.tell(end(early)) == Telling([])
    text = path.read_text()
    assert text.startswith("before, without end of line\n<h3>")
    assert text.endswith("\nafter\n")
    assert len(text) == len(first) + len("after\n")
    assert text.count("core_1.tar.gz</code>, 4.0 KiB ") == text.count("<tr><td>") == 1
    assert "being written" not in text
    read_page(text.partition("\n")[2].removesuffix("\nafter\n"))
    assert teller.tell(end(early)) == Telling([])
    assert path.read_text() == text


def test_github_leaves_a_cell_alone_that_has_moved(tmp_path: Path, early: Capture) -> None:
    path = tmp_path / "summary.md"
    teller = Teller(tmp_path, "github", str(path))
    teller.tell(early)
    path.write_text(f"others put something first\n{path.read_text()}")
    text = path.read_text()
    assert teller.tell(end(early)) == Telling([])
    assert path.read_text() == text


def test_github_shows_a_long_reason_only_where_there_is_room(tmp_path: Path, early: Capture) -> None:
    path = tmp_path / "summary.md"
    teller = Teller(tmp_path, "github", str(path))
    teller.tell(early)
    teller.tell(end(early, state="failed", reason="'" * 1000))
    assert "core_1.tar.gz</code>, no archive " in path.read_text()


@pytest.mark.parametrize(
    ("reason", "length", "is_named"), [("", 60, True), ("'" * 80, 200, True), ("", 400, False)]
)
def test_github_names_the_store_where_there_is_room(
    tmp_path: Path, early: Capture, reason: str, length: int, *, is_named: bool
) -> None:
    path = tmp_path / "summary.md"
    teller = Teller(tmp_path, "github", str(path))
    teller.tell(early)
    url = f"s3://bucket/{'x' * length}/core_1.tar.gz"
    teller.tell(end(early, url=url, reason=reason))
    text = path.read_text()
    assert "core_1.tar.gz</code>, 4.0 KiB" in text
    assert (f"<br>uploaded: <code>{url}</code>" in text) is is_named


def test_github_has_room(tmp_path: Path, early: Capture) -> None:
    """The summary of a step is never larger than GitHub takes, and there are never more than 10 notices."""
    path = tmp_path / "summary.md"
    teller = Teller(tmp_path, "github", str(path))
    answer = "a line of a stack <&>\n" * 10_000
    captures = [dataclasses.replace(also(early, number), answer=answer) for number in range(30)]
    told = [teller.tell(*captures[: number + 1]) for number in range(30)]
    assert path.stat().st_size < telling.SUMMARY_LIMIT
    assert path.read_text().count("<tr><td>") == 30
    assert [len(each.lines) for each in told] == [1] * 10 + [0] * 20
    assert "more captures" in told[9].lines[0]
    path.write_bytes(b"x" * (telling.SUMMARY_LIMIT - 100))
    problem = teller.tell(also(early, 99)).problem
    assert problem == f"ci: no room for more captures in {path}: GitHub takes 1 MiB"
    assert path.stat().st_size == telling.SUMMARY_LIMIT - 100


@pytest.mark.parametrize("kind", ["folder", "fifo", "nowhere"])
def test_github_without_a_file(tmp_path: Path, early: Capture, kind: str) -> None:
    path = tmp_path / "summary.md"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path = path / "x"
    teller = Teller(tmp_path, "github", str(path))
    told = teller.tell(early)
    assert len(told.lines) == 1
    assert told.problem.startswith(f"ci: {path} could not be written: ")
    assert teller.tell(end(early)) == Telling([], told.problem)


def test_azure_is_given_a_file_and_archives(tmp_path: Path, early: Capture) -> None:
    (tmp_path / "temporary").mkdir()
    teller = Teller(tmp_path, "azure", str(tmp_path / "temporary"))
    page = tmp_path / "temporary/gencore-abc.md"
    first = teller.tell(early).lines
    assert [read_azure(line) for line in first] == [("task.uploadsummary", {}, str(page))]
    assert read_page(page.read_text())["td"][2] == "core_1.tar.gz, being written"
    (tmp_path / "core_1.txt").touch()
    second = teller.tell(end(early), also(early, 2)).lines
    kept = {"containerfolder": "gencore", "artifactname": "gencore"}
    assert [read_azure(line) for line in second] == [
        ("task.uploadsummary", {}, str(page)),
        ("artifact.upload", kept, str(tmp_path / "core_1.tar.gz")),
        ("artifact.upload", kept, str(tmp_path / "core_1.txt")),
    ]
    assert read_page(page.read_text())["td"][2] == "core_1.tar.gz, 4.0 KiB"


def test_azure_without_a_folder_of_its_own(tmp_path: Path, early: Capture) -> None:
    Teller(tmp_path, "azure").tell(early)
    assert (tmp_path / "gencore-abc.md").is_file()


def test_teamcity_is_told_and_given_archives(tmp_path: Path, early: Capture) -> None:
    teller = Teller(tmp_path, "teamcity")
    first = [read_teamcity(line) for line in teller.tell(early).lines]
    assert [name for name, _ in first] == ["message", "blockOpened", "message", "blockClosed"]
    second = [read_teamcity(line) for line in teller.tell(end(early)).lines]
    assert second == [("publishArtifacts", {"": f"{early.archive} => gencore"})]
    third = [read_teamcity(line) for line in teller.tell(end(also(early, 2), url="s3://b/core_2")).lines]
    assert [text["text"] for name, text in third if name == "message"] == [
        "failed: t.py::test_2 (core_2.tar.gz, uploaded: s3://b/core_2)",
        also(early, 2).answer,
        "uploaded: s3://b/core_2",
    ]


@pytest.fixture
def make_agent(tmp_path: Path) -> Callable[[str], str]:
    """Make a program that does as the agent should, or not."""

    def make(script: str) -> str:
        agent = tmp_path / "buildkite-agent"
        agent.write_text(f"#!/bin/sh\n{script}\n")
        agent.chmod(0o755)
        return str(agent)

    return make


def test_buildkite_agent_replaces_its_annotation(
    tmp_path: Path, early: Capture, make_agent: Callable[[str], str]
) -> None:
    log = tmp_path / "log"
    teller = Teller(tmp_path, "buildkite", make_agent(f'echo "$TOKEN $*" >>{log}; cat >>{log}'))
    assert teller.tell(early) == teller.tell(end(early)) == Telling([])
    first, *_ = log.read_text().splitlines()
    assert first == "secret annotate --style warning --context gencore-abc"
    one, two = log.read_text().split(f"{first}\n")[1:]
    assert read_page(one)["td"][2] == "core_1.tar.gz, being written"
    assert read_page(two)["td"][2] == "core_1.tar.gz, 4.0 KiB"


@pytest.mark.parametrize(
    ("script", "problems", "calls"),
    [
        ("exit 3", [f"{NOBODY} ended with status 3"] * 3, 1),
        ("exec sleep 100", ["", *[f"{NOBODY} took longer than 0.2 s"] * 2], 2),
        ("", [""] * 3, 3),
    ],
    ids=["fails", "is slow", "reads nothing"],
)
def test_buildkite_agent_that_does_not_work(
    tmp_path: Path,
    early: Capture,
    make_agent: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    problems: list[str],
    calls: int,
) -> None:
    """It is not asked again once the end was not taken; one that reads nothing has taken enough."""
    for name in ("_EARLY_SECONDS", "_AGENT_SECONDS"):
        monkeypatch.setattr(telling, name, 0.2 if script.startswith("exec") else 20)
    teller = Teller(tmp_path, "buildkite", make_agent(f"echo >>{tmp_path}/calls\n{script}"))
    end_of_all = (end(early), end(also(early, 2)))
    told = [teller.tell(early), teller.tell(end(early)), teller.tell(*end_of_all)]
    assert told == [Telling([], problem) for problem in problems]
    assert len((tmp_path / "calls").read_text()) == calls


def test_buildkite_without_agent(tmp_path: Path, early: Capture) -> None:
    told = Teller(tmp_path, "buildkite").tell(early)
    assert told == Telling([], f"{NOBODY} is not on PATH")


def test_one_tells_at_a_time(tmp_path: Path, early: Capture) -> None:
    teller = Teller(tmp_path, "teamcity")
    with (teller.folder / CI.named()).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert teller.tell(early, waits=False) == Telling([])
    assert teller.tell(early, waits=False).lines


def test_without_the_folder_of_the_run(tmp_path: Path, early: Capture) -> None:
    """Nobody else can have told: it was a capture that a test asked for."""
    teller = Teller(tmp_path, "teamcity")
    teller.run = teller.run._replace(folder=None)
    assert len(teller.tell(end(early)).lines) == 5


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"cells": 3}', '{"cells": {"a": 1}}', '{"cells": {}, "x": 1}']
)
def test_damaged_memory(tmp_path: Path, early: Capture, text: str) -> None:
    teller = Teller(tmp_path, "teamcity")
    (teller.folder / CI.named()).write_text(text)
    assert teller.tell(early).lines
    assert not teller.tell(early).lines


def test_what_was_told_stays_while_others_are_told(tmp_path: Path, early: Capture) -> None:
    """Each collector tells its own capture first; what may still be dropped is told by nobody else."""
    teller = Teller(tmp_path, "azure")
    other = also(early, 2)
    path = tmp_path / f"{teller.run.id}.md"

    teller.tell(early, other, may_go={other.name})
    first = path.read_text()
    teller.tell(early, other, may_go={early.name})
    second = path.read_text()

    assert (early.name in first, other.name in first) == (True, False)
    assert (early.name in second, other.name in second) == (True, True)
