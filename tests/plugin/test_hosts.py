"""Workers on another host: their archives come home, or it is said where they are."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from far_host import FAR_ADDRESS
from gencore_archives import is_complete, read_manifest
from junit_file import read_junit
from kernel import wait_until
from other_hosts import (
    ASKS,
    CRASHES,
    FAILS,
    HANGS,
    IS_LARGE,
    end_connections,
    has_begun,
    kept,
    send,
)
from process_state import processes_in
from projects import ARTIFACTS, QUICK

if TYPE_CHECKING:
    from pathlib import Path

    from other_hosts import Hosts
    from projects import Project

pytestmark = [needs("another host"), pytest.mark.slow]

COUNTS_CONNECTIONS = """
    import sys
    def pytest_terminal_summary(terminalreporter):
        names = [name for name in sys.modules if name.startswith("pytest_gencore.hosts")]
        terminalreporter.write_line(f"modules of ours for other hosts: {len(names)}")
"""


def test_archives_come_home(hosts: Hosts, tmp_path: Path) -> None:
    hosts.project.write(test_a="".join(map(textwrap.dedent, (FAILS, HANGS, CRASHES))))
    copies = tmp_path / "copies"
    with kept(hosts.there, copies):
        ended = hosts.start("--junitxml=j.xml", "-o", "gencore_libraries=once").end()
    assert ended.counts()["failed"] == 3
    archives = sorted(hosts.home.glob("core_*.tar.gz"))
    names = {read_manifest(path)["nodeid"] for path in archives}
    assert names == {f"near/test_a.py::test_{name}" for name in ("fails", "hangs", "crashes")}
    (libraries,) = hosts.home.glob("libraries_*")
    for path in (libraries, *archives):
        assert path.read_bytes() == (copies / path.name).read_bytes()
    for path in archives:
        assert path.with_name(path.name.replace(".tar.gz", ".txt")).exists()
        assert f"{hosts.project.shown(path)}  " in ended.out, "in the summary"
    attached = [path for case in read_junit(hosts.project.folder / "j.xml") for path in case.attachments]
    assert sorted(attached) == list(map(str, archives))
    assert len(re.findall(r"core archive: gencore-artifacts/core_", ended.out)) == 3, "in the reports"
    assert str(hosts.there) not in ended.out
    assert not hosts.there.exists(), "nothing is left there"


def test_the_connection_breaks(hosts: Hosts) -> None:
    """While an archive is on its way."""
    hosts.project.write(test_a=IS_LARGE)
    running = hosts.start("--junitxml=j.xml")
    wait_until(lambda: has_begun(running.process.pid, hosts.home), "an archive is on its way")
    end_connections(running)
    ended = running.end()
    assert ended.counts()["failed"] == 1
    (archive,) = [name for name in hosts.find_there() if name.endswith(".tar.gz")]
    place = f"far:{hosts.there / archive}"
    assert f"no core archive: the archive stays at {place}: the connection ended" in ended.out
    assert [name for name in hosts.find_home() if not name.endswith(".txt")] == []
    assert is_complete(hosts.there / archive)
    assert not [name for name in hosts.find_there() if name.startswith(".")]
    cases = read_junit(hosts.project.folder / "j.xml")
    assert [case.attachments for case in cases] == [()]


def test_an_interrupt_while_it_comes(hosts: Hosts) -> None:
    """All processes of the run hear Ctrl-C: what comes is waited for, as what is written here."""
    hosts.project.write(test_a=IS_LARGE)
    running = hosts.start()
    assert running.process.stdout is not None
    lines = iter(running.process.stdout.readline, "")
    assert any("writing core archives" in line for line in lines), "the workers have ended"
    wait_until(lambda: has_begun(running.process.pid, hosts.home), "an archive is on its way")
    os.killpg(running.process.pid, signal.SIGINT)
    assert "interrupted: archives finished: 0, still being written: 1" in running.end().out
    (archive,) = hosts.project.archives().values()
    assert is_complete(archive)
    assert not hosts.there.exists()


def test_nothing_is_left_without_captures(hosts: Hosts) -> None:
    hosts.project.write(test_a="def test_passes(): pass")
    ended = hosts.start().end()
    assert ended.counts()["passed"] == 1
    assert "= gencore =" not in ended.out
    assert (hosts.find_home(), hosts.there.exists(), hosts.home.exists()) == ([], False, False)


def test_the_controller_is_killed(hosts: Hosts) -> None:
    hosts.project.write(test_a=IS_LARGE)
    running = hosts.start()
    wait_until(lambda: has_begun(running.process.pid, hosts.home), "an archive is on its way")
    running.kill()
    wait_until(lambda: not processes_in(hosts.far.folder), "nothing runs there")
    names = [name for name in hosts.find_home() if not name.endswith(".txt")]
    assert [name for name in names if not name.startswith(".gencore-")] == []
    (archive,) = [name for name in hosts.find_there() if name.endswith(".tar.gz")]
    assert is_complete(hosts.there / archive)
    assert not [name for name in hosts.find_there() if name.startswith(".")]


def test_the_disk_is_full_there(hosts: Hosts) -> None:
    hosts.project.write(test_a=IS_LARGE)
    hosts.far.run("mkdir", "-p", str(hosts.there))
    hosts.far.run("mount", "-t", "tmpfs", "-o", "size=2m", "none", str(hosts.there))
    ended = hosts.start().end()
    assert ended.counts()["failed"] == 1
    assert re.search(r"no core archive: the disk is .*full: .* \(on far\)", ended.out)
    assert not [name for name in hosts.find_home() if not name.endswith(".txt")]
    assert hosts.far.run("find", str(hosts.there), "-name", "*.gz*") == ""


def test_the_disk_is_full_here(hosts: Hosts) -> None:
    hosts.project.write(test_a=FAILS)
    hosts.home.mkdir()
    listing = hosts.project.folder.parent / "listing"
    script = f'mount -t tmpfs -o size=128k none {hosts.home} && "$@"; find {hosts.home} -type f >{listing}'
    ended = hosts.start(prefix=("unshare", "--mount", "sh", "-c", script, "sh")).end()
    (archive,) = [name for name in hosts.find_there() if name.endswith(".tar.gz")]
    place = f"far:{hosts.there / archive}"
    assert f"the archive stays at {place}: No space left on device" in ended.out
    assert [name for name in listing.read_text().split() if not name.endswith(".txt")] == []


def test_the_directory_is_the_same(hosts: Hosts, tmp_path: Path) -> None:
    """As on a file system that both hosts have mounted: nothing has to be sent."""
    hosts.project.write(test_a=FAILS)
    shared, copies = tmp_path / "shared", tmp_path / "copies"
    with kept(shared, copies):
        ended = hosts.start(f"--gencore-dir={shared}").end()
    (archive,) = shared.glob("*.tar.gz")
    assert archive.samefile(copies / archive.name)
    assert f"{archive}  " in ended.out
    assert not [path for path in shared.iterdir() if path.name.startswith(".")]


def test_through_another_gateway(hosts: Hosts) -> None:
    hosts.project.write(test_a=ASKS)
    there = hosts.far.folder / "other"
    ended = hosts.start(f"--px=id=way//{hosts.far.spec}", spec=f"popen//via=way//chdir={there}").end()
    (archive,) = hosts.project.archives().values()
    assert f"{hosts.project.shown(archive)}  " in ended.out
    assert not (there / ARTIFACTS).exists()


def test_a_server_of_sockets(hosts: Hosts) -> None:
    """It serves one connection at a time: archives come when the worker has ended."""
    hosts.project.write(test_a=FAILS)
    address = f"{FAR_ADDRESS}:8888"
    command = [sys.executable, "-m", "execnet.script.socketserver", address]
    with subprocess.Popen([*hosts.far.enter, *command], cwd=hosts.far.folder) as server:
        try:
            hosts.far.wait_for_port(8888)
            ended = hosts.start(spec=f"socket={address}").end()
        finally:
            server.kill()
    assert ended.counts()["failed"] == 1
    (archive,) = hosts.project.archives().values()
    assert f"{hosts.project.shown(archive)}  " in ended.out
    assert not hosts.there.exists()


def test_another_directory_is_this_host(project: Project) -> None:
    """Without a connection of ours."""
    project.write(test_a=FAILS, conftest=COUNTS_CONNECTIONS)
    base = (*send(project), f"--tx=popen//chdir={project.folder}/other")
    tests = str(project.folder / "test_a.py")
    ended = project.start(*QUICK, *base, "-p", "no:rerunfailures", tests).end()
    assert "modules of ours for other hosts: 0" in ended.out
    (archive,) = project.archives().values()
    assert f"{project.shown(archive)}  " in ended.out
    assert not (project.folder / "other" / ARTIFACTS).exists()
