"""Chromium without a window: what it makes of a page, what it shows, what assistive technology is told."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_SECONDS = 120


def _command(profile: Path, *more: str) -> list[str]:
    browser = shutil.which("chromium")
    assert browser is not None
    # Without a sandbox: with one it does not start as root.
    return [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *more]


def browse(folder: Path, page: str) -> tuple[str, list[str]]:
    """Return the document that Chromium makes of a page, and what it says on its console."""
    path = folder / "page.html"
    path.write_text(page)
    command = _command(folder / "profile", "--enable-logging=stderr", "--dump-dom", path.as_uri())
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
    return run.stdout, [line for line in run.stderr.splitlines() if "CONSOLE" in line]


def take_picture(page: Path, picture: Path, size: tuple[int, int], folder: Path) -> None:
    """Write a PNG of the first screen of a page; ``folder`` is for the browser's own files."""
    more = (
        "--hide-scrollbars",
        f"--window-size={size[0]},{size[1]}",
        f"--screenshot={picture}",
        page.as_uri(),
    )
    subprocess.run(_command(folder / "profile", *more), capture_output=True, check=True, timeout=_SECONDS)


def find_headings(page: Path, folder: Path) -> list[str]:
    """Return the names of the headings in the accessibility tree of a page.

    By the DevTools protocol over two pipes, https://chromedevtools.github.io/devtools-protocol/: messages are
    JSON, each ended by a zero byte; the browser reads from descriptor 3 and writes to 4.
    """
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    command = _command(folder / "profile", "--remote-debugging-pipe")
    script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    browser = subprocess.Popen(
        ["timeout", str(_SECONDS), "bash", "-c", script, "bash", *command],
        pass_fds=(theirs_in, theirs_out),
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    with os.fdopen(ours_in, "rb") as reads, os.fdopen(ours_out, "wb", buffering=0) as writes:
        talk = _Talk(reads, writes)
        target = talk.ask("Target.createTarget", url="about:blank")["targetId"]
        session = talk.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        talk.ask("Page.enable", session)
        talk.ask("Page.navigate", session, url=page.as_uri())
        talk.wait_for("Page.loadEventFired")
        nodes: Sequence[dict[str, Any]] = talk.ask("Accessibility.getFullAXTree", session)["nodes"]
        talk.ask("Browser.close")
    assert browser.wait(_SECONDS) == 0
    return [node["name"]["value"] for node in nodes if node.get("role", {}).get("value") == "heading"]


class _Talk:
    """Commands, their answers, and events."""

    def __init__(self, reads: Any, writes: Any) -> None:
        self._reads, self._writes = reads, writes
        self._count = 0
        self._events: list[str] = []

    def ask(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._writes.write(json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._count:
            self._events.append(answer.get("method", ""))
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def wait_for(self, event: str) -> None:
        while event not in self._events:
            self._events.append(self._read().get("method", ""))

    def _read(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._reads.read(1)) != b"\0":
            assert byte, "the browser has ended"
            data += byte
        message: dict[str, Any] = json.loads(data)
        return message
