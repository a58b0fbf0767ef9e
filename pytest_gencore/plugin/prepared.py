"""Captures by signal handlers: prepared once for all tests with the same settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.capture import CaptureEngine, CaptureRequest, PreparedCapture, Trigger
    from pytest_gencore.plugin.settings import Settings
    from pytest_gencore.request.model import DeadlineSource

AWAIT_SECONDS = 300.0
"""How long a process that nobody survives waits for its archive before it dies."""

_SHORTEST_SECONDS = 3.0
"""Deadlines that are shorter pass before anybody has read of them."""


class PreparedCaptures:
    """Makes each of them at first use."""

    def __init__(
        self,
        engine: CaptureEngine,
        make_request: Callable[..., CaptureRequest],
        *,
        ends_alone: bool,
        exits: bool,
        tells_slow: bool,
    ) -> None:
        """``ends_alone``: nobody survives the process; ``exits``: a deadline of ours ends it.

        ``tells_slow``: tests are told of that are on the way to their deadline.
        """
        self._tells_slow = tells_slow
        self._engine = engine
        self._make_request = make_request
        self._ends_alone = ends_alone
        self._exits = exits
        self._made: dict[tuple[object, ...], PreparedCapture] = {}

    def crash(self, settings: Settings) -> PreparedCapture:
        """Return that of a crash."""
        key = ("crash", settings.method, settings.threads)
        return self._made.get(key) or self._make(
            key, "crash", settings, await_seconds=AWAIT_SECONDS if self._ends_alone else 0
        )

    def timeout(self, settings: Settings, seconds: float, source: DeadlineSource) -> PreparedCapture:
        """Return that of a deadline."""
        key = (source, settings.method, settings.threads, seconds)
        made = self._made.get(key)
        if made is not None:
            return made
        ends = source != "pytest-timeout" and self._ends_alone and self._exits
        deadline: dict[str, Any] = {"deadline_seconds": seconds, "deadline_source": source}
        made = self._make(key, "timeout", settings, await_seconds=AWAIT_SECONDS if ends else 0, **deadline)
        if self._tells_slow and source != "gencore-session" and seconds >= _SHORTEST_SECONDS:
            only_it = settings._replace(threads="calling")  # the others need not stand still
            slow = self._make(("slow", *key), "slow", only_it, await_seconds=0, **deadline)
            made = self._made[key] = made._replace(slow=slow.standby)
        return made

    def cancel(self, settings: Settings, *, ends: bool) -> PreparedCapture:
        """Return that of a run that is cancelled; ``ends``: by a signal that ends the process."""
        ends &= self._ends_alone  # a controller waits for the archives of its workers
        key = ("cancel", settings.method, settings.threads, ends)
        return self._made.get(key) or self._make(
            key,
            "cancel",
            settings,
            await_seconds=settings.grace if ends else 0,
            ends=ends,
            grace_seconds=settings.grace,
            interrupt_after=settings.interrupt_after,
        )

    def child(self, settings: Settings, trigger: Literal["crash", "child"]) -> PreparedCapture:
        """Return that of a child: of its crash, or with its parent."""
        key = ("of a child", trigger, settings.method, settings.threads)
        return self._made.get(key) or self._make(
            key, trigger, settings, await_seconds=0, child_of=os.getpid()
        )

    def _make(
        self,
        key: tuple[object, ...],
        trigger: Trigger,
        settings: Settings,
        *,
        await_seconds: float,
        ends: bool = False,
        **details: Any,
    ) -> PreparedCapture:
        if trigger != "crash":
            from pytest_gencore.run.opening import load_run

            load_run()  # for the report
        request = self._make_request(trigger, settings, None, **details)
        self._made[key] = prepared = self._engine.prepare_capture(
            request, await_seconds=await_seconds, exits=ends
        )
        return prepared
