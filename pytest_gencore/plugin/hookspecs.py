"""Hooks for ``conftest.py`` and other plugins.

A plugin that should also work without pytest-gencore marks its implementations with
``@pytest.hookimpl(optionalhook=True)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@pytest.hookspec(firstresult=True)
def pytest_gencore_should_capture(item: pytest.Item, report: pytest.TestReport) -> bool | None:
    """Say whether this failed report asks for a core archive; None leaves it to the others.

    Called in the process that ran the test, for each failed report of a test (also of a subtest) until a
    capture of that test was tried: there is at most one capture a test. The last implementation asked is
    that of pytest-gencore: options, marker and kind of failure decide.
    """


@pytest.hookspec()
def pytest_gencore_secrets(config: pytest.Config) -> Iterable[str | bytes] | None:
    """Return more secret values, which are overwritten in all that is written, such as tokens from a vault.

    Called when captures are prepared, and again before each capture of a failure or of a request; what it
    has returned once counts until the end. A crash or a deadline is captured with the values of before: no
    Python code runs then. Values of less than 8 bytes are not looked for. If it raises, captures are made
    with the values that are known, and say so.
    """


@pytest.hookspec()
def pytest_gencore_captured(config: pytest.Config, nodeid: str | None, archive: Path) -> None:
    """Do something with a finished archive.

    Called at the end of the session, once for each archive, in the controller or, without xdist, in the only
    process. ``nodeid`` is None if the archive does not belong to a test. An exception is reported in the
    summary and changes nothing else.
    """
