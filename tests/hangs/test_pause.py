"""How long threads stand: until the archive of a dying process is finished, else much shorter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gencore_archives import read_manifest
from projects import QUICK

if TYPE_CHECKING:
    from projects import Project


def test_the_pause_of_a_held_process(project: Project) -> None:
    """The threads of a dying process stand until its archive is finished."""
    project.write(test_a="import ctypes\ndef test_x(): ctypes.string_at(8)")

    project.run(*QUICK)

    archive = project.only_archive()
    timings = read_manifest(archive)["timings"]
    assert timings["pause_ms"] > 1000 * timings["collect_s"]
    assert timings["held"] is True
    shown = project.gencore("show", archive).out
    seconds = f"{timings['pause_ms'] / 1000:.1f} s"
    assert f"threads were held until the archive was finished, {seconds}" in shown


def test_the_pause_of_a_process_that_goes_on(project: Project) -> None:
    project.write(test_a="def test_x(): assert False")

    project.run(*QUICK)

    timings = read_manifest(project.only_archive())["timings"]
    assert timings["pause_ms"] < 1000 * timings["collect_s"]
    assert timings["held"] is False
