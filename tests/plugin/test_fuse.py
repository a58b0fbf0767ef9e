"""Artifact directories on a FUSE file system."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import find_left
from kernel import wait_until
from process_state import processes_in
from projects import QUICK, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [needs("root", "bindfs"), pytest.mark.timeout(120)]


@contextlib.contextmanager
def bindfs(folder: Path, *options: str) -> Iterator[Path]:
    """Mount an empty folder."""
    source, place = folder / "source", folder / "mounted"
    source.mkdir()
    place.mkdir()
    subprocess.run(["bindfs", *options, source, place], check=True, timeout=30)
    try:
        yield place
    finally:
        wait_until(lambda: not processes_in(place), "nothing uses the file system", timeout=60)
        subprocess.run(["umount", place], check=True, timeout=30)


@pytest.mark.parametrize("end", ["assert 0", "ctypes.string_at(8)"], ids=["fails", "crashes"])
def test_nothing_is_left_but_the_archive(tmp_path: Path, end: str) -> None:
    """A file that is open when it is removed stays there under another name."""
    project = Project(tmp_path)
    project.write(test_a=f"import ctypes\ndef test_x(): {end}\n")
    with bindfs(tmp_path) as place:
        project.run(*QUICK, f"--gencore-dir={place}/out")
        wait_until(lambda: not processes_in(place), "the collector has ended", timeout=60)

        def are_alone() -> bool:
            return [path.name[-7:] for path in find_left(place / "out")] == [".tar.gz"]

        # FUSE learns of the last close a moment after it: nobody waits for its answer to RELEASE.
        wait_until(are_alone, "nothing but the archive is left", timeout=10)


def test_list_of_tests_that_cannot_be_mapped(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(test_a="import os\ndef test_x(): pass\ndef test_dies(): os.kill(os.getpid(), 9)\n")
    with bindfs(tmp_path, "-o", "direct_io") as place:
        assert project.run(*QUICK, f"--gencore-dir={place}/out").status == -9
        said = project.gencore("list", place / "out").err
    assert "the last test that began: test_a.py::test_dies, at " in said


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(
    ("options", "run_says", "check_says"),
    [
        (("-u", "1234"), "belongs to another user", "it belongs to user 1234"),
        (("-p", "a=rwX"), "is open to other users", "its mode is 0777"),
    ],
    ids=["owner", "mode"],
)
def test_folder_that_cannot_be_private(
    tmp_path: Path, options: tuple[str, ...], run_says: str, check_says: str
) -> None:
    project = Project(tmp_path)
    project.write(test_a="def test_x(): assert 0\n")
    with bindfs(tmp_path, *options) as place:
        ended = project.run(*QUICK, f"--gencore-dir={place}/out")
        checked = project.gencore("check", f"{place}/out")

    reason = f"no private folder in {place}/out: the one that is there {run_says}"
    assert f"failed: {reason} (choose another directory with --gencore-dir)\n" in ended.out
    assert ended.counts() == {"failed": 1}
    assert f"a new folder in {place}/out is not private: {check_says}\n" in checked.out
    assert checked.status == 1
