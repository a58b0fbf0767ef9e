"""For whom archives are sealed: public keys, or files of them, checked when the run starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_gencore.archive.age import parse_recipient
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_BEGINNINGS = ("age1", "ssh-")


def resolve_recipients(entries: Iterable[str], base: Path, source: str) -> tuple[str, ...]:
    """Return the public keys that entries are or name, files relative to ``base``; each once.

    Raises ``UsageError`` naming the entry that is wrong, and without the extra that encrypts.
    """
    keys: dict[str, None] = {}
    for entry in entries:
        for key in _read_keys(entry, base, source):
            try:
                parse_recipient(key)
            except (ValueError, ArchiveError) as error:
                message = f"gencore: invalid recipient {key!r}: {error} (from {source})"
                raise pytest.UsageError(message) from None
            keys[key] = None
    return tuple(keys)


def _read_keys(entry: str, base: Path, source: str) -> Iterator[str]:
    """Yield a key, or those of a file: a line each; empty lines and those that begin with # are none."""
    if entry.startswith(_BEGINNINGS):
        yield entry
        return
    path = base / entry
    try:
        lines = path.expanduser().read_text("utf-8").splitlines()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = (
            f"gencore: invalid recipient {entry!r}: no key, and no file: {path}: {reason} (from {source})"
        )
        raise pytest.UsageError(message) from None
    keys = [stripped for line in lines if (stripped := line.strip()) and not stripped.startswith("#")]
    if not keys:
        message = f"gencore: invalid recipient {entry!r}: {path} holds no key (from {source})"
        raise pytest.UsageError(message)
    yield from keys
