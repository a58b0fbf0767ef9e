"""Tests that wait until they are cancelled, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel import wait_until

if TYPE_CHECKING:
    import signal

    from projects import Project, Running

WAITS = """
    import os, pathlib, queue, sys, threading, time
    def say_when_it_waits(path):
        main = threading.get_ident()
        def look():
            while True:
                frame = sys._current_frames()[main]
                if (frame.f_code.co_name, frame.f_back.f_code.co_name) == ("wait", "get"):
                    break  # not that of start()
                time.sleep(0.005)
            pathlib.Path(path).touch()
        threading.Thread(target=look, daemon=True).start()
"""
HANG = f"""
    {WAITS}
    def test_one(): pass
    def test_two(): pass
    def test_hang():
        say_when_it_waits("here")
        queue.Queue().get()
"""
GIL_HELD = """
    import itertools, pathlib
    def test_hang():
        pathlib.Path("here").touch()
        sum(itertools.repeat(0))  # no signal ends it
"""


def cancel(project: Project, running: Running, number: signal.Signals) -> None:
    """Send a signal when the test, or what hangs before it, has said that it is there."""
    wait_until((project.folder / "here").exists, "the test runs")
    running.process.send_signal(number)
