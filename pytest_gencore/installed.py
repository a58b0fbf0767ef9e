"""Which code is not the project's, by the path of its file."""

from __future__ import annotations

import re

_INSTALLED = re.compile(r"/(?:site|dist)-packages/")
_STANDARD = re.compile(r"/lib(?:64)?/python3\.\d+t?/")


def is_installed(file: str) -> bool:
    """Whether a package was installed there."""
    return bool(_INSTALLED.search(file))


def is_standard(file: str) -> bool:
    """Whether it is where the standard library is; installed packages may be, too."""
    return bool(_STANDARD.search(file))


def is_foreign(file: str) -> bool:
    """Whether it is either, or a part of the interpreter."""
    return is_installed(file) or is_standard(file) or file.startswith("<frozen ")
