"""Until something asks for a capture: a plugin that looks for it, and imports nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.plugin.options import has_marker, is_anything_set, is_distributed

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_gencore.plugin.roles import Roles

NAME = "gencore-dormant"
ROLES_KEY: pytest.StashKey[Roles] = pytest.StashKey()


class Dormant:
    """A plugin that gives way to the roles when a marker, a fixture or a hook asks for captures."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Look at everything that can ask for a capture before the first test runs."""
        has_hook = bool(self._config.hook.pytest_gencore_should_capture.get_hookimpls())
        if has_hook or any(map(is_asking, items)):
            wake(self._config).pytest_collection_modifyitems(items)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Look for markers that the test has added while it ran."""
        report = yield
        if call.excinfo is not None and has_marker(item):
            capturing = wake(self._config).capturing
            if capturing is not None:
                capturing.consider(item, call, report)
        return report


def is_asking(item: pytest.Item) -> bool:
    """Return whether a test has the marker or uses the fixture."""
    return has_marker(item) or "gencore" in getattr(item, "fixturenames", ())


def start(config: pytest.Config) -> None:
    """Register the roles if options ask for captures, else what waits for another reason.

    Raises ``UsageError`` for a bad value of an option, also if nothing asks.
    """
    if is_anything_set(config):
        from pytest_gencore.plugin.settings import resolve_settings

        settings = resolve_settings(config)
        if settings.on_fail or any(
            value is not None
            for value in (settings.timeout, settings.session_timeout, settings.capture_memory)
        ):
            wake(config)
            return
    if is_distributed(config):
        wake(config)  # workers need the run's id, whatever they find
    else:
        config.pluginmanager.register(Dormant(config), NAME)


def wake(config: pytest.Config) -> Roles:
    """Return the roles of this process; register them if that was not done yet."""
    roles = config.stash.get(ROLES_KEY, None)
    return make_roles(config) if roles is None else roles


def make_roles(config: pytest.Config) -> Roles:
    """Register the roles of this process in place of what waited for a reason."""
    from pytest_gencore.plugin.imports import fast_imports

    with fast_imports():
        from pytest_gencore.plugin.roles import Roles, fill_roles
        from pytest_gencore.plugin.settings import resolve_settings

        if config.pluginmanager.has_plugin(NAME):
            config.pluginmanager.unregister(name=NAME)
        roles = config.stash[ROLES_KEY] = Roles(config, resolve_settings(config))
        fill_roles(roles)  # now: whoever interrupts it finds what is to be closed
        return roles


def stop(config: pytest.Config) -> None:
    """Unregister whichever of both is there; neither is if configuring failed."""
    roles = config.stash.get(ROLES_KEY, None)
    if roles is not None:
        del config.stash[ROLES_KEY]
        try:
            roles.close()
        except Exception as error:  # noqa: BLE001 - no exit status may depend on what tests have left
            tell_left(config, error)
    elif config.pluginmanager.has_plugin(NAME):
        config.pluginmanager.unregister(name=NAME)


def tell_left(config: pytest.Config, error: Exception) -> None:
    """Say that the end of captures went wrong."""
    from pytest_gencore.errors import describe_error

    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"gencore: cannot tidy up: {describe_error(error)}")
