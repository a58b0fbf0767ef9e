"""The captures that a process without the extension tells its helper, read at once: it must not wait."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.run.portable import is_over

if TYPE_CHECKING:
    from typing import BinaryIO

_HEAD_LIMIT: Final = 20
_TOUCH_SECONDS: Final = 10.0
"""Much less than what a silent helper is given."""


class ToldCaptures:
    """Those that were told and not yet taken; whoever waits for them must not think that nobody is there."""

    def __init__(self) -> None:
        self._all: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._waiting: list[Path] = []
        """Their state files."""
        self._taken: Path | None = None
        """That of the capture which was taken last."""

    def start(self, stream: BinaryIO) -> None:
        """Begin to read, and to touch the state files of what waits."""
        threading.Thread(target=self.read, args=(stream,), daemon=True).start()
        threading.Thread(target=self._touch_always, daemon=True).start()

    def read(self, stream: BinaryIO) -> None:
        """Read until the stream ends."""
        with contextlib.suppress(ValueError):
            while head := stream.readline(_HEAD_LIMIT):
                size = int(head)
                data = stream.read(size)
                if len(data) == size:  # else it died in the middle
                    told = json.loads(data)
                    self._waiting.append(Path(told["state_file"]))
                    self._all.put(told)
        self._all.put(None)

    def take(self) -> dict[str, Any] | None:
        """Wait for the next one, None: there will be none."""
        told = self._all.get()
        if told is not None:
            self._taken = self._waiting.pop(0)
            _touch(self._taken)
        return told

    def touch(self) -> None:
        """Say that those which wait will be written, unless the one before them hangs."""
        if self._taken is None or not is_over(self._taken):
            for state_file in list(self._waiting):
                _touch(state_file)

    def _touch_always(self) -> None:
        while True:
            threading.Event().wait(_TOUCH_SECONDS)
            self.touch()


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(path)
