"""``--gencore-recipient``: archives that only those can read who have a key."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_manifest
from projects import ARTIFACTS, QUICK, SUPPORT, Project
from sealed_runs import MEMBER, make_key, make_ssh_key, member_names, open_with_age

if TYPE_CHECKING:
    from pathlib import Path

MARKER = "the-marker-of-the-test"
SOURCE = """
    def test_it():
        words = "the-marker-" + "of-the-test"
        assert not words
"""
USAGE_ERROR = 4


def sealed(project: Project, *more: str, source: str = SOURCE) -> Path:
    """Return an archive of a failing test, sealed for the new key ``key``."""
    project.write(test_a=source)
    project.run("--gencore-on-fail", f"--gencore-recipient={make_key(project.folder)}", *more)
    return project.only_archive()


@pytest.mark.slow(rows=2)
@needs("age")
@pytest.mark.parametrize("kind", ["age", "ssh", "file", "ini"])
def test_the_reference_tool_opens_it(project: Project, tmp_path: Path, kind: str) -> None:
    folder = project.folder
    options = []
    if kind == "ssh":
        options = [f"--gencore-recipient={make_ssh_key(folder)}"]
    else:
        key = make_key(folder)
        other = make_key(folder, "other")
        if kind == "age":
            options = [f"--gencore-recipient={key}", f"--gencore-recipient={other}"]
        elif kind == "file":
            (folder / "keys.txt").write_text(f"# the team\n{other}\n\n{key}\n")
            options = ["--gencore-recipient=keys.txt"]
        else:
            (folder / "pytest.ini").write_text(f"[pytest]\ngencore_recipient =\n    {other}\n    {key}\n")
    project.write(test_a=SOURCE)

    ended = project.run(*QUICK, *options)

    archive = project.only_archive()
    assert member_names(archive) == ["gencore.json", MEMBER]
    assert f"open one: gencore debug --identity FILE {ARTIFACTS}/{archive.name}" in ended.out
    work = tmp_path / "opened"
    work.mkdir()
    top = open_with_age(archive, folder / "key", work)
    assert MARKER.encode() in (top / "core").read_bytes()
    whole = json.loads((top / "gencore.json").read_text())
    assert whole["complete"]
    assert whole["threads"]
    short = read_manifest(archive)
    assert short["sealed"]["recipients"] == (1 if kind == "ssh" else 2)
    assert short["nodeid"] == whole["nodeid"] == "test_a.py::test_it"
    assert short["core"] == whole["core"]
    assert short["threads"] == short["libraries"] == short["environment"] == []
    assert short["executable"] is short["diagnosis"] is short["redaction"] is None
    assert "PATH" in whole["environment"]


@pytest.mark.slow
@needs("gdb")
def test_commands_with_a_key(project: Project) -> None:
    archive = sealed(project)
    identity = ("--identity", project.folder / "key")

    shown = project.gencore("show", *identity, archive)
    assert "sealed     for 1 recipient\n" in shown.out
    assert re.search(r"^threads    \d+$", shown.out, re.MULTILINE)
    failure = project.gencore("show", "--failure", *identity, archive)
    assert MARKER in failure.out
    stacks = project.gencore("stacks", *identity, archive)
    assert "test_a.py" in stacks.out
    debugged = project.gencore("debug", "--batch", *identity, archive)
    assert "Thread 1" in debugged.out
    unpacked = project.gencore("unpack", *identity, archive, project.folder / "out")
    assert [ended.status for ended in (shown, failure, stacks, debugged, unpacked)] == [0] * 5
    top = project.folder / "out" / archive.name.removesuffix(".tar.gz")
    manifest = json.loads((top / "gencore.json").read_text())
    assert (top / "core").stat().st_size == manifest["core"]["size"]
    assert manifest.get("sealed") is None


def test_a_key_from_a_pipe(project: Project) -> None:
    archive = sealed(project, "--gencore-type=text")
    script = f"exec {sys.executable} -m pytest_gencore stacks --identity <(cat key) {archive}"

    done = subprocess.run(
        ["bash", "-c", script], cwd=project.folder, check=False, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, "test_a.py" in done.stdout) == (0, True), done.stderr


@pytest.mark.slow
def test_commands_without_a_key(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = sealed(project, "--gencore-type=text")
    monkeypatch.setenv("HOME", str(project.folder))
    before = sorted(project.folder.rglob("*"))

    shown = project.gencore("show", archive)
    assert shown.status == 0
    assert "sealed     for 1 recipient: --identity FILE" in shown.out
    assert "test_a.py::test_it (call)" in shown.out
    for command in ("stacks", "unpack"):
        refused = project.gencore(command, archive)
        assert refused.status == 1
        assert "the archive is sealed for 1 recipient (give the private key of one with --identity FILE)" in (
            refused.err
        )
    assert sorted(project.folder.rglob("*")) == before
    monkeypatch.setenv("HOME", f"/{'x' * 300}")  # cannot be looked at
    assert "the archive is sealed for" in project.gencore("stacks", archive).err
    monkeypatch.setenv("HOME", str(project.folder))

    ssh = project.folder / ".ssh"  # the default
    ssh.mkdir()
    (ssh / "id_ed25519").write_text((project.folder / "key").read_text())
    assert project.gencore("stacks", archive).status == 0
    (ssh / "id_ed25519").unlink()
    monkeypatch.setenv("GENCORE_IDENTITY", str(project.folder / "key"))
    assert project.gencore("stacks", archive).status == 0


@pytest.mark.slow
@needs("ssh-keygen")
def test_keys_that_do_not_open_it(project: Project) -> None:
    archive = sealed(project, "--gencore-type=text")
    make_key(project.folder, "other")
    make_ssh_key(project.folder, "locked", passphrase="a passphrase")
    (project.folder / "empty").touch()
    before = sorted(project.folder.rglob("*"))

    for name, reason in {
        "other": "it is sealed for other keys than those that were given",
        "locked": "is not a private key of age, or of SSH without a passphrase",
        "locked.pub": "is not a private key",
        "empty": "holds no private key",
    }.items():
        for command in ("show", "stacks", "unpack"):
            refused = project.gencore(command, "--identity", project.folder / name, archive)
            assert refused.status == 1
            assert reason in refused.err
    assert sorted(project.folder.rglob("*")) == before


@pytest.mark.slow(rows=3)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--gencore-recipient=age1qqqq"], "invalid recipient: 'age1qqqq': not a public key of age"),
        (["--gencore-recipient=ssh-ed25519 AAAA"], "invalid recipient: 'ssh-ed25519 AAAA': not a public"),
        (["--gencore-recipient=nobody.txt"], "'nobody.txt': no key, and no file: No such file or directory"),
        (["--gencore-recipient="], "invalid recipient '': it is empty"),
        (["--gencore-recipient= ", "--gencore-recipient=PUBLIC"], "it is empty"),
        (["-ogencore_recipient="], "it is empty (from ini gencore_recipient)"),
        (["--gencore-recipient='AGE-SECRET-KEY-1PRIVATE'"], "it is a private key, which must not be here"),
        (["--gencore-recipient=age1 AGE-SECRET-KEY-1PRIVATE"], "it is a private key"),
        (["--gencore-recipient=AGE-SECRET-KEY-1PRIVATE"], "it is a private key, which must not be here"),
        (["--gencore-recipient=private.txt"], "private.txt: not a public key of age"),
        (["--gencore-recipient=none.txt"], "none.txt holds no key"),
        (["--gencore-recipient=PUBLIC", "--gencore-method=kernel"], "recipient excludes method kernel"),
        (["--gencore-recipient=PUBLIC", "--gencore-libraries=once"], "recipient excludes libraries once"),
    ],
)
def test_never_a_clear_archive_for_a_mistake(project: Project, options: list[str], reason: str) -> None:
    key = make_key(project.folder)
    (project.folder / "none.txt").write_text("# nobody yet\n")
    (project.folder / "private.txt").write_text("# a mistake\nAGE-SECRET-KEY-1PRIVATE\n")
    project.write(test_a=SOURCE)

    ended = project.run("--gencore-on-fail", *(option.replace("PUBLIC", key) for option in options))

    assert ended.status == USAGE_ERROR
    assert reason in ended.err
    assert "1PRIVATE" not in ended.out + ended.err
    assert "test_a.py" not in ended.out
    assert not (project.folder / ARTIFACTS).exists()


def test_a_recipient_from_a_pipe(project: Project) -> None:
    key = make_key(project.folder)
    project.write(test_a=SOURCE)
    script = f'exec "$@" --gencore-recipient=<(echo {key})'

    project.run("--gencore-on-fail", "--gencore-type=text", prefix=("bash", "-c", script, "-"))

    assert member_names(project.only_archive()) == ["gencore.json", MEMBER]


@pytest.mark.slow
def test_workers_do_not_read_the_file_again(project: Project) -> None:
    (project.folder / "keys.txt").write_text(make_key(project.folder))
    project.write(
        test_a="""
            import os, pathlib

            def test_one():
                pathlib.Path("keys.txt").unlink()
                os.abort()

            def test_two():
                assert 0
        """
    )

    ended = project.run(*QUICK, "-n1", "--gencore-recipient=keys.txt")

    assert ended.counts() == {"failed": 2}
    archives = project.archives()
    assert archives.keys() == {"test_a.py::test_one call", "test_a.py::test_two call"}
    for archive in archives.values():
        assert member_names(archive) == ["gencore.json", MEMBER]


def test_without_the_extra_the_run_ends_at_its_start(project: Project) -> None:
    key = make_key(project.folder)
    project.write(test_a=SOURCE, pyrage="raise ImportError")

    ended = project.run(
        "--gencore-on-fail",
        f"--gencore-recipient={key}",
        environment={"PYTHONPATH": f"{project.folder}:{SUPPORT}"},
    )

    assert ended.status == USAGE_ERROR
    assert "pip install 'pytest-gencore[seal]'" in ended.err
    assert not (project.folder / ARTIFACTS).exists()


EVERY_WAY = """
    import multiprocessing, os, pytest

    def test_failure():
        assert 0

    @pytest.mark.gencore(method="kernel")
    def test_marker():
        assert 0

    @pytest.mark.gencore(timeout=0.5)
    def test_hang():
        import time; time.sleep(2)

    def test_fixture(gencore):
        gencore.collect_core().result()
        with pytest.raises(Exception, match="a core file cannot be sealed"):
            gencore.create_core().result()

    def test_child():
        child = multiprocessing.get_context("fork").Process(target=os.abort)
        child.start()
        child.join()

    def test_crash():
        os.abort()
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-n2", "--gencore-children=dump", "--gencore-moment=raise"]])
def test_every_way_is_sealed(project: Project, options: list[str]) -> None:
    project.write(test_a=EVERY_WAY)
    recipient = f"--gencore-recipient={make_key(project.folder)}"

    project.run(*QUICK, "--gencore-filter=0x1", recipient, *options)

    nodeids = set()
    for archive in project.find_archives():
        assert member_names(archive) == ["gencore.json", MEMBER]
        manifest = read_manifest(archive)
        assert manifest["method"] == "memory"
        nodeids.add(manifest["nodeid"].partition("::")[2])
        shown = project.gencore("show", "--identity", project.folder / "key", archive)
        assert shown.status == 0
    assert nodeids == {f"test_{name}" for name in ("failure", "marker", "hang", "fixture", "child", "crash")}
    assert project.gencore("list", project.folder / ARTIFACTS).out.count(".tar.gz") == len(nodeids)
    left = {path.suffix for path in (project.folder / ARTIFACTS).iterdir()}
    assert left == {".gz", ".txt"}


