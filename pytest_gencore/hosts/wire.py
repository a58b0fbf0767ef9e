"""What agent and controller tell each other: tuples of plain data, whose first item says what they are.

::

    controller                          agent
    start, directory, token, run id ──►
                        ◄────────────── hello, run id, directory, is shared
    look, number ─────────────────────►
                        ◄────────────── seen, number, outcomes, problem, refusals      also when they change
    send, name ───────────────────────►
                        ◄────────────── file, name, size
                        ◄────────────── piece, bytes                                   until all are there
                        ◄────────────── end, SHA-256       or: unread, name, reason
    landed, name ─────────────────────►                                                removes what was sent
    seen, name; end; cancel ──────────►                                                as the methods of a run
    close ────────────────────────────►
                        ◄────────────── closed

A controller that is gone is one that says ``close``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.run.outcome import Outcome
from pytest_gencore.texts import escape_unprintable

if TYPE_CHECKING:
    from pathlib import Path

PIECE: Final = 1 << 20
"""Bytes that are sent at once: other words pass between two pieces."""
_NAME: Final = re.compile(r"(core|libraries)_[\w.-]+\.(tar\.gz|txt|html)")


def is_name(name: object) -> bool:
    """Whether a file of this name may be asked for, and written."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def encode(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain data; of the path of the archive only its name."""
    return {**outcome._asdict(), "archive": outcome.archive.name}


def decode(fields: dict[str, Any], directory: Path) -> Outcome:
    """Return the outcome, with its archive in ``directory``; raises ValueError, TypeError and KeyError."""
    name = fields["archive"]
    if not is_name(name):
        raise ValueError(name)
    texts = {key: text for key, text in fields.items() if isinstance(text, str)}
    texts = {key: escape_unprintable(text, keep="\n") for key, text in texts.items()}
    return Outcome(**{**fields, **texts, "archive": directory / name})
