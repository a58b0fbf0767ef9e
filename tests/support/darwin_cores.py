"""A plugin of pytest that lets Linux stand for macOS where cores are made: the kernel is asked otherwise.

The copy of the package that has no extension needs the library: ``without_extension.add_library``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_gencore import systems

systems.SYSTEMS[sys.platform] = systems.SYSTEMS["darwin"]


def read_settings() -> object:
    """Return the setting of Linux in the words of macOS."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().rstrip("\n")
    return macos.Settings(pattern.replace("%p", "%P"), are_on=True)


from pytest_gencore.portable import macos  # noqa: E402 - it looks for its library

macos.read_settings = read_settings  # type: ignore[assignment]
