"""The roles: which plugin objects a process of the run needs.

| process | plugin objects |
|---|---|
| the only one | ``Capturing``, ``Showing`` |
| controller of pytest-xdist | ``Showing``, ``Controller``; it captures itself, too |
| its worker | ``Capturing``, ``Worker`` |
| worker of a controller without this plugin | none |
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.plugin.capturer import Capturer
from pytest_gencore.plugin.capturing import Capturing
from pytest_gencore.plugin.options import is_distributed
from pytest_gencore.plugin.places import CONTROLLER
from pytest_gencore.plugin.settings import Settings, find_ci, read_marker
from pytest_gencore.plugin.whole import is_whole_process
from pytest_gencore.unpatched import posix

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.plugin.ci_page import CiPage
    from pytest_gencore.plugin.listening import Listening
    from pytest_gencore.plugin.showing import Showing
    from pytest_gencore.plugin.xdist import Worker


class Roles:
    """The plugin objects of one config, registered until it ends."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self.settings = settings
        self.capturing: Capturing | None = None
        self.showing: Showing | None = None
        self.worker: Worker | None = None
        self.listening: Listening | None = None
        self.capturer: Capturer | None = None
        self.config = config
        self._plugins: list[object] = []
        self._has_made_directory = False
        self.register(self, "roles")

    def expect_directory(self) -> None:
        """Take notice whether the artifact directory is there: processes of this run may make it."""
        self._has_made_directory = not self.settings.dir.exists()

    def register(self, plugin: object, name: str) -> None:
        """Register a plugin object until the roles end."""
        self.config.pluginmanager.register(plugin, f"gencore-{name}")
        self._plugins.append(plugin)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Check every marker, and find out whether anything can ask for a capture; raises ``UsageError``."""
        try:
            for item in items:
                marker = read_marker(item)
                uses_fixture = "gencore" in getattr(item, "fixturenames", ())
                if self.capturing is not None and (uses_fixture or (marker is not None and marker.enabled)):
                    self.capturing.is_wanted = True
                    self.capturing.is_moment_wanted |= marker is not None and marker.moment == "raise"
        except pytest.UsageError as error:
            if self.worker is not None:
                self.worker.pass_on(error)
            raise

    def close(self) -> None:
        """Leave the process as it was, and show what pytest had no summary for."""
        with contextlib.ExitStack() as steps:  # each is made, whatever becomes of those before
            if self._has_made_directory:
                steps.callback(remove_if_empty, self.settings.dir)
            steps.callback(self._unregister)
            for role in (self.capturer, self.listening, self.showing):
                if role is not None:
                    steps.callback(role.close)

    def _unregister(self) -> None:
        while self._plugins:
            self.config.pluginmanager.unregister(self._plugins.pop())


def remove_if_empty(directory: Path) -> None:
    """Remove a directory, unless there are archives in it, or others use it."""
    with contextlib.suppress(OSError):
        posix.rmdir(directory)


def fill_roles(roles: Roles) -> None:
    """Register what this process needs."""
    worker_input: dict[str, Any] | None = getattr(roles.config, "workerinput", None)
    if worker_input is not None:
        fill_worker(roles, worker_input)
    elif is_distributed(roles.config):
        fill_controller(roles)
    else:
        fill_only_process(roles)


def fill_only_process(roles: Roles) -> None:
    """Capture and show."""
    from pytest_gencore.plugin.own_run import OwnRun
    from pytest_gencore.plugin.showing import Showing

    config, settings = roles.config, roles.settings
    roles.expect_directory()
    get_run_id = make_run_id_getter()
    roles.capturer = capturer = Capturer(
        config,
        settings,
        get_run_id=get_run_id,
        worker_id=None,
        once_a_worker=False,
        outlives_session=is_whole_process(),
    )
    roles.showing = Showing(
        config,
        settings,
        own_run=OwnRun(settings.dir, get_run_id),
        find_unavailable=lambda: capturer.unavailable,
        may_have_captures=lambda: capturer.is_armed,
        ci_page=make_ci_page(roles, get_run_id),
        ignore_cancels=capturer.ignore_cancels,
        paused_session=capturer.paused_session,
    )
    roles.capturing = Capturing(config, capturer, record=roles.showing.record)
    roles.register(roles.capturing, "capturing")
    roles.register(roles.showing, "showing")


def fill_controller(roles: Roles) -> None:
    """Show what workers capture; here no test runs."""
    from pytest_gencore.plugin.hosts import Hosts
    from pytest_gencore.plugin.own_run import OwnRun
    from pytest_gencore.plugin.sessiondeadline import find_controller_seconds
    from pytest_gencore.plugin.showing import Showing
    from pytest_gencore.plugin.xdist import Controller

    config, settings = roles.config, roles.settings
    roles.expect_directory()
    get_run_id = make_run_id_getter()
    roles.capturer = capturer = Capturer(
        config,
        settings._replace(session_timeout=find_controller_seconds(settings.session_timeout)),
        get_run_id=get_run_id,
        worker_id=None,
        once_a_worker=False,
        place=CONTROLLER,
        role="controller",
        outlives_session=is_whole_process(),
    )
    hosts = Hosts(config, settings, get_run_id=get_run_id, get_results=lambda: showing.results)
    controller = Controller(
        config,
        settings,
        capturer,
        get_run_id=get_run_id,
        hosts=hosts,
        get_results=lambda: showing.results,
    )
    showing = Showing(
        config,
        settings,
        own_run=OwnRun(settings.dir, get_run_id, hosts),
        find_unavailable=controller.find_unavailable,
        may_have_captures=controller.may_have_captures,
        ci_page=make_ci_page(roles, get_run_id),
        ignore_cancels=controller.ignore_cancels,
        paused_session=capturer.paused_session,
    )
    roles.showing = showing
    roles.register(showing, "showing")
    roles.register(controller, "controller")
    if settings.on_fail or settings.session_timeout is not None:
        capturer.arm()
    engine = capturer.engine
    if settings.session_timeout is not None and engine is not None and not engine.is_portable:
        from pytest_gencore.plugin.listening import Listening

        roles.listening = Listening(engine.native, capturer.note_progress)
        roles.register(roles.listening, "listening")


def make_ci_page(roles: Roles, get_run_id: Callable[[], str]) -> CiPage | None:
    """Return what tells the CI system, registered; None if there is none."""
    target = find_ci(roles.config, roles.settings)
    if target is None:
        return None
    from pytest_gencore.plugin.ci_page import CiPage

    page = CiPage(roles.config, roles.settings, target, get_run_id)
    roles.register(page, "ci-page")
    return page


def fill_worker(roles: Roles, worker_input: dict[str, Any]) -> None:
    """Capture, with what the controller resolved; nothing for a controller without this plugin."""
    from pytest_gencore.plugin.xdist import WORKER_KEY, Worker

    ours = worker_input.get(WORKER_KEY)
    if ours is None:
        return
    config = roles.config
    settings = roles.settings = roles.settings._replace(
        dir=Path(ours["directory"]), recipient=tuple(ours["recipients"])
    )
    roles.capturer = capturer = Capturer(
        config,
        settings,
        get_run_id=lambda: str(ours["run_id"]),
        worker_id=worker_input["workerid"],
        once_a_worker=ours["once_a_worker"],
        outlives_session=True,
    )
    capturer.has_stderr = ours["has_stderr"]
    roles.capturing = Capturing(config, capturer, record=leave_to_controller, home=ours.get("home", ""))
    roles.worker = Worker(config, lambda: capturer.unavailable)
    roles.register(roles.capturing, "capturing")
    roles.register(roles.worker, "worker")
    if ours["is_heard"]:
        from pytest_gencore.plugin.heartbeat import Heartbeat

        roles.register(Heartbeat(config), "heartbeat")


def leave_to_controller(report: pytest.TestReport) -> None:
    """Record nothing: the report passes to the controller with what is on it."""


def make_run_id_getter() -> Callable[[], str]:
    """Return what gives the id that all processes of this run share; made at first use."""

    @functools.cache
    def get_run_id() -> str:
        from pytest_gencore.run.folder import new_run_id

        return new_run_id()

    return get_run_id
