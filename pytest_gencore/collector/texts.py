"""The small files beside the core that people read: stacks.txt, failure.txt, open.gdb."""

from __future__ import annotations

import linecache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_gencore.collector.handover import Handover
    from pytest_gencore.collector.libraries import Library


def format_stacks(handover: Handover) -> str:
    """Format every Python thread's stack as Python's own tracebacks do, the capturing thread first."""
    parts = [f"Python threads of process {handover.pid} when its snapshot was taken"]
    for stack in handover.request.get("stacks", ()):
        title = f"Thread {stack['name'] or '(not made by Python)'}"
        if stack["native_id"]:
            title += f", native id {stack['native_id']}"
        parts.append("\n".join((f"{title}, most recent call last:", *_format_frames(stack["frames"]))))
    return "\n\n".join(parts) + "\n"


def _format_frames(frames: list[list[Any]]) -> list[str]:
    lines = []
    for file_name, line_number, function in reversed(frames):
        lines.append(f'  File "{file_name}", line {line_number}, in {function}')
        source = linecache.getline(file_name, line_number or 0).strip()
        if source:
            lines.append(f"    {source}")
    return lines


def format_debugger_commands(executable: str, libraries: list[Library]) -> str:
    """Return a gdb script that opens the core with the files of this archive and no others."""
    folders = sorted(
        {str(PurePosixPath(library.path).parent).lstrip("/") for library in libraries if library.source}
    )
    return "\n".join(
        (
            "# Run in this folder: gdb -x open.gdb",
            "set sysroot .",
            f"set solib-search-path {':'.join(folders)}",
            f"file .{executable}",
            "core-file core",
            "",
        )
    )
