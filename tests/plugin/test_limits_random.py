"""Lack of everything at random: runs end in time, with the verdict they have without us, and say the truth.

``GENCORE_LIMIT_CASES`` is the number of cases, ``GENCORE_LIMIT_SEED`` the first one.
"""

from __future__ import annotations

import gzip
import os
import time
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest
from kernel import settings_lock
from limit_cases import Injector, applied, make_case, untrue
from process_state import processes_in
from projects import Ended, Project, show

if TYPE_CHECKING:
    from pathlib import Path

COUNT = int(os.environ.get("GENCORE_LIMIT_CASES", "6"))
FIRST = int(os.environ.get("GENCORE_LIMIT_SEED", "1"))
SECONDS = 100
"""A crashed process alone waits a minute for a collector that is stopped."""
LATER_SECONDS = 40
FORBIDDEN = (
    "out of memory",
    "bug in pytest-gencore",
    "unexpected ",
    'Traceback (most recent call last):\n  File "<',
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_limits(tmp_path: Path, seed: int) -> None:
    case = make_case(seed)
    print(case)
    project = Project(tmp_path)
    project.write(test_a=case.source)
    tmp_path.chmod(0o777)
    with settings_lock(exclusive=False), applied(case, tmp_path) as (prefix, more):
        plain = [argument for argument in case.arguments if "gencore" not in argument]
        expected = run(project, "-p", "no:gencore", *plain, prefix=prefix)
        arguments = ("-p", "short_patience", "--gencore-on-fail", *case.arguments, *more)
        began = time.monotonic()
        with Injector(case, tmp_path):
            ended = run(project, *arguments, pystack=seed % 2 == 0, prefix=prefix)
            print(f"ended after {time.monotonic() - began:.1f} s, {expected.status}, {ended.status}")
        later = time.monotonic()
        again = project.run("--gencore-on-fail", "--gencore-dir=later", timeout=LATER_SECONDS)
        print(f"later run: {time.monotonic() - later:.1f} s, {again.status}")
        wait_for_collectors(tmp_path)
        archives = [*tmp_path.glob("gencore-artifacts/*.gz"), *tmp_path.glob("disk/out/*.gz")]
        for archive in archives:
            assert read_manifest(archive)["complete"]
            with gzip.open(archive) as file:
                while file.read(1 << 20):
                    pass
    text = ended.out + ended.err
    if not any(_ran_out_of_descriptors(run.out) for run in (ended, expected)):
        assert ended.status == expected.status
        assert verdict(ended.out) == verdict(expected.out)
    assert untrue(text, case.causes) == []
    for words in FORBIDDEN:
        assert words not in text or words in expected.out + expected.err
    named = {
        line.split()[0] for line in text.splitlines() if ".tar.gz  " in line and "core archive:" not in line
    }
    assert {name.rpartition("/")[2] for name in named} <= {path.name for path in archives}


def _ran_out_of_descriptors(out: str) -> bool:
    """Whether pytest-xdist itself did when it replaced a worker: with so few that is a matter of moments."""
    return "_clone_node" in out and "INTERNALERROR> OSError: [Errno 24] Too many open files" in out


def run(project: Project, *arguments: str, pystack: bool = False, prefix: tuple[str, ...]) -> Ended:
    """Run pytest to its end, which may be an internal error of pytest or of another plugin."""
    process = project.start(*arguments, pystack=pystack, prefix=prefix).process
    out, err = process.communicate(timeout=SECONDS)
    show(out, err)
    return Ended(process.returncode, out, err, project.folder)


def wait_for_collectors(folder: Path) -> None:
    """Wait until nothing works there."""
    deadline = time.monotonic() + 60
    while (left := processes_in(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def verdict(out: str) -> list[str]:
    """Return the last line without its time; empty if the run did not come to it."""
    lines = [line for line in out.splitlines() if " in " in line and line.startswith("=")]
    return [lines[-1].partition(" in ")[0].strip("= ")] if lines else []
