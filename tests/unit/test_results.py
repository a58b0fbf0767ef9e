"""The summary of a run: what it says of captures, whatever their texts hold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.plugin import attach
from pytest_gencore.plugin.finished import describe_outcome
from pytest_gencore.plugin.results import Results
from pytest_gencore.run.outcome import Outcome
from pytest_gencore.texts import NOWHERE, Folders

if TYPE_CHECKING:
    from pathlib import Path

ESCAPE = "\x1b]0;title\x07"
SHOWN = r"\x1b]0;title\x07"


def make_outcome(path: Path, **facts: Any) -> Outcome:
    known = {
        "state": "done",
        "reason": "",
        "nodeid": "test_a.py::test_a",
        "phase": "call",
        "worker_id": None,
        "trigger": "failure",
        "method": "memory",
        "size_bytes": 5,
        "bytes_done": 0,
        "bytes_total": 0,
    }
    return Outcome(archive=path, **{**known, **facts})


def make_report(path: Path) -> Any:
    attachment = attach.Attachment(
        path=str(path), trigger="failure", method="memory", pid=1, phase="call", url=""
    )
    return SimpleNamespace(nodeid="test_a.py::test_a", when="call", sections=[], gencore=[attachment])


def summarize(tmp_path: Path, *outcomes: Outcome) -> list[str]:
    results = Results(Folders(invocation_dir=str(tmp_path)))
    results.settle(outcomes)
    return results.make_lines()


@pytest.mark.parametrize(
    ("folder", "shown"),
    [("cores", "cores/a.tar.gz"), ("my cores", "'my cores/a.tar.gz'"), ("$HOME", "'$HOME/a.tar.gz'")],
)
def test_command_can_be_copied(tmp_path: Path, folder: str, shown: str) -> None:
    lines = summarize(tmp_path, make_outcome(tmp_path / folder / "a.tar.gz"))

    assert f"open one: gencore debug {shown}" in lines


@pytest.mark.parametrize(
    "facts",
    [
        {"reason": ESCAPE},
        {"state": "failed", "reason": ESCAPE},
        {"nodeid": ESCAPE},
        {"trigger": "crash", "summary": ESCAPE},
    ],
    ids=["note", "reason", "test", "summary"],
)
def test_nothing_reaches_the_terminal_raw(tmp_path: Path, facts: dict[str, Any]) -> None:
    text = "\n".join(summarize(tmp_path, make_outcome(tmp_path / "a.tar.gz", **facts)))

    assert SHOWN in text
    assert ESCAPE not in text


def test_names_and_notes_are_escaped(tmp_path: Path) -> None:
    results = Results(Folders(invocation_dir=str(tmp_path)))
    results.settle([make_outcome(tmp_path / ESCAPE / "a.tar.gz")])
    results.add_note(f"note {ESCAPE}")
    results.add_unavailable(ESCAPE)

    assert "\n".join(results.make_lines()).count(SHOWN) == 4, "path, command, note, reason"
    assert "\x1b" not in "".join(results.make_lines())


def test_sections_of_reports_are_escaped(tmp_path: Path) -> None:
    assert attach.describe_failure(ESCAPE) == f"no core archive: {SHOWN}"
    assert attach.describe_archive(f"/{ESCAPE}") == f"core archive: /{SHOWN}"
    failed = make_outcome(tmp_path / "a", state="failed", reason=ESCAPE)
    assert describe_outcome(failed, NOWHERE) == f"no core archive: {SHOWN}"


def test_what_is_put_in_place_of_an_archive_is_none(tmp_path: Path) -> None:
    secret, path = tmp_path / "secret", tmp_path / "a.tar.gz"
    secret.write_text("key")
    path.symlink_to(secret)
    results = Results(Folders(invocation_dir=str(tmp_path)))
    results.add_report(make_report(path))

    results.settle([])

    assert results.make_lines()[:2] == ["1 failed", f"failed: the archive is not on this machine: {path}"]


def test_why_nothing_is_known(tmp_path: Path) -> None:
    results = Results(Folders(invocation_dir=str(tmp_path)))
    results.add_report(make_report(tmp_path / "a.tar.gz"))

    results.settle([], problem="it belongs to user 5")

    assert results.make_lines()[:2] == ["1 failed", "failed: it belongs to user 5"]
