"""The log is short unless more is asked for, and has colours where pytest has them."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_member
from projects import EXITS, QUICK

if TYPE_CHECKING:
    from projects import Project

HANGS = """
    import threading
    def wait(): threading.Event().wait()
    def also(): threading.Event().wait()
    def test_hang():
        for work in (wait, also, wait):
            threading.Thread(target=work, daemon=True).start()
        wait()
"""
ARGUMENTS = (*QUICK, "--gencore-timeout=1", *EXITS)
MORE = re.compile(r"^\.\.\. \d+ more lines in stacks\.txt; -v shows them here$", re.MULTILINE)
IN_TERMINAL = (sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])")


def find_answer(text: str) -> list[str]:
    match = re.search(
        r"^(?:gencore: )?waits for .*?(?=\n(?:gencore: core|=))", text, re.MULTILINE | re.DOTALL
    )
    assert match, text
    return match[0].splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("worker", [(), ("-n1",)])
def test_more_with_v(project: Project, worker: tuple[str, ...]) -> None:
    project.write(test_a=HANGS)

    brief, whole = project.run(*ARGUMENTS, *worker), project.run(*ARGUMENTS, *worker, "-v")

    short, long = (find_answer(ended.out if worker else ended.err) for ended in (brief, whole))
    assert len(short) <= 16 < len(long)
    assert MORE.fullmatch(short[-1])
    assert not MORE.search("\n".join(long))
    assert short[0].startswith(long[0])
    assert any("in test_hang" in line for line in short)
    archives = project.find_archives()
    (text,) = [path for path in archives[0].parent.glob("*.txt") if MORE.search(path.read_text())]
    assert text.read_text().count("in also\n") == 1, "what the log leaves out is beside the archive, too"
    assert b"in also\n" in read_member(archives[0], "stacks.txt")


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["auto", "no"])
def test_colours(project: Project, colour: str) -> None:
    project.write(test_a=HANGS)

    ended = project.start(
        *ARGUMENTS, f"--color={colour}", prefix=IN_TERMINAL, environment={"TERM": "xterm"}
    ).end()

    before, after = ("\x1b[1m\x1b[31m", "\x1b[0m") if colour == "auto" else ("", "")
    assert f"\n{before}gencore: waits for an event, not set{after}\n" in ended.out.replace("\r\n", "\n")
    (text,) = project.only_archive().parent.glob("*.txt")
    assert "\x1b" not in text.read_text()
