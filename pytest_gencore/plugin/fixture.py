"""The fixture ``gencore``: captures that a test asks for."""

from __future__ import annotations

import concurrent.futures
import os
from typing import TYPE_CHECKING

import pytest_gencore
from pytest_gencore.plugin.attach import Attachment, describe_error
from pytest_gencore.plugin.capturing import REQUEST_FAILURE_KEY, REQUESTED_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    import pytest

    from pytest_gencore.plugin.options import Settings


class Gencore:
    """Makes cores and archives of the live test process, in the directory of the run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pid = os.getpid()
        self._cores: list[Future[Path]] = []
        self._archives: list[Future[Path]] = []

    def create_core(self) -> Future[Path]:
        """Take a snapshot now; the future gives the finished core file, which belongs to the caller."""
        future = pytest_gencore.create_core(
            self._settings.dir,
            method=self._settings.method,
            threads=self._settings.threads,
            core_filter=self._settings.filter,
        )
        self._cores.append(future)
        return future

    def collect_core(self) -> Future[Path]:
        """Take a snapshot now; the future gives the finished archive, which the report of the test names."""
        future = pytest_gencore.collect_core(
            self._settings.dir,
            method=self._settings.method,
            threads=self._settings.threads,
            core_filter=self._settings.filter,
        )
        self._archives.append(future)
        return future

    def finish(self, item: pytest.Item) -> None:
        """Wait for everything asked for, and leave it to the teardown report."""
        concurrent.futures.wait([*self._cores, *self._archives])
        for future in (*self._cores, *self._archives):
            error = future.exception()
            if error is not None:
                item.stash[REQUEST_FAILURE_KEY] = describe_error(error)
        item.stash[REQUESTED_KEY] = [
            Attachment(
                path=str(future.result()), trigger="request", method=self._settings.method, pid=self._pid
            )
            for future in self._archives
            if future.exception() is None
        ]


def use_gencore(settings: Settings, item: pytest.Item) -> Iterator[Gencore]:
    """Provide the fixture's value for one test."""
    helper = Gencore(settings)
    yield helper
    helper.finish(item)
