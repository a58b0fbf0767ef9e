"""What captures are prepared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pytest_gencore.portable.cores import Cores
    from pytest_gencore.portable.helper import Helper


class Plan(NamedTuple):
    """What is the same for all captures of an engine."""

    helper: Helper
    directory: str
    run_name: str
    max_captures: int
    cores: Cores | None
    """What makes them on this system."""
    messages: list[str]
    """What failed, by stage."""
    stderr_fd: int
    """-1: nothing can be said."""


class Standby(NamedTuple):
    """A capture that the watchdog may make."""

    plan: Plan
    text: bytes
    claim: str | None
    await_seconds: float
    is_only_told: bool
    core_filter: int
    """0: no core is wanted; its bits have no meaning here."""
