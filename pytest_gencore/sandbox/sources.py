"""Which source files the readers of a core may open, whatever names the core holds.

This file is also run by path, in Pythons that do not know this package: pystack's own, and gdb's. pystack
(``traceback_formatter.py`` of 1.4 to 1.7) and CPython's commands for gdb read the files that code objects
name with a plain ``open()``: here they get another one.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
import tokenize
from typing import IO, TYPE_CHECKING, Any  # and no Final: Python 3.7 has none

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE_LIMIT = 512 << 10
"""Bytes of one source file; longer ones are not read."""
_FLAGS = 0
for _name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):  # Windows has only the last
    _FLAGS |= getattr(os, _name, 0)
_ANYWHERE = "/"
_READER = {"open", "os", "exists"}
"""What ``traceback_formatter.format_frame`` finds a source line with."""


def read_regular_file(path: str | bytes, limit: int) -> bytes:
    """Return the contents of a regular file of at most ``limit`` bytes; raises OSError, ValueError.

    Never waits for a FIFO or a device.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - bytes, too; to open a device may do something
        raise OSError(errno.EINVAL, "no regular file")
    descriptor = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"more than {limit} bytes")
    return data


def decode_source(data: bytes) -> str:
    """Return the text of a source file, in the encoding that it names."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding, errors="replace")
    except (SyntaxError, LookupError, ValueError):
        return data.decode(errors="replace")


class Sources:
    """The source files below a folder, by the absolute names that they had."""

    def __init__(self, folder: str) -> None:
        """Take an unpacked archive, or ``/`` for the files of this machine."""
        self._folder = os.path.realpath(folder)
        self._texts: dict[str, str | None] = {}

    def read(self, name: object) -> str | None:
        """Return a file's text; None if there is no such file, or none that may be read."""
        if not isinstance(name, (str, bytes)):
            return None
        name = os.fsdecode(name)
        if name not in self._texts:
            try:
                self._texts[name] = self._read(name)
            except (OSError, ValueError):
                self._texts[name] = None
        return self._texts[name]

    def exists(self, name: object) -> bool:
        """Stand for ``os.path.exists``."""
        return self.read(name) is not None

    def open(self, name: Any, mode: str = "r", *rest: Any, **options: Any) -> IO[Any]:
        """Stand for ``open``: what reads text gets a source file, or FileNotFoundError."""
        if mode != "r":
            return io.open(name, mode, *rest, **options)  # noqa: UP020 - an older Python; not this one
        text = self.read(name)
        if text is None:
            raise FileNotFoundError(errno.ENOENT, "no source file in the archive", name)
        return io.StringIO(text, newline=None)

    def _read(self, name: str) -> str | None:
        """Leave out what is elsewhere after ``..`` and links; raises OSError, ValueError."""
        if not name.startswith("/"):
            return None
        path = self._folder + os.path.normpath(f"/{name.lstrip('/')}")
        if self._folder != _ANYWHERE and not os.path.realpath(path).startswith(f"{self._folder}/"):
            return None
        data = read_regular_file(path, SOURCE_LIMIT)
        return None if b"\0" in data else decode_source(data)


def run_gdb_script(script: str, folder: str) -> None:
    """Run CPython's script for gdb, in gdb's Python; its commands read sources below ``folder`` only.

    What it defines is found where ``source`` would put it, but the ``open`` of gdb's Python stays.
    """
    with open(script, encoding="utf-8") as file:  # noqa: PTH123 - an older Python
        code = compile(file.read(), script, "exec")
    own = {"__name__": "__main__", "__file__": script, "open": Sources(folder).open}
    exec(code, own)  # noqa: S102 - what source does
    found = {name: value for name, value in own.items() if name != "open" and not name.startswith("__")}
    vars(sys.modules["__main__"]).update(found)


def run_pystack(folder: str, script: str, *arguments: str) -> None:
    """Run pystack, in its own Python, with sources below ``folder`` only; it ends this program."""
    import runpy

    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - an older Python
    sys.path[:] = [path for path in sys.path if os.path.abspath(path or ".") != here]  # noqa: PTH100
    try:
        from pystack import traceback_formatter  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        sys.exit(f"cannot be imported: {error}")
    formatter: Any = traceback_formatter
    code = getattr(getattr(formatter, "format_frame", None), "__code__", None)
    if code is None or not set(code.co_names) >= _READER:
        sys.exit("this version reads source files in a way that is not known; pystack 1.4 to 1.7 are")
    sources = Sources(folder)
    formatter.open = sources.open
    formatter.os = _OnlyPath(sources.exists)
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


class _OnlyPath:
    """Stands for the module ``os`` in a module that asks it for ``os.path.exists``."""

    def __init__(self, exists: Callable[[object], bool]) -> None:
        self.path = self
        self.exists = exists


if __name__ == "__main__":
    run_pystack(*sys.argv[1:])
