"""The junit file of a run that died: valid, and never over a better one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from junit_file import read_junit

from pytest_gencore.junit.journal import Journal, parse_journal
from pytest_gencore.junit.writer import Verdict, make_junit, write_junit

SUITE = {
    "suite_name": "my suite",
    "family": "xunit2",
    "logging": "no",
    "timestamp": "2026-01-02T03:04:05+00:00",
    "hostname": "here",
    "prefix": "",
}
STARTED_NS = 1_767_323_050_000_000_000  # five seconds later
ARCHIVE = Path("/out/core_1.tar.gz")


def journal_of(*notes: dict[str, Any], **suite: str) -> Journal:
    lines = [json.dumps(note) for note in ({"junit": {**SUITE, **suite}}, *notes)]
    return parse_journal("\n".join(lines).encode() + b"\n")


def case(name: str, outcome: str = "passed", **more: Any) -> dict[str, Any]:
    return {"classname": "test_a", "name": name, "file": "test_a.py", "line": 3, "outcome": outcome, **more}


def started(name: str) -> dict[str, Any]:
    return {
        "started": {
            "nodeid": f"test_a.py::{name}",
            "classname": "test_a",
            "name": name,
            "file": "f",
            "line": 0,
        }
    }


def verdict(
    archive: Path | None = ARCHIVE, *, started_ns: int = STARTED_NS, base: str | None = None
) -> Verdict:
    return Verdict("test_a.py::test_it", "SIGSEGV in it", "SIGSEGV in it\nstack\n", archive, started_ns, base)


def root_of(journal: Journal, said: Verdict | None = None) -> ET.Element:
    assert journal.suite is not None
    return ET.fromstring("".join(make_junit(journal, journal.suite, said or verdict())))


def test_counts_and_times() -> None:
    journal = journal_of(
        case("a", time=1.25), case("b", "failed"), case("c", "error"), case("d", "skipped"), started("e")
    )
    (suite,) = root_of(journal)
    expected = {
        "name": "my suite",
        "tests": "5",
        "errors": "2",
        "failures": "1",
        "skipped": "1",
        "time": "5.000",
    }
    assert {name: suite.get(name) for name in expected} == expected
    assert [element.get("time") for element in suite] == ["1.250", "0.000", "0.000", "0.000", "0.000"]
    assert [[child.tag for child in element] for element in suite] == [
        [],
        ["failure"],
        ["error"],
        ["skipped"],
        ["properties", "error", "system-out"],
    ]


def test_valid_whatever_is_in_it(tmp_path: Path) -> None:
    ugly = "<&\x00\x07\x7f\ud800 \U0001f600 ]]>\"'"
    journal = journal_of(
        case(
            f"a{ugly}",
            "failed",
            message=ugly,
            text=ugly,
            properties=[[ugly, ugly], ["x"], 1],
            time=float("nan"),
        ),
        started(f"b{ugly}"),
        suite_name=ugly,
        hostname=ugly,
    )
    path = tmp_path / "junit.xml"
    assert write_junit(path, tmp_path, journal, Verdict(None, ugly, ugly, Path(f"/x/{ugly}"), STARTED_NS))
    first, second = read_junit(path)
    assert first.results == ("failure",)
    assert second.results == ("error",)
    assert second.attachments == (), "such a path would be misread"
    assert "#x07" in first.name


@pytest.mark.parametrize("family", ["xunit1", "legacy", "xunit2"])
def test_families(family: str) -> None:
    element = root_of(journal_of(case("a"), family=family))[0][0]
    has_place = family != "xunit2"
    assert (element.get("file"), element.get("line")) == (("test_a.py", "3") if has_place else (None, None))


def test_prefix() -> None:
    (suite,) = root_of(journal_of(case("a"), started("b"), prefix="py3"))
    assert [element.get("classname") for element in suite] == ["py3.test_a", "py3.test_a"]


def test_no_test_was_running() -> None:
    journal = journal_of(started("a"), case("a"))
    assert not journal.running
    captured = root_of(journal)[0][-1]
    assert (captured.get("classname"), captured.get("name")) == ("pytest", "internal")


def test_no_archive() -> None:
    captured = root_of(journal_of(started("a")), verdict(None))[0][-1]
    assert [child.tag for child in captured] == ["error"]


def test_captured_after_it_had_failed() -> None:
    """Two entries, as in pytest's own file; those of other tests are in their own notes."""
    other = {"failed": {"nodeid": "test_a.py::x", "phase": "call", **case("x", "failed")}}
    failed = case("it", "failed", message="assert 0", text="the text")
    own = {"failed": {"nodeid": "test_a.py::test_it", "phase": "call", **failed}}
    suite = root_of(journal_of(other, case("x", "failed"), started("it"), own))[0]
    assert [(entry.get("name"), *(child.tag for child in entry)) for entry in suite] == [
        ("x", "failure"),
        ("it", "failure"),
        ("it", "properties", "error", "system-out"),
    ]
    assert suite[1].findtext("failure") == "the text"
    assert {name: suite.get(name) for name in ("tests", "failures", "errors")} == {
        "tests": "3",
        "failures": "2",
        "errors": "1",
    }


def test_paths_as_the_consumer_wants_them() -> None:
    captured = root_of(journal_of(started("a")), verdict(base="/out/reports"))[0][-1]
    assert captured.findtext("system-out") == "[[ATTACHMENT|../core_1.tar.gz]]\n"
    (entry,) = captured.iterfind("properties/property")
    assert entry.get("value") == str(ARCHIVE)


def test_notes_that_are_none() -> None:
    assert parse_journal(b"").suite is None
    assert parse_journal(b'{"name": "a", "outcome": "passed"}\n').suite is None
    data = b'null\n[1]\n{"junit": {"suite_name": "s"}}\nxx\n\n{"name": "a", "outcome": "odd"}\n{"na'
    journal = parse_journal(data)
    assert list(journal.finished_cases()) == []


def test_pytest_has_written_its_own(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    assert not write_junit(path, tmp_path, journal_of(started("a"), {"finished": True}), verdict())
    assert not path.exists()


def test_over_older_files_only(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text("of this run")
    os.utime(path, ns=(STARTED_NS, STARTED_NS + 1))
    assert not write_junit(path, tmp_path, journal_of(started("a")), verdict())
    assert path.read_text() == "of this run"
    os.utime(path, ns=(STARTED_NS, STARTED_NS - 1))
    path.chmod(0o640)
    assert write_junit(path, tmp_path, journal_of(started("a")), verdict())
    assert path.stat().st_mode & 0o777 == 0o640
    assert write_junit(path, tmp_path, journal_of(started("a")), verdict(None)), "its own file it may replace"


def test_the_latest_capture_has_the_last_word(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    journal = journal_of(started("a"))
    assert write_junit(path, tmp_path, journal, verdict(started_ns=STARTED_NS))
    assert not write_junit(path, tmp_path, journal, verdict(started_ns=STARTED_NS - 1))
    assert write_junit(path, tmp_path, journal, verdict(started_ns=STARTED_NS + 1))


def test_no_file_is_replaced_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert not write_junit(path, tmp_path, journal_of(started("a")), verdict())
    assert path.is_fifo()
