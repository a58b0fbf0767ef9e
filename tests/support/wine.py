"""Windows programs under Wine, with a folder of its own for what Wine keeps."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PLACES: Final = (
    ("/usr/lib/wine/wine64", "/usr/lib/wine/wineserver64"),  # Debian's package wine64, without its scripts
    ("wine", "wineserver"),
)
_SECONDS: Final = 240


def find_wine() -> tuple[str, str] | None:
    """Return Wine for 64-bit programs, and its server."""
    for names in _PLACES:
        wine, server = map(shutil.which, names)
        if wine and server:
            return wine, server
    return None


class Wine:
    """One server, which runs from the first program to ``close``."""

    def __init__(self, folder: Path) -> None:
        """``folder`` gets some hundred MB; takes some twenty seconds."""
        found = find_wine()
        assert found is not None
        self.program, self._server = found
        self.environment: Mapping[str, str] = {
            **os.environ,
            "HOME": str(folder),  # it gets menus
            "DISPLAY": "",
            "WINEPREFIX": str(folder),
            "WINESERVER": self._server,
            "WINEDEBUG": "-all",
            "WINEDLLOVERRIDES": "mscoree,mshtml=",  # no question whether to download .NET and HTML
        }
        # It must not be started by a program whose output is read: the server would keep the pipe.
        self._control("-p")
        try:
            subprocess.run(
                [self.program, "wineboot", "--init"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=True,
            )
        except BaseException:
            self.close()
            raise

    def start(self, *argv: str | Path, cwd: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a program, whose standard input and output are pipes; ``environment`` is added to its own."""
        return subprocess.Popen(
            [self.program, *map(str, argv)],
            cwd=cwd,
            env={**self.environment, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def close(self) -> None:
        """End all of its programs, and the server; wait for that."""
        self._control("-k")
        self._control("-w")

    def _control(self, option: str) -> None:
        subprocess.run(
            [self._server, option],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,  # -k fails where nothing runs
        )
