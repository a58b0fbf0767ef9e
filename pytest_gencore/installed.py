"""Which code is not the project's, by the path of its file; and whether our own C code is there."""

from __future__ import annotations

import functools
import os
import re
import sys

NO_EXTENSION = "the C extension is not built here"
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


def is_installed(file: str) -> bool:
    """Whether a package was installed there."""
    return bool(_INSTALLED.search(file))


def is_standard(file: str) -> bool:
    """Whether it is where the standard library is; installed packages may be, too."""
    return bool(_STANDARD.search(file))


def is_foreign(file: str) -> bool:
    """Whether it is either, or a part of the interpreter."""
    return is_installed(file) or is_standard(file) or file.startswith("<frozen ")
