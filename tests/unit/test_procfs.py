"""What ``/proc`` says of a process, which may have had a hand in it."""

from __future__ import annotations

import subprocess
import sys

from pytest_gencore.collector.source.procfs import read_process_facts


def test_command_line_is_read_as_far_as_a_core_has_it() -> None:
    """A process can make it as long as its memory is."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()", "x" * 100_000],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the new program runs
        facts = read_process_facts(process.pid, process.pid)
        process.communicate(b"\n", timeout=60)

    assert facts.command_line.startswith(sys.executable.encode() + b"\0-c\0")
    assert 80 <= len(facts.command_line) <= 4096
