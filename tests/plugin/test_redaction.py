"""No secret is in anything that is written; with --gencore-redact=off each is there, so the search finds."""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from typing import TYPE_CHECKING

import pytest
from gencore_archives import read_manifest, read_member
from oracles import run_tool
from projects import ARTIFACTS, EXITS, OPENED, QUICK, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PLACES = (
    *("ascii", "ucs2", "ucs4", "bytes", "freed", "thread", "printed", "shared", "memfd", "borders", "base64"),
    *("url", "json", "argument", "changed", "removed", "logged", "message", "environment", "assigned"),
)
VALUES = {place: f"{place}:{number:02}-Zq/{place[::-1]}+x7" for number, place in enumerate(PLACES)}
VALUES |= {"ucs2": "ucs2-Жuк-Zq/2scu+x7", "ucs4": "ucs4-😀-Zq/4scu+x7"}
MORE = {"hook": "from-the-hook-Zq/1", "DATABASE_URL": "db-passw0rd-Zq"}
TEST = """
    import base64, ctypes, faulthandler, json, logging, mmap, os, subprocess, sys, threading, time
    import urllib.parse
    import pytest

    def get(name):
        return os.environ[f"{name.upper()}_TOKEN"]

    def sleep(value):
        ready.set()
        time.sleep(1000)

    ready = threading.Event()
    held = []

    def plant(monkeypatch):
        held.append({name: get(name) for name in ("ascii", "ucs2", "ucs4")})
        held.append(get("bytes").encode())
        data = bytearray(get("freed").encode() * 500)  # what it leaves is not at the beginning
        del data
        threading.Thread(target=sleep, args=(get("thread"),), daemon=True).start()
        ready.wait()
        shared = mmap.mmap(-1, 4096)
        shared[100 : 100 + len(get("shared"))] = get("shared").encode()
        memory = os.memfd_create("a")
        os.ftruncate(memory, 4096)
        file = mmap.mmap(memory, 4096)
        file[100 : 100 + len(get("memfd"))] = get("memfd").encode()
        held.extend((shared, file))
        held.append(mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        value = get("borders").encode()
        held[-1][:] = (value * ((4 << 20) // len(value) + 1))[: 4 << 20]
        held.append([base64.b64encode(b"u" * n + get("base64").encode() + b":p") for n in range(3)])
        held.append(urllib.parse.quote_plus(get("url")))
        held.append(json.dumps({"token": get("json")}))
        command = [sys.executable, "-S", "-c", "import time; time.sleep(1000)", get("argument")]
        held.append(subprocess.Popen(command))
        held.append(get("removed") + "!")
        monkeypatch.delenv("REMOVED_TOKEN")
        monkeypatch.setenv("CHANGED_TOKEN", get("changed") + "-new")
        os.environ["ASSIGNED_API_KEY"] = os.environ.pop("ASSIGNED_TOKEN")
        logging.warning(get("logged"))
        held.append(os.environ["HOOK"])
        held.append(os.environ["DATABASE_URL"])

    def say():
        print("it is", get("printed"), file=sys.stderr)
        os.write(1, f"and {get('printed')}\\n".encode())

    @pytest.fixture
    def planted(monkeypatch):
        plant(monkeypatch)
        yield
        for thing in held:
            if isinstance(thing, subprocess.Popen):
                thing.kill()
                thing.wait()

    def test_fails(planted):
        local = get("message")
        say()
        raise ValueError(f"not with {local}")

    def test_crashes(planted):
        local = get("message")
        say()
        ctypes.string_at(8)

    def test_hangs(planted):
        local = get("message")
        say()
        time.sleep(1000)
"""
CONFTEST = """
    import os, subprocess

    def pytest_gencore_secrets(config):
        return [os.environ["HOOK"].encode()]
"""
ENVIRONMENT = {
    **{f"{place.upper()}_TOKEN": value for place, value in VALUES.items()},
    "HOOK": MORE["hook"],
    "DATABASE_URL": f"postgres://me:{MORE['DATABASE_URL']}@host/db",
    "SHORT_TOKEN": "abc",
}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    project.write(test_a=TEST, conftest=CONFTEST)
    yield project
    project.close()


def forms(value: str) -> set[bytes]:
    """Ways in which a value may be written; not those of the product, which has more."""
    raw = value.encode()
    encoded = [base64.b64encode(b"u" * before + raw + b":p") for before in range(3)]
    return {
        *(value.encode(codec) for codec in ("utf-8", "utf-16-le", "utf-32-le")),
        urllib.parse.quote_plus(value).encode(),
        json.dumps(value)[1:-1].encode(),
        *(text[4 : len(text) - 8] for text in encoded),
    }


def find(data: bytes) -> set[str]:
    """Return what of the secrets is there."""
    values = VALUES | MORE
    return {place for place, value in values.items() if any(form in data for form in forms(value))}