WRITTEN = re.compile(r"^\d+ +p?writev?2?(?:64)?\(\d+<([^>]*)>, (.*)")


@pytest.mark.slow(rows=1)
@needs("strace", "pystack")
@pytest.mark.parametrize("is_sealed", [True, False])
def test_nothing_of_the_core_is_written_to_the_disk(
    project: Project, tmp_path: Path, *, is_sealed: bool
) -> None:
    """strace shows what is written to which file; without a recipient it sees the core that pystack reads."""
    project.write(test_a=SOURCE)
    recipient = [f"--gencore-recipient={make_key(project.folder)}"] if is_sealed else []
    trace = tmp_path / "trace"
    calls = "write,pwrite64,writev,pwritev,pwritev2"
    strace = ("strace", "-f", "-qq", "-y", "-s", str(8 << 20), "-e", f"trace={calls}", "-o", str(trace))

    project.run(*QUICK, "--gencore-clear-text=off", *recipient, pystack=True, prefix=strace)

    archive = project.only_archive()
    folder = str(project.folder / ARTIFACTS)
    files, with_marker = set(), set()
    with trace.open() as lines:
        for line in lines:
            if (match := WRITTEN.match(line)) and match[1].startswith(folder):
                files.add(match[1])
                with_marker |= {match[1]} if MARKER in match[2] else set()
    assert [path for path in files if path.endswith(f"{archive.name}.partial")]
    assert bool([path for path in with_marker if path.endswith("/pystack.core")]) != is_sealed
    if is_sealed:
        assert not with_marker
        command = ("tar", "xzOf", str(archive), "--wildcards", f"*/{MEMBER}")
        data = subprocess.run(command, check=True, capture_output=True).stdout
        assert data.startswith(b"age-encryption.org/v1\n")


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("is_sealed", [True, False])
def test_no_clear_text(project: Project, *, is_sealed: bool) -> None:
    more = [f"--gencore-recipient={make_key(project.folder)}"] if is_sealed else []
    project.write(
        test_a="""
            import threading

            def wait_for_nobody():
                threading.Event().wait()

            def test_it():
                wait_for_nobody()
        """
    )

    ended = project.run(
        *QUICK,
        "--gencore-timeout=0.3",
        "--gencore-clear-text=off",
        "-ogencore_exit_on_timeout=true",
        "--junitxml=junit.xml",
        *more,
    )

    archive = project.only_archive()
    assert f"core archive: {project.shown(archive)}" in ended.err
    assert "took longer than 0.3 s (timeout of gencore): test_a.py::test_it" in ended.err
    junit = (project.folder / "junit.xml").read_text()
    for text in (ended.out, ended.err, junit):
        assert "wait_for_nobody" not in text
    assert not list((project.folder / ARTIFACTS).glob("*.txt"))


@pytest.mark.slow
def test_no_clear_text_of_what_died(project: Project) -> None:
    """Neither a command line, nor what a failure said that pytest had not shown yet."""
    project.write(
        test_a="""
            import os, subprocess, sys

            def test_child():
                subprocess.run([sys.executable, "-c", "import os; os.abort()", "--password=of-the-child"])

            def test_failure():
                assert "of-the-failure" == ""

            def test_crash():
                os.abort()
        """
    )

    options = (*QUICK, "--tb=no", "-p", "no:faulthandler", "--gencore-clear-text=off")

    child = project.run(*options, "-k", "child")
    crash = project.run(*options, "-k", "failure or crash")

    assert "(command line not shown) of test_a.py::test_child" in child.out
    assert "test_a.py::test_failure (call)" in crash.err
    assert not re.search("of-the-(child|failure)", child.out + child.err + crash.out + crash.err)
    assert len(project.find_archives()) == 3
