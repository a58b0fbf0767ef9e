"""The report of allure-pytest: each captured test has the text of our section as an attachment, and its page.

Nothing of allure is imported: its plugin is asked if it is there. It writes an attachment at once, as a file
that stays as it is; stacks and page are known later and are put into these files.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from pytest_gencore.errors import describe_error
from pytest_gencore.plugin.attach import SECTION
from pytest_gencore.run.files import find_size, page_beside
from pytest_gencore.run.pinned import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import pytest

_LISTENER: Final = "allure_listener"
"""The plugin that makes allure's results; it is there with ``--alluredir``."""
_PAGE_LIMIT: Final = 64 << 20
"""Bytes of a page."""


def attach_sections(config: pytest.Config, report: pytest.TestReport, *, has_page: bool) -> None:
    """Attach our sections of a report, while its test is the current one of allure.

    ``has_page``: there will be a page for the browser, whose place is kept.
    """
    listener = config.pluginmanager.get_plugin(_LISTENER)
    if listener is None:
        return
    try:
        for title, text in list(report.sections):
            if title == SECTION:
                listener.attach_data(_encode(text), SECTION, "text/plain", "txt")
        for attachment in getattr(report, "gencore", ()) if has_page else ():
            listener.attach_data(_keep_place(attachment["path"]), f"{SECTION} page", "text/html", "html")
    except Exception as error:  # noqa: BLE001 - foreign code, and a test may have patched what it needs
        report.sections.append((SECTION, f"not attached to allure's report: {describe_error(error)}"))


def complete_attachments(config: pytest.Config, texts: Mapping[str, str], archives: Iterable[Path]) -> str:
    """Put what is known at the end in place of what was attached; return what went wrong, empty if nothing.

    ``texts`` has both; ``archives`` may have pages.
    """
    if not texts or config.pluginmanager.get_plugin(_LISTENER) is None:
        return ""
    folder = config.invocation_params.dir / config.getoption("allure_report_dir")
    try:
        _complete(folder, "txt", {_encode(before): _encode(after) for before, after in texts.items()})
        files = ((archive, page_beside(archive)) for archive in archives)
        made = {_keep_place(str(archive)): page for archive, page in files if find_size(page) is not None}
        pages = {place: read_regular(page, _PAGE_LIMIT) for place, page in made.items()}
        if pages:
            _complete(folder, "html", pages)
    except OSError as error:
        return f"the attachments in {folder} have no stacks: {error.strerror}"
    return ""


def _keep_place(path: str) -> bytes:
    """Return what stands for the page of an archive until the end."""
    import html  # it is large, and few runs need it

    return _encode(f"<!DOCTYPE html><title>gencore</title>There is no page of {html.escape(path)}.")


def _complete(folder: Path, suffix: str, known: Mapping[bytes, bytes]) -> None:
    """Replace the attachments that have what is to be replaced; raises OSError."""
    limit = max(map(len, known)) + 1
    for path in folder.glob(f"*-attachment.{suffix}"):
        after = known.get(read_regular(path, limit))
        if after is not None:
            _replace(path, after)


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
