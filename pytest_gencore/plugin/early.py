"""Before pytest is configured: conftest.py files are imported, and may crash."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.plugin.options import resolve_on_fail

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def watch_imports(config: pytest.Config) -> Iterator[None]:
    """Capture crashes meanwhile, if options ask for captures of failures.

    Errors are left to the time when pytest is configured. A worker of pytest-xdist does not know its run yet;
    what it imports has been imported by the controller before.
    """
    with contextlib.ExitStack() as stack:
        if "PYTEST_XDIST_WORKER" not in os.environ:
            with contextlib.suppress(Exception, pytest.UsageError):
                _start(config, stack)
        yield


def _start(config: pytest.Config, stack: contextlib.ExitStack) -> None:
    usual = config.option
    config.option = (
        config.known_args_namespace
    )  # not all options are defined before conftest.py files are there
    try:
        if not resolve_on_fail(config):
            return
        from pytest_gencore.plugin.capturer import Capturer
        from pytest_gencore.plugin.roles import make_run_id_getter
        from pytest_gencore.plugin.settings import resolve_settings

        settings = resolve_settings(config)
        capturer = Capturer(
            config, settings, get_run_id=make_run_id_getter(), worker_id=None, once_a_worker=False
        )
        stack.callback(capturer.close)
        capturer.arm()
    finally:
        config.option = usual
