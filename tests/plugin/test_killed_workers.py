"""Workers that die of SIGKILL: out of memory, or killed by somebody; each with its evidence."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from memory_cgroup import memory_cgroup
from projects import QUICK, Project

from pytest_gencore.machine.oom import Sample, describe_kill, take_sample

if TYPE_CHECKING:
    from pathlib import Path

GROWS = """
    import time
    def test_grows():
        held = []
        while True:
            held.append(bytearray(b"x" * (8 << 20)))
            time.sleep(0.01)
"""
KILLED = """
    import os, subprocess
    def test_killed():
        subprocess.run(["kill", "-9", str(os.getpid())])
"""


@needs("memory_cgroup")
@pytest.mark.parametrize("source", [GROWS, KILLED], ids=["out of memory", "killed"])
def test_in_a_cgroup(project: Project, source: str) -> None:
    project.write(test_a=source)

    with memory_cgroup(400 << 20) as folder:
        join = ("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh")
        ended = project.run(*QUICK, "-n1", "--max-worker-restart=0", prefix=join)

    assert ended.counts()["failed"] == 1
    assert ("the worker: out of memory (evidence: " in ended.out) == (source is GROWS)
    text = "the worker: killed from outside or by itself, not for want of memory (evidence: the kernel has"
    assert (text in ended.out) == (source is KILLED)
    assert "it and its children had " in ended.out


def test_evidence(tmp_path: Path) -> None:
    """What cannot be read is no evidence."""
    sample = take_sample(os.getpid())
    assert sample.used_bytes > 1 << 20
    assert describe_kill(2**22, Sample()).endswith("whether memory was short is not known")
    counter = tmp_path / "memory.events"
    counter.write_text("oom 4\noom_kill 3\n")
    assert "has killed no process" in describe_kill(2**22, Sample({str(counter): 3, "/proc/vmstat": 10**9}))
    text = describe_kill(2**22, Sample({str(counter): 1}, 3 << 20))
    assert text == (
        f"out of memory (evidence: the kernel has just killed 2 processes for want of memory: {counter}; "
        "it and its children had 3.0 MiB shortly before)"
    )
    machine = {"/proc/vmstat": -1}  # somewhere on the machine it was short
    assert "whether it was this one is not known" in describe_kill(2**22, Sample(machine))
    own = str(counter)
    assert describe_kill(2**22, Sample({own: 3, **machine}, own=own)) == (
        "killed from outside or by itself, not for want of memory "
        "(evidence: the kernel has killed no process of its cgroup for want of memory)"
    )
