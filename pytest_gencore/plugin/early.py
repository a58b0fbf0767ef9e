"""Before pytest is configured: conftest.py files are imported, and may crash."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pytest_gencore.installed import has_extension
from pytest_gencore.plugin.capturer import Capturer
from pytest_gencore.plugin.roles import make_run_id_getter, remove_if_empty
from pytest_gencore.plugin.settings import Settings, resolve_settings
from pytest_gencore.request.context import encode_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pytest


@contextlib.contextmanager
def watch_imports(config: pytest.Config) -> Iterator[None]:
    """Capture crashes meanwhile.

    Errors are left to the time when pytest is configured. A worker of pytest-xdist does not know its run yet;
    what it imports has been imported by the controller before.
    """
    with contextlib.ExitStack() as stack:
        if "PYTEST_XDIST_WORKER" not in os.environ and has_extension():
            with contextlib.suppress(Exception):
                get_run_id, settings = make_run_id_getter(), resolve_early(config)
                capturer = Capturer(
                    config,
                    settings,
                    get_run_id=get_run_id,
                    worker_id=None,
                    once_a_worker=False,
                    role="imports",
                    place=encode_place(None, "import of conftest.py files"),
                )
                stack.callback(tidy_up, settings.dir, get_run_id, was_there=settings.dir.exists())
                stack.callback(capturer.close)
                capturer.arm()
        yield


def tidy_up(directory: Path, get_run_id: Callable[[], str], *, was_there: bool) -> None:
    """Remove what a capture has left that the process survived: Ctrl-C need not end it at once."""
    with contextlib.suppress(Exception):  # a directory that cannot be used: captures have told it
        from pytest_gencore.run.folder import run_folder_name

        if (directory / run_folder_name(get_run_id())).exists():
            from pytest_gencore.run.opening import open_run  # few runs need it so early

            open_run(directory, get_run_id()).close()
    if not was_there:
        remove_if_empty(directory)


def resolve_early(config: pytest.Config) -> Settings:
    """Return the settings, while some options are not defined: conftest.py files may define more."""
    usual = config.option
    config.option = config.known_args_namespace
    try:
        return resolve_settings(config)
    finally:
        config.option = usual
