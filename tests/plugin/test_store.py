"""``--gencore-store``: archives of many machines in one place."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from capabilities import needs
from projects import ARTIFACTS, Ended, Project
from s3_server import SECRET, S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = ("--gencore-on-fail", "--gencore-type=text", "--junitxml=j.xml")
BAD = """
    import pytest
    @pytest.mark.parametrize("number", range(3))
    def test_bad(number): assert number < 0
"""
WITNESS = """
    import json, os, sys
    def pytest_unconfigure():
        with open(f"modules-{os.getpid()}.json", "w") as file:
            ours = {"fsspec", "s3fs", "botocore"}
            json.dump([name for name in sys.modules if name.split(".")[0] in ours], file)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    """Return an S3 server with an empty bucket."""
    server = S3Server(tmp_path / "served")
    yield server
    server.kill()


def find_urls(junit: Path) -> list[str]:
    found = ET.parse(junit).getroot().iterfind(".//property")
    return [entry.get("value", "") for entry in found if entry.get("name") == "gencore_url"]


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [("-n2",), ()], ids=["xdist", "local"])
def test_a_folder(project: Project, tmp_path: Path, workers: tuple[str, ...]) -> None:
    """What is there is what is here; nothing of fsspec is in a process that runs tests."""
    project.write(test_a=BAD, conftest=WITNESS)
    (project.folder / "pytest.ini").write_text(f"[pytest]\ngencore_store = file://{tmp_path}/store/\n")

    ended = project.run(*TEXT, "--gencore-html=on", *workers)

    assert ended.status == 1
    kept = {path.name: path.read_bytes() for path in (project.folder / ARTIFACTS).iterdir()}
    (run,) = (tmp_path / "store").iterdir()
    assert len(kept) == 9
    urls = {path: f"file://{run}/{path.name}" for path in project.find_archives()}
    for path, url in urls.items():  # what is there lies beside it
        text = f"{path.name.removesuffix('.tar.gz')}.txt"
        assert kept[text].endswith(f"\nuploaded: {url}\n".encode())
        kept[text] = kept[text].removesuffix(f"\nuploaded: {url}\n".encode())
    assert {path.name: path.read_bytes() for path in run.iterdir()} == kept
    assert all(path.stat().st_mode & 0o077 == 0 for path in (run, *run.iterdir()))
    assert set(find_urls(project.folder / "j.xml")) == set(urls.values())
    assert set(re.findall(r"^  uploaded: (\S+)$", ended.out, re.MULTILINE)) == set(urls.values())
    assert set(re.findall(r"^uploaded: (\S+)$", ended.out, re.MULTILINE)) == set(urls.values())
    witnesses = list(project.folder.glob("modules-*.json"))
    assert [json.loads(path.read_text()) for path in witnesses] == [[]] * (1 + 2 * len(workers))
    for page in (project.folder / ARTIFACTS).glob("*.html"):
        page.unlink()


TITLE = """
    import ctypes, os
    for name, value in os.environ.items():
        os.putenv(name, value)
    with open("/proc/self/stat") as file:
        start, end = map(int, file.read().rpartition(")")[2].split()[47:49])
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, b"title=1", 7)
    with open("/proc/self/environ") as file:
        assert file.read().strip(chr(0)) == "title=1"
"""
"""What setproctitle does to the environment that a process began with: see proc(5), ``env_start``."""


@needs("s3")
@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("conftest", [TITLE, ""], ids=["title", "plain"])
def test_s3(project: Project, server: S3Server, conftest: str) -> None:
    project.write(test_a=BAD, conftest=conftest)
    ended = project.run(*TEXT, "--gencore-store=s3://bucket/team", environment=server.environment)
    assert ended.status == 1
    kept = {path.name: path.stat().st_size for path in project.find_archives()}
    objects = server.find_objects()
    assert len(objects) == 6
    found = {key.rpartition("/")[2]: size for key, size in objects.items() if key.endswith(".tar.gz")}
    assert found == kept
    urls = {f"s3://bucket/{key}" for key in objects if key.endswith(".tar.gz")}
    assert len(urls) == 3
    assert set(find_urls(project.folder / "j.xml")) == urls


