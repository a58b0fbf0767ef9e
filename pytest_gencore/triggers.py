"""What can lead to a capture, and what follows from it: all that is known of each trigger but its source."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Trigger = Literal["failure", "timeout", "crash", "request", "cancel", "child", "slow", "memory"]


class TriggerKind(NamedTuple):
    """One of them."""

    summary: str
    """First line of the diagnosis; ``{where}``, ``{signal}``, ``{deadline}``, ``{cancel}``, ``{memory}``
    are filled in."""
    did: str
    """What the capturing thread did."""
    claim: str | None
    """Captures of a test with the same claim are made once a run; None: as often as wanted."""
    by_handler: bool = False
    """Whether a signal handler captures, or a thread of ours: the process may end without a report."""
    by_any_thread: bool = False
    """Whether the thread that captures is no matter: it is about the one that runs the tests."""
    is_fatal: bool = False
    """Whether the process ends."""
    is_hang: bool = False
    """Whether the test had not come to its end: what it waits for is the question."""
    is_told_at_once: bool = False
    """Whether the collector tells what it knows as soon as it knows it: nobody else may come to that."""
    has_signal: bool = False
    """Whether the signal behind it says something."""
    may_go_on: bool = False
    """Whether a test may go on after it, so that no report names the archive."""
    is_only_told: bool = False
    """Whether the answer is all there shall be: told at once, by whichever process, and no archive."""
    with_pystack: bool = True
    """Whether pystack adds locals and native frames to the stacks; it takes seconds."""


TRIGGERS: Final[dict[Trigger, TriggerKind]] = {
    "failure": TriggerKind(summary="failed: {where}", did="ran the test", claim=""),
    # A hang or a crash after a failure of the same test says more: it is captured, too.
    "timeout": TriggerKind(
        summary="{deadline}: {where}",
        did="ran the test",
        claim="hang ",
        by_handler=True,
        is_hang=True,
        may_go_on=True,
    ),
    "crash": TriggerKind(
        summary="{signal} in {where}",
        did="crashed",
        claim="crash ",
        by_handler=True,
        is_fatal=True,
        is_told_at_once=True,
        has_signal=True,
    ),
    "cancel": TriggerKind(
        summary="cancelled by {cancel}: {where}",
        did="ran the test",
        claim="cancel ",
        by_handler=True,
        by_any_thread=True,
        is_hang=True,
        is_told_at_once=True,
        has_signal=True,
    ),
    "child": TriggerKind(
        summary="captured with its parent: {where}", did="ran", claim=None, by_handler=True, is_hang=True
    ),
    "slow": TriggerKind(
        summary="slow: {where}",
        did="ran the test",
        claim=None,
        by_handler=True,
        is_only_told=True,
        is_told_at_once=True,
    ),
    "memory": TriggerKind(
        summary="memory: {memory}: {where}",
        did="ran the test",
        claim=None,
        by_handler=True,
        by_any_thread=True,
        is_told_at_once=True,
        is_only_told=True,
    ),
    "request": TriggerKind(
        summary="capture requested: {where}", did="asked for this", claim=None, with_pystack=False
    ),
}
HANDLED: Final = frozenset(
    trigger for trigger, kind in TRIGGERS.items() if kind.by_handler and not kind.is_only_told
)
"""Those of an archive by a signal handler."""