@pytest.mark.field
@pytest.mark.parametrize("redact", ["on", pytest.param("off", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("how", "method"),
    [
        ("fails", "memory"),
        *(
            pytest.param(how, method, marks=pytest.mark.slow)
            for how, method in (("fails", "kernel"), ("crashes", "memory"), ("hangs", "memory"))
        ),
    ],
)
def test_secrets(project: Project, how: str, redact: str, method: str) -> None:
    arguments = [*OPENED, "--gencore-filter=0x13", f"--gencore-method={method}", "-k", how]
    if redact == "off":
        arguments += ["-o", "gencore_redact=false"]
    if how == "hangs":
        arguments += ["--gencore-timeout=1", *EXITS]

    running = project.start(*arguments, "--junit-xml=junit.xml", environment=ENVIRONMENT)
    if how != "fails":
        running.process.wait(120)
        running.kill_group()  # the child has its output
    ended = running.end()

    archive = project.only_archive()
    manifest = read_manifest(archive)
    folder = project.unpack(archive)
    libraries = {folder / library["path"].lstrip("/") for library in manifest["libraries"]}
    members = [path for path in folder.rglob("*") if path.is_file() and path not in libraries]
    found = {place for path in members for place in find(path.read_bytes())}
    texts = ended.err.encode() + archive.with_name(f"{folder.name}.txt").read_bytes()
    if how != "fails":  # else pytest itself has written it, with what the test printed
        texts += (project.folder / "junit.xml").read_bytes()
    if redact == "off":
        assert manifest["redaction"] is None
        assert (VALUES | MORE).keys() - found <= {"shared", "memfd", "freed"}
        if method == "memory":
            assert found >= {"shared", "memfd"}
        if how == "hangs":
            assert {"argument", "printed"} <= find(texts)
        return
    assert not found
    assert not find(texts)
    redaction = manifest["redaction"]
    assert {*redaction["variables"]} >= {name for name in ENVIRONMENT if name not in ("HOOK", "SHORT_TOKEN")}
    assert redaction["others"] == 1
    assert redaction["places"] > 100_000  # the one between the borders
    assert redaction["too_short"] == ["SHORT_TOKEN"]
    assert "values of less than 8 bytes were not looked for: SHORT_TOKEN" in manifest["notices"]
    assert ("unredacted" in str(manifest["notices"])) is (method == "kernel")
    told = run_tool("gdb", "-q", "-batch", "-x", "open.gdb", "-ex", "bt 3", cwd=folder)
    assert "#0  " in told
    stacks = project.gencore("stacks", archive).out
    assert "test_a.py" in stacks


def test_a_hook_that_raises(project: Project) -> None:
    project.write(conftest="def pytest_gencore_secrets():\n    raise OSError('no vault')\n")

    ended = project.run(*QUICK, "-k", "fails", environment=ENVIRONMENT)

    assert ended.counts()["failed"] == 1
    notices = read_manifest(project.only_archive())["notices"]
    assert "there may be more secrets: pytest_gencore_secrets raised OSError" in notices


def test_names_of_the_user(project: Project) -> None:
    options = ["--gencore-redact-env=*_PIN, LICENSE", "-o", "gencore_keep_env=KEPT*"]
    environment = {"DOOR_PIN": "1234-5678-9", "LICENSE": "license-12345", "KEPT_TOKEN": "kept-1234567"}
    project.write(
        test_a="""
            import os

            def test_a():
                one, two, three = os.environ["DOOR_PIN"], os.environ["LICENSE"], os.environ["KEPT_TOKEN"]
                assert 0
        """,
        conftest="",
    )

    project.run(*QUICK, *options, environment=environment)

    failure = read_member(project.only_archive(), "failure.txt").decode()
    values = dict(re.findall(r"^(one|two|three) += '(.*)'$", failure, re.MULTILINE))
    assert values == {"one": "*" * 11, "two": "*" * 13, "three": "kept-1234567"}


def test_secrets_of_children(project: Project) -> None:
    """A child's own environment; the file that arms it has none of its parent's."""
    project.write(
        test_a="""
            import os, pathlib, subprocess, sys

            CRASH = "import ctypes, os; held = os.environ['CHILD_TOKEN'] + '!'; ctypes.string_at(8)"

            def test_a():
                for path in pathlib.Path("gencore-artifacts").rglob("*"):
                    if path.is_file():
                        assert os.environ["PARENT_TOKEN"].encode() not in path.read_bytes(), path
                environment = {**os.environ, "CHILD_TOKEN": "-".join(("of", "the", "child", "5"))}
                assert subprocess.run([sys.executable, "-c", CRASH], env=environment).returncode == -11
        """,
        conftest="",
    )

    ended = project.run(*OPENED, environment={"PARENT_TOKEN": "of-the-parent-7"})

    assert ended.status == 0
    manifest = read_manifest(project.only_archive())
    assert manifest["child_of"]
    assert {"CHILD_TOKEN", "PARENT_TOKEN"} <= {*manifest["redaction"]["variables"]}
    folder = project.unpack(project.only_archive())
    assert b"of-the-child-5" not in (folder / "core").read_bytes()
    assert not list((project.folder / ARTIFACTS).glob(".gencore-*"))


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("is_on", [True, False])
def test_archives_of_the_fixture(project: Project, *, is_on: bool) -> None:
    project.write(
        test_a="""
            import os

            def test_a(gencore):
                held = os.environ["DOOR_PIN"] + "!", os.environ["HOOK"] + "!"
                gencore.collect_core().result()
        """
    )
    options = [
        "--gencore-redact-env=*_PIN",
        "--gencore-env=none",
        f"--gencore-redact={'on' if is_on else 'off'}",
    ]

    project.run(*QUICK, *options, environment={"DOOR_PIN": "1234-5678-9", "HOOK": MORE["hook"]})

    manifest = read_manifest(project.only_archive())
    assert manifest["environment"] == []
    assert (manifest["redaction"] is None) != is_on
    core = read_member(project.only_archive(), "core")
    found = {value for value in (b"1234-5678-9!", MORE["hook"].encode() + b"!") if value in core}
    assert len(found) == (0 if is_on else 2)
