"""What ``/proc`` says of a process, which may have had a hand in it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pytest_gencore.collector.source.procfs import parse_mappings, read_process_facts


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


@pytest.mark.parametrize(
    ("path", "flags", "is_device", "is_left_out"),
    [
        ("/dev/nvidia0", "rd wr sh mr mw ms pf io dc de dd", True, True),
        ("/dev/dri/renderD128", "rd wr sh mr mw ms pf de", True, True),
        ("[vvar]", "rd mr pf io de dd", False, True),
        ("", "rd wr mr mw me dd ac", False, True),
        ("/dev/zero", "rd wr mr mw me ac", False, False),
    ],
)
def test_what_is_never_read(path: str, flags: str, is_device: bool, is_left_out: bool) -> None:
    text = f"7f0000000000-7f0000001000 rw-s 00000000 00:06 412 {path}\nSize: 4 kB\nVmFlags: {flags} \n"

    (mapping,) = parse_mappings(text.encode())

    assert (mapping.is_device, mapping.is_left_out) == (is_device, is_left_out)
