"""The pytest plugin: hook functions only; what they start lives in one role object per config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_gencore.plugin import hookspecs
from pytest_gencore.plugin.options import (
    MARKER_HELP,
    add_options,
    apply_marker,
    read_marker,
    resolve_settings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.plugin.fixture import Gencore
    from pytest_gencore.plugin.session import Session

SESSION_KEY: pytest.StashKey[Session] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks for other plugins."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and the role object of this process, after faulthandler installed its handlers."""
    from pytest_gencore.plugin.session import NAME, make_session

    config.addinivalue_line("markers", MARKER_HELP)
    session = make_session(config, resolve_settings(config))
    config.stash[SESSION_KEY] = session
    config.pluginmanager.register(session, NAME)


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Unregister the role object, before faulthandler's handlers go; there is none if configuring failed."""
    session = config.stash.get(SESSION_KEY, None)
    if session is not None:
        del config.stash[SESSION_KEY]
        session.close()
        config.pluginmanager.unregister(session)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is armed, and what does not work."""
    return config.stash[SESSION_KEY].make_header()


@pytest.fixture
def gencore(request: pytest.FixtureRequest) -> Iterator[Gencore]:
    """Make cores and archives of the running test: ``create_core()``, ``collect_core()``."""
    from pytest_gencore.plugin.fixture import use_gencore

    settings = request.config.stash[SESSION_KEY].settings
    yield from use_gencore(apply_marker(settings, read_marker(request.node)), request.node)
