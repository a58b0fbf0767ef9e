"""For whom archives are sealed: public keys, or files of them, checked when the run starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.age import parse_recipient
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BEGINNINGS = ("age1", "ssh-")
_PRIVATE = "AGE-SECRET-KEY-"
_RESOLVED_KEY: pytest.StashKey[dict[tuple[str, ...], tuple[str, ...]]] = pytest.StashKey()
"""Public keys by entries."""


def resolve_recipients(
    config: pytest.Config, entries: tuple[str, ...], base: Path, source: str
) -> tuple[str, ...]:
    """Return the public keys that entries are or name, files relative to ``base``; each once.

    Files are read once; a worker of pytest-xdist reads none, and takes what its controller tells. Raises
    ``UsageError`` naming what is wrong, also if the extra that encrypts is missing. It never shows a line of
    a file, nor what may be a private key.
    """
    if hasattr(config, "workerinput"):
        return ()
    known = config.stash.setdefault(_RESOLVED_KEY, {})
    if entries not in known:
        known[entries] = _resolve(entries, base, source)
    return known[entries]


def _resolve(entries: Iterable[str], base: Path, source: str) -> tuple[str, ...]:
    keys: dict[str, None] = {}
    for entry in entries:
        for key, name in _read_keys(entry, base, source):
            try:
                parse_recipient(key)
            except ValueError as error:
                why = f"{name}: {error}"
                raise _refuse(why, source) from None
            except ArchiveError as error:
                raise _refuse(str(error), source) from None
            keys[key] = None
    return tuple(keys)


def _read_keys(entry: str, base: Path, source: str) -> Iterator[tuple[str, str]]:
    """Yield keys and what to call them: one, or those of a file. Lines that begin with # are comments."""
    if _PRIVATE in entry.upper():
        raise _refuse("it is a private key, which must not be here", source)
    if entry.startswith(_BEGINNINGS):
        yield entry, repr(entry)
        return
    try:
        path = base / Path(entry).expanduser()
        lines = path.read_text("utf-8").splitlines()
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        why = f"{entry!r}: no key, and no file: {reason}"
        raise _refuse(why, source) from None
    found = False
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if key and not key.startswith("#"):
            found = True
            yield key, f"line {number} of {path}"
    if not found:
        why = f"{path} holds no key"
        raise _refuse(why, source)


def _refuse(why: str, source: str) -> pytest.UsageError:
    message = f"gencore: invalid recipient: {why} (from {source})"
    return pytest.UsageError(message)
