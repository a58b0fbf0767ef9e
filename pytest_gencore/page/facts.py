"""Small facts of a document as names and texts."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gencore.document.model import Document


def find_commands(document: Document) -> list[tuple[str, str]]:
    """Return what opens the archive in its folder."""
    file = shlex.quote(PurePath(document.archive.path).name)
    found = [("stacks", f"gencore stacks {file}")]
    return [("debugger", f"gencore debug {file}"), *found] if document.archive.core else found


def describe_process(document: Document) -> list[tuple[str, str]]:
    """Return what is known of the process: name and text."""
    process, versions = document.process, document.versions
    parent = f", child of process {process.child_of}" if process.child_of else ""
    facts = [
        ("process", f"{process.pid}{parent}"),
        ("Python", f"{versions.python.implementation} {versions.python.version}"),
        ("system", f"{versions.kernel} {versions.machine}"),
        ("executable", process.executable or ""),
        ("worker", document.test.worker_id or ""),
        ("attempt", str(document.test.attempt)),
        (
            "GIL",
            {"own": "held by the thread that captured", "other": "held by another thread"}.get(
                process.gil or "", process.gil or ""
            ),
        ),
        ("descriptors", "" if process.descriptor_count is None else str(process.descriptor_count)),
        ("children", "" if process.child_count is None else str(process.child_count)),
        ("environment", "\n".join(process.environment)),
    ]
    return [(name, text) for name, text in facts if text]


def describe_timings(document: Document) -> list[tuple[str, str]]:
    """Return how long the capture took: name and text."""
    timings = document.timings
    values = [
        ("created", document.archive.created),
        ("threads stopped after", timings.stop_ms and f"{timings.stop_ms:.1f} ms"),
        ("snapshot", timings.snapshot_ms and f"{timings.snapshot_ms:.1f} ms"),
        ("threads stood still", timings.pause_ms and f"{timings.pause_ms:.1f} ms"),
        ("archive written after", timings.collect_s and f"{timings.collect_s:.1f} s"),
        ("made by", f"pytest-gencore {document.versions.pytest_gencore}"),
    ]
    return [(name, text) for name, text in values if text]
