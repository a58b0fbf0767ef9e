"""What agent and controller tell each other: tuples of plain data, whose first item says what they are.

::

    controller                          agent
    start, its directory, that of tests,
       token, run id ────────────────►
                        ◄────────────── hello, run id, directory, is shared
    look, number ─────────────────────►
                        ◄────────────── seen, number, outcomes, problem, refusals      also when they change
    send, name ───────────────────────►
                        ◄────────────── file, name, size
                        ◄────────────── piece, bytes                                   until all are there
                        ◄────────────── end, SHA-256       or: unread, name, reason, whether it is there
    landed, name ─────────────────────►                                                removes what was sent
    seen, name; end; cancel ──────────►                                                as the methods of a run
    close ────────────────────────────►
                        ◄────────────── closed

A controller that is gone is one that says ``close``.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin, get_type_hints

from pytest_gencore.run.outcome import Outcome
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.triggers import Trigger

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
    fields = {**outcome._asdict(), "archive": outcome.archive.name}
    return {key: make_plain(value) if isinstance(value, str) else value for key, value in fields.items()}


def make_plain(text: str) -> str:
    """Return a text that execnet can send: it has no surrogates, as names of files may."""
    return text.encode(errors="backslashreplace").decode()


def decode(fields: dict[str, Any], directory: Path) -> Outcome:
    """Return the outcome, with its archive in ``directory``; raises ValueError, TypeError and KeyError."""
    name = fields["archive"]
    if not is_name(name):
        raise ValueError(name)
    hints = _find_hints()
    for key, value in fields.items():
        if not _fits(value, hints[key]):
            message = f"{key} is {value!r:.80}"
            raise ValueError(message)
    texts = {key: text for key, text in fields.items() if isinstance(text, str)}
    texts = {key: escape_unprintable(text, keep="\n") for key, text in texts.items()}
    return Outcome(**{**fields, **texts, "archive": directory / name})


@functools.cache
def _find_hints() -> dict[str, Any]:
    """Return what each field is as plain data."""
    return get_type_hints(Outcome, {"Path": str, "Trigger": Trigger, "Literal": Literal})


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of this type; negative numbers are none that we know."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_args(hint):  # of a union
        return any(_fits(value, one) for one in get_args(hint))
    return isinstance(value, hint) and not (isinstance(value, int) and value < 0)
