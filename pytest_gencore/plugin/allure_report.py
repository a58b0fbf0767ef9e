"""The report of allure-pytest: each captured test has the text of our section as an attachment.

Nothing of allure is imported: its plugin is asked if it is there. It writes an attachment at once, as a file
that stays as it is; the stacks are known later and are put into that file.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from pytest_gencore.plugin.attach import SECTION, describe_error
from pytest_gencore.run.pinned import read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

_LISTENER: Final = "allure_listener"
"""The plugin that makes allure's results; it is there with ``--alluredir``."""


def attach_sections(config: pytest.Config, report: pytest.TestReport) -> None:
    """Attach our sections of a report, while its test is the current one of allure."""
    listener = config.pluginmanager.get_plugin(_LISTENER)
    if listener is None:
        return
    try:
        for title, text in list(report.sections):
            if title == SECTION:
                listener.attach_data(_encode(text), SECTION, "text/plain", "txt")
    except Exception as error:  # noqa: BLE001 - foreign code, and a test may have patched what it needs
        report.sections.append((SECTION, f"not attached to allure's report: {describe_error(error)}"))


def complete_attachments(config: pytest.Config, texts: Mapping[str, str]) -> str:
    """Put what is known at the end in place of what was attached; return what went wrong, empty if nothing.

    ``texts`` has both.
    """
    if not texts or config.pluginmanager.get_plugin(_LISTENER) is None:
        return ""
    folder = config.invocation_params.dir / config.getoption("allure_report_dir")
    known = {_encode(before): _encode(after) for before, after in texts.items()}
    limit = max(map(len, known)) + 1
    try:
        for path in folder.glob("*-attachment.txt"):
            after = known.get(read_regular(path, limit))
            if after is not None:
                _replace(path, after)
    except OSError as error:
        return f"the attachments in {folder} have no stacks: {error.strerror}"
    return ""


def _encode(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


def _replace(path: Path, data: bytes) -> None:
    """Write a file anew, so that it is whole at any time."""
    new = path.with_suffix(".gencore")
    try:
        new.write_bytes(data)
        os.replace(new, path)  # noqa: PTH105 - as allure does it
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
