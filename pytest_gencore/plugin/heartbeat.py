"""A worker of pytest-xdist tells its controller of progress that no other message tells of.

Modules that are collected, and fixtures that are set up or torn down; once a second at most.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.plugin.listening import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 1.0
"""Less than the least time by which the deadline of the controller passes later."""
_now = time.clock_gettime
"""Kept: tests patch the functions of ``time``."""


class Heartbeat:
    """A plugin of a worker, registered only if its controller listens."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._last = 0.0
        self._send: Callable[[str], None] | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectstart(self) -> None:
        """Tell."""
        self._beat()

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self) -> None:
        """Tell."""
        self._beat()

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_post_finalizer(self) -> None:
        """Tell."""
        self._beat()

    def _beat(self) -> None:
        now = _now(time.CLOCK_MONOTONIC)
        if now - self._last >= SECONDS:
            self._last = now
            with contextlib.suppress(Exception):  # the controller may be gone
                self._send = self._send or find_sender(self._config)
                self._send(HEARTBEAT)


def find_sender(config: pytest.Config) -> Callable[[str], None]:
    """Return what sends messages to the controller: pytest-xdist has no public way."""
    plugins: set[Any] = config.pluginmanager.get_plugins()
    send: Callable[[str], None] = next(plugin.sendevent for plugin in plugins if hasattr(plugin, "sendevent"))
    return send
