"""Where the other host writes: in a directory of both, or as another user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from kernel import wait_until
from other_hosts import ASKS, CACHE, FAILS, end_connections
from projects import QUICK

if TYPE_CHECKING:
    from other_hosts import Hosts

pytestmark = [needs("another host"), pytest.mark.slow]


CRASHES_LATER = """
    import ctypes, pathlib, time
    def test_crashes():
        begun = pathlib.Path("begun")
        begun.touch()
        while begun.exists():
            time.sleep(0.05)
        ctypes.string_at(8)
"""
NO_LINKS = """
    import os
    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")
    os.link, os.O_TMPFILE = refuse, 0
"""
"""What some file systems of other kernels say."""


@pytest.mark.parametrize(
    ("options", "conftest"), [(QUICK, ""), (QUICK, NO_LINKS), ((), "")], ids=["armed", "no links", "fixture"]
)
def test_a_directory_of_both_under_another_path(
    hosts: Hosts, options: tuple[str, ...], conftest: str
) -> None:
    """As a container has it: its archives are here as soon as they are there."""
    hosts.project.write(test_a=FAILS if options else ASKS, conftest=conftest)
    near, work = str(hosts.project.folder), f"{hosts.far.folder}/work"
    hosts.far.run("mkdir", work)
    hosts.far.run("umount", near)
    hosts.far.run("mount", "--bind", near, work)
    hosts.far.run("mount", "-t", "tmpfs", "none", near)

    workers = ("-d", f"--tx={hosts.far.spec}//chdir={work}", "-p", "no:rerunfailures")
    ended = hosts.project.start(*options, *workers, pystack=True, prefix=hosts.far.prefix).end()

    assert ended.counts() == ({"failed": 1} if options else {"passed": 1})
    (archive,) = hosts.project.archives().values()
    assert f"{hosts.project.shown(archive)}  " in ended.out
    assert "\n1 captured\n" in ended.out


def test_a_crash_after_the_connection_broke(hosts: Hosts) -> None:
    """Nobody can look what was captured: where it would be is said."""
    hosts.project.write(test_a=CRASHES_LATER)
    running = hosts.start()
    begun = hosts.far.folder / CACHE / "begun"
    wait_until(begun.exists, "the test has begun")
    end_connections(running, slice(-1, None))
    begun.unlink()
    ended = running.end()
    assert ended.counts()["failed"] == 1
    assert f"(on far, in {hosts.there}, where nobody could look: the connection ended)" in ended.out
    wait_until(lambda: bool(list(hosts.there.glob("core_*.tar.gz"))), "the archive is there")
