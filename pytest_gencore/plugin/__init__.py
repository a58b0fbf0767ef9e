"""The pytest plugin: what each run of pytest needs of it; the rest is imported when something asks for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.plugin import dormant, hookspecs
from pytest_gencore.plugin.options import MARKER_HELP, add_options, is_armed_early

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from pytest_gencore.plugin.fixture import Gencore


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the hooks for other plugins."""
    pluginmanager.add_hookspecs(hookspecs)


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    """Capture crashes while conftest.py files are imported."""
    if not is_armed_early(early_config):
        return (yield)
    from pytest_gencore.plugin.imports import fast_imports

    with contextlib.ExitStack() as stack:
        with fast_imports():
            from pytest_gencore.plugin.early import watch_imports

            stack.enter_context(watch_imports(early_config))
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and what captures, after faulthandler installed its handlers."""
    config.addinivalue_line("markers", MARKER_HELP)
    dormant.start(config)


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the roles, before faulthandler's handlers go; there are none if nothing asked for captures."""
    dormant.stop(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is armed, and what does not work."""
    roles = config.stash.get(dormant.ROLES_KEY, None)
    return [] if roles is None or roles.showing is None else roles.showing.make_header()


@pytest.fixture
def gencore(request: pytest.FixtureRequest) -> Iterator[Gencore]:
    """Make cores and archives of the running test: ``create_core()``, ``collect_core()``."""
    from pytest_gencore.plugin.fixture import use_gencore

    yield from use_gencore(dormant.wake(request.config).settings, request.node)
