"""The signal handlers of this process: one owner, the outermost session that runs tests."""

from __future__ import annotations

import faulthandler
from typing import TYPE_CHECKING, Any

from pytest_gencore.capture.spawned import adopt_trace
from pytest_gencore.plugin.reserve import duplicate
from pytest_gencore.probe import main as probe

if TYPE_CHECKING:
    import pytest

    from pytest_gencore.capture import CaptureEngine


class CrashHandlers:
    """Handlers of fatal signals; they capture with the standby that was set last."""

    _owner: CrashHandlers | None = None
    """Of the process: a session inside a session (``pytester.inline_run``) leaves it alone."""

    def __init__(self, engine: CaptureEngine, config: pytest.Config, *, asks_children: bool) -> None:
        """Prepare; no handler is changed yet. ``asks_children``: they tell collectors where they stand."""
        self._native: Any = engine.native
        self._answers = engine.answers if asks_children else None
        self.is_portable = engine.is_portable
        """Whether crashes, cancels and children are not seen: without the extension."""
        self._standby: object = None
        self._config = config
        self._is_under = False
        self._trace_signals: list[int] = []
        self.is_owner = CrashHandlers._owner is None
        if self.is_owner:
            CrashHandlers._owner = self
            if engine.is_portable:
                return  # crashes are not seen, and the probe needs no arming
            self._native.release_forked()  # where we are a child of another run
            self._trace_signals = adopt_trace(self._native)
            probe.arm()

    def install(self, standby: object) -> bool:
        """Capture crashes with ``standby``, that of a ``PreparedCapture``.

        Called for each test: a test may have displaced the handlers, also those of cancels. Returns whether
        SIGINT has one that is not ours, if cancels are captured.
        """
        if not self.is_owner or self.is_portable:
            return False
        if not self._is_under:
            self._change_under(installing=True)
        if standby is not self._standby:
            self.set_standby(standby)
        is_foreign: bool = self._native.restore_handlers(self._answers)
        return is_foreign

    def set_standby(self, standby: object) -> None:
        """Capture the next crash with another standby, where the handlers still are."""
        if standby is not self._standby and self.is_owner:
            self._native.set_crash_standby(standby)
            self._standby = standby

    def uninstall(self) -> None:
        """Take the handlers out."""
        if self.is_owner and not self.is_portable:
            self._native.unwatch_crashes()
            self.set_standby(None)
            if self._is_under:
                self._change_under(installing=False)

    def close(self) -> None:
        """Take the handlers out and give the process back to the next owner."""
        if not self.is_owner:
            return
        self.uninstall()
        self._native.forget_handlers()
        self._native.release_forked()
        self._native.disarm_probe()
        for number in self._trace_signals:
            faulthandler.unregister(number)
        CrashHandlers._owner = None
        self.is_owner = False

    def _change_under(self, *, installing: bool) -> None:
        """Put handlers under faulthandler's as well: ``Py_FatalError`` disables that before it aborts.

        What somebody else has installed in front of faulthandler stays there.
        """
        descriptor = find_faulthandler_file(self._config)
        if descriptor is None or not faulthandler.is_enabled():
            return
        self._native.save_actions()
        faulthandler.disable()
        if installing:
            self._native.install_under_faulthandler()
        else:
            self._native.remove_under_faulthandler()
        faulthandler.enable(file=descriptor)
        self._native.restore_actions()
        self._is_under = installing


def find_faulthandler_file(config: pytest.Config) -> int | None:
    """Return the descriptor that pytest has given faulthandler, None if that cannot be known."""
    plugin = config.pluginmanager.get_plugin("faulthandler")
    key = getattr(plugin, "fault_handler_stderr_fd_key", None)  # private: without it, not below
    return None if key is None else config.stash.get(key, None)


def duplicate_stderr(config: pytest.Config) -> int:
    """Return a descriptor of the standard error of before pytest captured output, -1 if there is none."""
    manager = config.pluginmanager.getplugin("capturemanager")
    try:
        if manager is None:
            return duplicate(2)
        with manager.global_and_fixture_disabled():
            return duplicate(2)
    except OSError:
        return -1
