"""A plugin of pytest that lets Linux stand for Windows where cores are made: of a program that Wine runs.

``WINE`` is Wine, and ``WINDOWS_PID`` that process. The copy of the package that has no extension needs the
program of the wheel.
"""

from __future__ import annotations

import os
import sys

from pytest_gencore import systems
from pytest_gencore.portable import native, windows

systems.SYSTEMS[sys.platform] = systems.SYSTEMS["win32"]
native._CORE_SECONDS = 100.0  # type: ignore[misc] # Wine takes a hundred times what Windows does
windows._getpid = lambda: int(os.environ["WINDOWS_PID"])
make_argv = windows.make_argv
windows.make_argv = lambda milliseconds: [os.environ["WINE"], *make_argv(milliseconds)]
