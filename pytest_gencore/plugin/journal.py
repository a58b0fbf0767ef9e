"""Tell the snapshot how tests ended, for the log and the junit file of a run that does not survive.

The lines live in memory only (csrc/journal.c); a collector reads them from the snapshot.
"""

from __future__ import annotations

import datetime
import json
import platform
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.junit.common import name_case

if TYPE_CHECKING:
    from pytest_gencore.capture import CaptureEngine

NAME = "gencore-journal"
_encode = json.JSONEncoder().encode
"""Kept: tests patch ``json.dumps``."""
TEXT_LIMIT = 64 << 10
"""Characters of a failure's text."""


class Journal:
    """A plugin of its own, registered only if pytest writes a junit file in this process."""

    def __init__(self, config: pytest.Config, engine: CaptureEngine) -> None:
        self._note: Any = engine.native.note
        self._tests: dict[str, dict[str, Any]] = {}
        self._write(
            junit={
                "suite_name": config.getini("junit_suite_name"),
                "family": config.getini("junit_family"),
                "logging": config.getini("junit_logging"),
                "prefix": config.getoption("junitprefix", None) or "",
                "timestamp": datetime.datetime.now(datetime.timezone.utc).astimezone().isoformat(),
                "hostname": platform.node(),
            }
        )

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        """Say which test runs."""
        self._tests.pop(nodeid, None)
        self._write(started={"nodeid": nodeid, **describe_place(nodeid, location)})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say how a test ended, when its last report is there."""
        test = self._tests.setdefault(
            report.nodeid,
            {**describe_place(report.nodeid, report.location), "time": 0.0, "outcome": "passed"},
        )
        test["time"] += report.duration
        if report.failed:
            test.update(describe_failure(report))
        elif report.skipped and test["outcome"] == "passed":
            test["outcome"] = "skipped"
            test["message"], test["text"] = describe_skip(report)
        if report.when not in {"setup", "call"}:  # or the worker died, and pytest-xdist speaks for it
            test["properties"] = [[str(name), str(value)] for name, value in report.user_properties]
            self._write(**self._tests.pop(report.nodeid))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Say that pytest has written its own file."""
        self._write(finished=True)

    def _write(self, **fields: Any) -> None:
        self._note(encode_note(**fields))


def note_failure(engine: CaptureEngine, report: pytest.TestReport) -> None:
    """Tell of a failed report at once: pytest shows it when the run ends, and it may not come to that."""
    failure = {
        "nodeid": report.nodeid,
        "phase": report.when,
        **describe_place(report.nodeid, report.location),
        "time": report.duration,
        **describe_failure(report),
    }
    failure["text"] = failure["text"][:TEXT_LIMIT]
    engine.native.note(encode_note(failed=failure))


def note_worker(engine: CaptureEngine, name: str, pid: int) -> None:
    """Tell of a worker of this controller; 0: it has ended."""
    engine.native.note(encode_note(worker={"name": name, "pid": pid}))


def encode_note(**fields: Any) -> bytes:
    """Return a line of JSON."""
    return _encode(fields).encode() + b"\n"


def describe_place(nodeid: str, location: tuple[str, int | None, str]) -> dict[str, Any]:
    """Return class name and name as junit has them, and where the test is."""
    classname, name = name_case(nodeid)
    return {"classname": classname, "name": name, "file": location[0], "line": location[1]}


def describe_failure(report: pytest.TestReport) -> dict[str, str]:
    """Return outcome, message and text of a failure."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = report.longreprtext
    return {
        "outcome": "failed" if report.when == "call" else "error",
        "message": getattr(crash, "message", "") or text.partition("\n")[0],
        "text": text,
    }


def describe_skip(report: pytest.TestReport) -> tuple[str, str]:
    """Return message and text of a skip or an expected failure."""
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail), ""
    if isinstance(report.longrepr, tuple):
        path, line, reason = report.longrepr
        return reason.removeprefix("Skipped: "), f"{path}:{line}: {reason}"
    return "", report.longreprtext
