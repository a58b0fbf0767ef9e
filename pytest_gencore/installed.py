"""Which code is not the project's, by the path of its file; and whether our own C code is there."""

from __future__ import annotations

import functools
import os
import re
import sys

NO_EXTENSION = "the C extension is not built here"
_FOLDER = os.path.dirname(os.__file__)  # noqa: PTH120 - cheaper
"""Where this Python's standard library is: on Windows its path does not say so."""
_ABSOLUTE = re.compile(r"/|[A-Za-z]:/")
_INSTALLED = re.compile(r"/(?:site|dist)-packages/")
_STANDARD = re.compile(r"/lib(?:64)?/python3\.\d+t?/")


@functools.cache
def has_extension() -> bool:
    """Whether the extension that captures was built for this system; it may fail to be imported."""
    folder = os.path.join(os.path.dirname(__file__), "capture")  # noqa: PTH118, PTH120 - cheaper
    return sys.platform == "linux" and any(
        name.startswith("_native.") and name.endswith(".so")
        for name in os.listdir(folder)  # noqa: PTH208
    )


def plain_path(path: str) -> str:
    """Return a path with the separator that all judge paths by: on Windows there are two."""
    return path.replace(os.sep, "/")


def is_absolute(path: str) -> bool:
    """Whether a path is absolute, on this system or on Windows."""
    return bool(_ABSOLUTE.match(plain_path(path)))


def is_installed(file: str) -> bool:
    """Whether a package was installed there."""
    return bool(_INSTALLED.search(plain_path(file)))


def is_standard(file: str) -> bool:
    """Whether it is where the standard library is; installed packages may be, too."""
    path = plain_path(file)
    return bool(_STANDARD.search(path)) or path.startswith(f"{plain_path(_FOLDER)}/")


def is_foreign(file: str) -> bool:
    """Whether it is either, or a part of the interpreter."""
    return is_installed(file) or is_standard(file) or file.startswith("<frozen ")
