"""How another host is named and reached."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from execnet import XSpec
from kernel import wait_until

from pytest_gencore.hosts.connection import Connection, make_quiet
from pytest_gencore.plugin.hosts import find_way, name_host

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("ssh=bob@host", "bob@host"),
        ("ssh=-p 2222 -o User=bob host", "host"),
        ("ssh=host -p 2222", "host"),
        ("ssh=host -l bob -C", "host"),
        ("ssh=host --", "host"),
        ("vagrant_ssh=box", "box"),
        ("socket=10.0.0.1:8888", "10.0.0.1:8888"),
        ("id=gw0//socket//installvia=way", "socket//installvia=way"),
        ("popen//id=gw0//python=docker exec web python", "popen//python=docker exec web python"),
    ],
)
def test_what_people_call_a_host(spec: str, name: str) -> None:
    assert name_host(XSpec(spec)) == name


def test_the_way_to_a_host() -> None:
    one, two = "id=one//ssh=one", "ssh=two//via=one//id=two"
    assert find_way([two, "id=three//ssh=x", one], "two") == [one, two]
    assert find_way([one], None) == []
    assert find_way([one], "unknown") == []
    assert find_way(["id=a//via=a//popen"], "a") == ["id=a//via=a//popen"]


def test_ssh_asks_nobody() -> None:
    """pytest has the terminal."""
    spec = XSpec(make_quiet("id=gw0//ssh=-p 22 host//python=ssh=x"))
    assert str(spec.ssh).startswith("-o BatchMode=yes ")
    assert str(spec.ssh).endswith(" -p 22 host")
    assert spec.python == "ssh=x"
    assert make_quiet("popen//chdir=x") == "popen//chdir=x"


SSH = """#!/bin/sh
trap 'kill $!; exit 255' TERM
sleep 600 >/dev/null 2>&1 </dev/null &
echo $$ >{started}
wait
"""


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # execnet leaves the pipes of such a process open
def test_a_connection_that_is_being_made_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process has said nothing yet: execnet does not know it."""
    started = tmp_path / "pid"
    (tmp_path / "ssh").write_text(SSH.format(started=started))
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    taken: list[Any] = []
    connection = Connection(["ssh=nowhere"], [], taken.append)
    connection.open("start")
    wait_until(lambda: started.exists() and started.read_text().endswith("\n"), "it is started")
    pid = int(started.read_text())
    assert psutil.pid_exists(pid)
    connection.close()
    assert connection._thread is not None
    connection._thread.join(30)
    gc.collect()
    assert [message[0] for message in taken] == ["refused"]
    wait_until(lambda: not is_running(pid), "its process has ended")


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