@needs("s3")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "store", "why"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "s3://bucket/x", "access is denied: *"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "s3://bucket/x",
            "Unable to locate credentials",
        ),
        ({}, "s3://nowhere/x", "it is not there: *"),
    ],
    ids=["wrong", "none", "bucket"],
)
def test_no_way_in(project: Project, server: S3Server, wrong: dict[str, str], store: str, why: str) -> None:
    """It is said once, all archives stay, and no verdict changes."""
    project.write(test_a=BAD)
    environment = {name: value for name, value in {**server.environment, **wrong}.items() if value}
    ended = project.run(*TEXT, f"--gencore-store={store}", environment=environment)
    check_refused(project, ended, store, why)
    assert SECRET not in ended.out + ended.err
    assert not server.find_objects()


HURRY = """
    from pytest_gencore.capture import start
    hurry = "from pytest_gencore.collector.outcome import upload as u; u.{} = {}; "
    start._START = start._START.replace("from {{module}} import", hurry + "from {{module}} import")
"""
"""A conftest: a limit of the collectors is another one."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("_STALL_SECONDS = u._HURRY_SECONDS", "the store took no further part within 2 s"),
        ("_PATIENCE_SECONDS", "Could not connect to the endpoint URL: *"),
    ],
    ids=["silent", "gone"],
)
def test_a_server_that_never_returns(project: Project, limit: str, why: str) -> None:
    """It is said once, all archives stay, no verdict changes, and the run ends."""
    project.write(test_a=BAD, conftest=HURRY.format(limit, 2.0))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if limit != "_PATIENCE_SECONDS":
            server.listen()  # and nobody ever reads
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        environment = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        ended = project.run(*TEXT, "--gencore-store=s3://bucket/x", environment=environment)
    check_refused(project, ended, "s3://bucket/x", why)


def check_refused(project: Project, ended: Ended, store: str, why: str) -> None:
    assert ended.status == 1
    assert "3 failed" in ended.out
    (line,) = [line for line in ended.out.splitlines() if "not uploaded" in line]
    reason = re.escape(why).replace(r"\*", ".*")
    assert re.fullmatch(rf"not uploaded to {store}: {reason} \(3 of 3 archives are not there\)", line)
    assert len(project.find_archives()) == 3
    assert not find_urls(project.folder / "j.xml")


@needs("s3")
@pytest.mark.slow
def test_a_crash_without_a_way_in(project: Project, server: S3Server) -> None:
    project.write(test_a="import os\ndef test_bad(): os.abort()\n")
    ended = project.run(*TEXT, "--gencore-store=s3://nowhere/x", environment=server.environment)
    assert "gencore: not uploaded to s3://nowhere/x: it is not there: " in ended.err
    assert not find_urls(project.folder / "j.xml")
    assert project.only_archive().is_file()


@needs("s3")
def test_a_crash(project: Project, server: S3Server) -> None:
    """Nobody is there to show a summary: the collector says where the archive is."""
    project.write(test_a="import os\ndef test_bad(): os.abort()\n")
    ended = project.run(*TEXT, "--gencore-store=s3://bucket/x", environment=server.environment)
    (key,) = [key for key in server.find_objects() if key.endswith(".tar.gz")]
    assert find_urls(project.folder / "j.xml") == [f"s3://bucket/{key}"]
    assert f"gencore: uploaded: s3://bucket/{key}\n" in ended.err


@pytest.mark.slow
def test_a_dead_worker(project: Project, tmp_path: Path) -> None:
    """Its report is written before the upload has ended, the junit file after it."""
    project.write(test_a="import os\ndef test_bad(): os.abort()\n")
    project.run(*TEXT, f"--gencore-store=file://{tmp_path}/store", "-n1")
    (run,) = (tmp_path / "store").iterdir()
    assert find_urls(project.folder / "j.xml") == [f"file://{run}/{project.only_archive().name}"]
