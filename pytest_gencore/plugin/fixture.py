"""The fixture ``gencore``: captures that a test asks for."""

from __future__ import annotations

import concurrent.futures
import os
from typing import TYPE_CHECKING, Literal

from pytest_gencore.errors import describe_error
from pytest_gencore.plugin.attach import Attachment
from pytest_gencore.plugin.capturing import REQUEST_FAILURE_KEY, REQUESTED_KEY
from pytest_gencore.plugin.settings import apply_marker, find_folders, read_marker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

    import pytest

    from pytest_gencore.plugin.settings import Settings


class Gencore:
    """Makes cores and archives of the live test process, in the directory of the run."""

    def __init__(self, settings: Settings, item: pytest.Item) -> None:
        self._settings = settings
        self._item = item
        self._pid = os.getpid()
        self._cores: list[Future[Path]] = []
        self._archives: list[tuple[Future[Path], str | None]] = []
        """With the phase in which each was asked for."""

    def create_core(self) -> Future[Path]:
        """Take a snapshot now; the future gives the finished core file, which belongs to the caller."""
        future = self._start("core")
        self._cores.append(future)
        return future

    def collect_core(self) -> Future[Path]:
        """Take a snapshot now; the future gives the finished archive, which the report of the test names."""
        future = self._start("archive")
        self._archives.append((future, find_phase()))
        return future

    def _start(self, product: Literal["archive", "core"]) -> Future[Path]:
        from pytest_gencore.api import start_capture
        from pytest_gencore.capture import CaptureRequest
        from pytest_gencore.plugin.secrets import GivenByUser
        from pytest_gencore.request.context import SessionContext

        request = CaptureRequest(
            trigger="request",
            **self._settings.of_a_request(),
            nodeid=self._item.nodeid,
            phase=find_phase(),
            attempt=getattr(self._item, "execution_count", 1),
            worker_id=os.environ.get("PYTEST_XDIST_WORKER"),
            product=product,
        )
        secrets = GivenByUser(self._item.config, self._settings)
        session = SessionContext(
            folders=find_folders(self._item.config),
            has_clear_text=self._settings.clear_text,
            environment=self._settings.env,
            page_command=self._settings.page_command,
        )
        return start_capture(
            self._settings.dir,
            request,
            session=session,
            protection=secrets.protection,
            find_secrets=secrets.find,
        )

    def finish(self) -> None:
        """Wait for everything asked for, and leave it to the teardown report."""
        item = self._item
        futures = [*self._cores, *(future for future, _ in self._archives)]
        concurrent.futures.wait(futures)
        errors = [future.exception() for future in futures]
        reasons = dict.fromkeys(describe_error(error) for error in errors if error is not None)
        item.stash[REQUEST_FAILURE_KEY] = "; ".join(reasons)
        item.stash[REQUESTED_KEY] = [
            Attachment(
                path=str(future.result()),
                trigger="request",
                method=self._settings.method,
                pid=self._pid,
                phase=phase,
                url="",
            )
            for future, phase in self._archives
            if future.exception() is None
        ]


def use_gencore(settings: Settings, item: pytest.Item) -> Iterator[Gencore]:
    """Provide the fixture's value for one test; ``settings`` are those of the run."""
    helper = Gencore(apply_marker(settings, read_marker(item)), item)
    yield helper
    helper.finish()


def find_phase() -> str | None:
    """Return the phase that the running test is in, as pytest tells it in the environment."""
    _, _, phase = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")
    return phase.removesuffix(")") if phase in {"setup)", "call)", "teardown)"} else None
