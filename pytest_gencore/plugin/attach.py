"""Put what a capture gave onto the report and the item, in plain data that survives xdist."""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from pytest_gencore.junit import PROPERTY, URL_PROPERTY
from pytest_gencore.run.files import page_beside
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    import pytest

SECTION = "gencore"


class Attachment(TypedDict):
    """One entry of ``report.gencore``."""

    path: str
    trigger: str
    method: str
    pid: int
    phase: str | None
    """In which the capture was made, None outside of a test."""
    url: str
    """Where it will be in the store; empty without one."""


def make_properties(path: str, url: str) -> list[tuple[str, object]]:
    """Return what names an archive, and where it is in the store, among the properties of a report."""
    return [(PROPERTY, path), *([(URL_PROPERTY, url)] if url else [])]


def attach_archive(
    item: pytest.Item,
    report: pytest.TestReport,
    attachment: Attachment,
    *,
    html_path: str | None,
    has_page: bool,
) -> None:
    """Name the archive on the report and, for the reports of later phases, on the item.

    junit reads the properties of the teardown report only, which copies those of the item. ``html_path`` is
    where pytest-html writes, ``has_page``: there will be a page for the browser.
    """
    report.gencore = [*getattr(report, "gencore", []), attachment]  # type: ignore[attr-defined]
    entries = make_properties(attachment["path"], attachment["url"])
    for properties in (report.user_properties, item.user_properties):
        properties += [entry for entry in entries if entry not in properties]
    report.sections.append((SECTION, describe_archive(attachment["path"])))
    if html_path is not None:
        with contextlib.suppress(Exception):  # a test may have patched what a path needs
            links = [make_html_link("core (tar.gz)", attachment["path"], html_path)]
            if has_page:
                page = page_beside(Path(attachment["path"]))
                links.append(make_html_link("capture", str(page), html_path))
            report.extras = [*getattr(report, "extras", []), *links]  # type: ignore[attr-defined]
    tell_span(attachment)


def attach_failure(report: pytest.TestReport, reason: str) -> None:
    """Say on the report why it has no archive."""
    report.gencore_failure = reason  # type: ignore[attr-defined]
    report.sections.append((SECTION, describe_failure(reason)))


def attach_refusal(report: pytest.TestReport, reason: str) -> None:
    """Say on the report that a limit of the run is reached; the summary counts such captures by itself."""
    report.sections.append((SECTION, describe_failure(reason)))


def attach_note(report: pytest.TestReport, note: str) -> None:
    """Leave a line for the summary, which has it once, to a report with an archive or a reason."""
    if note:
        report.gencore_note = note  # type: ignore[attr-defined]


def is_ours(report: pytest.TestReport) -> bool:
    """Return whether the report has an archive, or a reason why there is none."""
    return hasattr(report, "gencore") or hasattr(report, "gencore_failure")


def replace_section(report: pytest.TestReport, path: str, text: str) -> None:
    """Correct the section about an archive when more is known about it."""
    old = (SECTION, describe_archive(path))
    report.sections[:] = [(SECTION, text) if section == old else section for section in report.sections]
    if isinstance(report.longrepr, str):  # of a worker that crashed; it has the stacks
        line = text.partition("\n")[0]
        report.longrepr = report.longrepr.replace(f"{SECTION}: {old[1]}\n", f"{SECTION}: {line}\n")


def find_archives(report: pytest.TestReport) -> list[str]:
    """Return the archives that a report names; that of the teardown has only the properties of the item."""
    paths = [attachment["path"] for attachment in getattr(report, "gencore", ())]
    properties = [str(value) for key, value in report.user_properties if key == PROPERTY]
    return list(dict.fromkeys([*paths, *properties]))


def rename_archive(report: pytest.TestReport, old: str, new: str) -> None:
    """Let a report name an archive by another path; nothing if that is the same one."""
    if old == new:
        return
    for attachment in getattr(report, "gencore", ()):
        if attachment["path"] == old:
            attachment["path"] = new
    report.user_properties[:] = [
        (key, new if value == old else value) for key, value in report.user_properties
    ]
    replace_section(report, old, describe_archive(new))


def describe_archive(path: str) -> str:
    """Return the line of the report section."""
    return escape_unprintable(f"core archive: {path}")


def describe_failure(reason: str) -> str:
    """Return the line of the report section of a capture that failed."""
    return escape_unprintable(f"no core archive: {reason}")


def tell_span(attachment: Attachment) -> None:
    """Name the archive on OpenTelemetry's current span, if somebody traces the tests; nothing is imported."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        with contextlib.suppress(Exception):  # foreign code
            span = trace.get_current_span()
            span.set_attribute("gencore.archive", attachment["path"])
            span.set_attribute("gencore.trigger", attachment["trigger"])


def make_html_link(name: str, path: str, html_path: str) -> dict[str, str | None]:
    """Return a link for pytest-html, which puts ``content`` into the page as it is."""
    relative = os.path.relpath(path, os.path.dirname(html_path))  # noqa: PTH120 - pure, whatever a test patched
    return {
        "name": name,
        "format_type": "url",
        "content": urllib.parse.quote(relative),
        "mime_type": None,
        "extension": None,
    }
