"""What both writers of a junit file need: names, characters, replacing the file in one step."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_INVALID_XML: Final = "[^\t\n\r -~\x80-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
"""Compiled at first use, which takes milliseconds: each armed run imports this module."""
_UNSAFE_IN_TAG: Final = r"[\[\]|\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]"
"""Consumers read the tag with ``[^\\[\\]|]+``; XML holds no control characters."""
_MODE: Final = 0o644


def name_case(nodeid: str) -> tuple[str, str]:
    """Return class name and name of a test, as pytest's junit file has them but for the prefix."""
    base, bracket, parameters = nodeid.partition("[")
    path, *names = base.split("::")
    module = path.replace("/", ".").removesuffix(".py")
    return ".".join([module, *names[:-1]]), (names[-1] if names else module) + bracket + parameters


def escape(text: str) -> str:
    """Show what XML cannot hold as ``#x07``, as pytest does."""

    def show(match: re.Match[str]) -> str:
        code = ord(match[0])
        return f"#x{code:02X}" if code <= 0xFF else f"#x{code:04X}"

    return re.sub(_INVALID_XML, show, text)


def make_tag(archive: Path, base: str | None) -> str | None:
    """Return the line that attaches an archive, relative to ``base`` if that is not None.

    None if the path has characters that would break it.
    """
    shown = shown_path(archive, base)
    return None if re.search(_UNSAFE_IN_TAG, shown) else f"[[ATTACHMENT|{shown}]]\n"


def shown_path(archive: Path, base: str | None) -> str:
    """Return the path as the consumer of the file wants it: relative to ``base`` if that is not None."""
    return str(archive) if base is None else os.path.relpath(archive, base)


def replace_file(path: Path, parts: Iterable[str]) -> os.stat_result:
    """Write a file in one step; return its status. Raises OSError, and what ``parts`` raises.

    Permissions and, where allowed, the owner of the file before stay.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            for part in parts:
                file.write(part)
            file.flush()
            _keep_access(descriptor, path)
            status = os.fstat(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return status


def _keep_access(descriptor: int, path: Path) -> None:
    try:
        before = path.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, _MODE)
        return
    with contextlib.suppress(OSError):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    with contextlib.suppress(OSError):
        os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
