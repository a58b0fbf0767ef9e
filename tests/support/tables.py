"""Tables of sample tests: all rows are files of one project and one run of pytest; each row is judged alone.

The run belongs to a fixture of module scope; ``xdist_group`` keeps its tests in one worker, so it runs once.
"""

from __future__ import annotations

import collections
import json
from typing import TYPE_CHECKING, Any

from projects import QUICK, Project, show

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from projects import Ended

REPORTER = """\
import json
class Reporter:
    def __init__(self, config):
        self.config = config
        self.reports = []
    def pytest_runtest_logreport(self, report):
        category = self.config.hook.pytest_report_teststatus(report=report, config=self.config)[0]
        self.reports.append({"nodeid": report.nodeid, "when": report.when, "category": category})
    def pytest_unconfigure(self):
        with open(%r, "w") as file:
            json.dump(self.reports, file)
def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporter(config))
"""
"""Written at the end: while a row runs, what is needed to write may be patched."""


class Table:
    """One run of all rows."""

    def __init__(self, folder: Path, sources: Mapping[str, str], *arguments: str, fake: bool = False) -> None:
        """Write ``test_ROW.py`` for each row and run pytest with ``QUICK`` unless there are arguments."""
        self.project = Project(folder)
        self._reports = folder / "reports.json"
        self.project.write(
            conftest=REPORTER % str(self._reports), **{f"test_{row}": text for row, text in sources.items()}
        )
        arguments = arguments or QUICK
        if fake:
            arguments = ("-p", "fake_capture", *arguments)
        environment = {"FAKE_CAPTURE": "done"} if fake else None
        self.ended: Ended = self.project.run(*arguments, environment=environment, timeout=240)
        self.project.close()
        self._archives = self.project.archives()

    def reports(self, row: str) -> list[dict[str, Any]]:
        """Return the reports of a row, in their order."""
        show(self.ended.out, self.ended.err)
        reports = json.loads(self._reports.read_text())
        return [report for report in reports if is_of(row, report["nodeid"])]

    def counts(self, row: str) -> dict[str, int]:
        """Return the outcomes of a row as the last line of pytest would count them; without reruns."""
        categories = collections.Counter(report["category"] for report in self.reports(row))
        return {
            "errors" if name == "error" else name: number
            for name, number in categories.items()
            if name not in ("", "rerun")
        }

    def archives(self, row: str) -> dict[str, Path]:
        """Return the archives of a row: ``NODEID PHASE``, the node ID without the file."""
        prefix = f"test_{row}.py::"
        return {name.removeprefix(prefix): path for name, path in self._archives.items() if is_of(row, name)}


def is_of(row: str, nodeid: str) -> bool:
    """Tell whether a test is in the file of a row."""
    return nodeid.startswith(f"test_{row}.py::")
