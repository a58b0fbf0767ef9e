"""What controller and workers of pytest-xdist tell each other.

::

    controller            worker
    configure_node ─────► workerinput: directory, run id, recipients; elsewhere: where archives go
                          makereport: capture
    logreport ◄────────── report.gencore
    testnodedown ◄─────── workeroutput: what does not belong to a single report
    sessionfinish: wait for the collectors, correct the junit file, call pytest_gencore_captured
    terminal_summary
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.errors import GencoreError, describe_error
from pytest_gencore.installed import has_extension
from pytest_gencore.plugin.attach import is_ours

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.plugin.cancels import CancelledWorkers
    from pytest_gencore.plugin.capturer import Capturer
    from pytest_gencore.plugin.deadworkers import DeadWorkers
    from pytest_gencore.plugin.hosts import Hosts
    from pytest_gencore.plugin.lostworkers import LostWorkers
    from pytest_gencore.plugin.results import Results
    from pytest_gencore.plugin.settings import Settings

WORKER_KEY = "gencore"
"""Of our data, in ``workerinput`` and ``workeroutput``."""


class Controller:
    """A plugin of the controller, beside ``Showing``: it resolves directory and run id for all workers."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        capturer: Capturer,
        *,
        get_run_id: Callable[[], str],
        hosts: Hosts,
        get_results: Callable[[], Results],
    ) -> None:
        """Arm nothing; ``capturer`` is that of the controller itself."""
        self._hosts = hosts
        self._capturer = capturer
        self._cancelled: CancelledWorkers | None = None
        self._get_results = get_results
        self._config = config
        self._settings = settings
        self._get_run_id = get_run_id
        self._dead_workers: DeadWorkers | None = None
        self._lost_workers: LostWorkers | None = None
        self._unavailable: str | None = None

    def find_unavailable(self) -> str:
        """Say on behalf of the workers why none can capture: they tell it only when they end."""
        if not self._settings.on_fail:
            return ""
        if self._unavailable is None:
            self._unavailable = find_obstacle(self._get_run_id)
        return self._unavailable

    def may_have_captures(self) -> bool:
        """Return whether there may be captures that no report names: of workers, or of the controller."""
        is_watched = self._capturer.is_armed or self._settings.capture_memory is not None
        return (is_watched or self._dead_workers is not None) and self._settings.dir.is_dir()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker what is resolved here; without it the worker captures nothing."""
        try:
            run_id = self._get_run_id()
        except GencoreError as error:
            self._get_results().add_unavailable(describe_error(error) if self._settings.on_fail else "")
            return
        elsewhere = self._place(node)
        if elsewhere is not None:
            node.workerinput[WORKER_KEY] = {
                "directory": str(self._settings.dir),
                "recipients": self._settings.recipient,
                "run_id": run_id,
                "once_a_worker": self._config.getoption("dist", "no") == "each",
                "is_heard": self._settings.session_timeout is not None,
                "has_stderr": bool(node.gateway.spec.popen),
                **elsewhere,
            }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """Watch the process of a worker."""
        if self._settings.on_fail and has_extension():
            from pytest_gencore.plugin.lostworkers import LostWorkers

            self._lost_workers = self._lost_workers or LostWorkers()
            self._lost_workers.watch(node)
            self._note_worker(node)

    def pytest_sessionfinish(self) -> None:
        """Watch no longer."""
        if self._lost_workers is not None:
            self._lost_workers.close()

    def ignore_cancels(self) -> None:
        """Leave signals to pytest from here on."""
        self._capturer.ignore_cancels()
        if self._cancelled is not None:
            self._cancelled.close()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record what workers captured, before others read the report: an archive may get another name."""
        if report.failed:
            self._capturer.note_failure(report)
        self._hosts.expect(report)
        if is_ours(report):
            self._get_results().add_report(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take over what a worker says when it ends; raises its usage error."""
        self._forget_worker(node)
        if error is not None and error != "keyboard-interrupt":
            with self._capturer.paused_session():
                self._look_at_dead(node)
        output = getattr(node, "workeroutput", {}).get(WORKER_KEY, {})
        if output.get("usage_error"):
            raise pytest.UsageError(output["usage_error"])
        reason = output.get("unavailable", "")
        if reason and reason != self.find_unavailable():
            self._get_results().add_note(f"worker {node.gateway.id} could not capture: {reason}")

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, report: pytest.TestReport) -> None:
        """Tell on the report of a crashed test what was captured of it."""
        node = getattr(report, "node", None)
        if self._dead_workers is None or node is None:
            return
        try:
            self._dead_workers.attach(node.gateway.id, report)
        except Exception as error:  # noqa: BLE001 - the report goes on without us
            self._get_results().add_note(f"cannot describe a crash: {describe_error(error)}")

    def _place(self, node: Any) -> dict[str, Any] | None:
        try:
            return self._hosts.place(node)
        except Exception as error:  # noqa: BLE001 - the worker runs its tests without us
            worker = node.gateway.id
            self._get_results().add_note(f"worker {worker} could not capture: {describe_error(error)}")
            return None

    def _note_worker(self, node: Any) -> None:
        from pytest_gencore.plugin.cancels import CancelledWorkers
        from pytest_gencore.plugin.journal import note_worker
        from pytest_gencore.plugin.lostworkers import find_process

        process, engine = find_process(node), self._capturer.engine
        if process is not None and engine is not None and not engine.is_portable:
            note_worker(engine, node.gateway.id, process.pid)
            self._cancelled = self._cancelled or CancelledWorkers(engine.native)
            self._cancelled.add(node.gateway.id, process.pid)

    def _forget_worker(self, node: Any) -> None:
        from pytest_gencore.plugin.journal import note_worker

        if self._cancelled is not None and self._capturer.engine is not None:
            note_worker(self._capturer.engine, node.gateway.id, 0)
            self._cancelled.remove(node.gateway.id)

    def _describe_kill(self, node: Any) -> str:
        return "" if self._lost_workers is None else self._lost_workers.describe_kill(node)

    def _look_at_dead(self, node: Any) -> None:
        from pytest_gencore.plugin.deadworkers import DeadWorkers
        from pytest_gencore.plugin.own_run import OwnRun

        try:
            if self._dead_workers is None:
                run = OwnRun(self._settings.dir, self._get_run_id, self._hosts).open()
                self._dead_workers = DeadWorkers(run, self._describe_kill, self._hosts.find_host)
            self._dead_workers.add(node.gateway.id, node, self._get_results().find_paths())
        except Exception as error:  # noqa: BLE001 - xdist goes on without us
            self._get_results().add_note(
                f"cannot look for the captures of a dead worker: {describe_error(error)}"
            )


class Worker:
    """A plugin of a worker, beside ``Capturing``."""

    def __init__(self, config: pytest.Config, find_unavailable: Callable[[], str]) -> None:
        self._config = config
        self._find_unavailable = find_unavailable

    def pass_on(self, error: pytest.UsageError) -> None:
        """Leave a usage error to the controller: xdist itself takes it for a crash."""
        self._output()["usage_error"] = str(error)

    def pytest_sessionfinish(self) -> None:
        """Tell the controller what does not belong to a single report."""
        self._output()["unavailable"] = self._find_unavailable()

    def _output(self) -> dict[str, Any]:
        output: dict[str, Any] = self._config.workeroutput.setdefault(WORKER_KEY, {})  # type: ignore[attr-defined]
        return output


def find_obstacle(get_run_id: Callable[[], str]) -> str:
    """Return why no process on this machine can capture, as far as that can be seen without capturing."""
    try:
        from pytest_gencore.capture import CaptureEngine

        CaptureEngine.check_available()
        get_run_id()
    except Exception as error:  # noqa: BLE001 - the run goes on without captures, whatever is missing
        return describe_error(error)
    return ""
