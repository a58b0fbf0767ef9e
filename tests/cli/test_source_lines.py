"""Source lines are those of the archive: none of this machine's files is read, whatever a core names."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from capabilities import needs
from subjects import run_subject

from pytest_gencore.archive import parse_manifest
from pytest_gencore.cli import stacks, tools
from pytest_gencore.cli.python_commands import find_on_machine
from pytest_gencore.cli.tools import find_tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    Gencore = Callable[..., Result]

pytestmark = [pytest.mark.field, pytest.mark.xdist_group("source lines")]

SECRET = "SECRET-OF-THIS-MACHINE"
SUBJECT = """
import sys, threading
from subjects import *
captures = Captures(sys.argv[1])
done = threading.Lock()
done.acquire()
def run_in_thread(function):
    ready = threading.Event()
    threading.Thread(target=function, args=(ready,), daemon=True).start()
    ready.wait()
for number, name in enumerate(sys.argv[2:]):
    names = {"done": done}
    source = "\\n" * 3 + f"def wait_{number}(ready):\\n    ready.set(); done.acquire()  # CAPTURED LINE\\n"
    exec(compile(source, name, "exec"), names)
    run_in_thread(names[f"wait_{number}"])
captures.take(method="memory", core_filter=0x11, trigger="failure")
report(outcomes=captures.finish())
"""
SOURCE = "\n\n\ndef wait_0(ready):\n    ready.set(); done.acquire()  # CAPTURED LINE\n"


class Foreign(NamedTuple):
    """An archive whose core names files of its reader."""

    archive: Path
    names: list[str]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """Capture code of files, of which the first only exists then, and change them all afterwards."""
    folder = tmp_path_factory.mktemp("foreign")
    own, leak, fifo, huge = (folder / name for name in ("test_it.py", "leak.py", "fifo.py", "huge.py"))
    own.write_text(SOURCE)
    up = "/.." * (len(folder.parts) + 10)
    names = [
        str(own),
        str(leak),
        f"{folder}/nowhere/../leak.py",
        f"{up}{leak}",
        f"//{leak}",
        "leak.py",
        "/proc/self/environ",
        "/proc/self/cwd/leak.py",
        "/dev/zero",
        str(fifo),
        str(huge),
        str(folder),
    ]
    (outcome,) = run_subject(SUBJECT, folder / "out", *names)["outcomes"]
    for file in (own, leak):
        file.write_text(f"# {SECRET}\n" * 10)
    os.mkfifo(fifo)
    with huge.open("wb") as sparse:
        sparse.write(f"# {SECRET}\n".encode() * 10)
        sparse.truncate(2 << 30)
    return Foreign(Path(outcome["archive"]), names)


@pytest.fixture(
    params=[
        pytest.param("sandbox", marks=needs("bubblewrap")),
        pytest.param("landlock", marks=needs("landlock")),
        "limits",
    ]
)
def protection(request: pytest.FixtureRequest, foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run with all that can protect, in the folder of the files, with a secret in the environment."""
    monkeypatch.chdir(foreign.archive.parents[1])
    monkeypatch.setenv("GENCORE_TEST_SECRET", f"\n\n\n\n{SECRET}\n")
    if request.param != "sandbox":
        monkeypatch.setattr(tools, "find_bubblewrap", lambda: None)
    if request.param == "limits":
        monkeypatch.setattr(tools, "has_landlock", lambda: False)
    return str(request.param)


def check(text: str, functions: int) -> None:
    assert len(set(re.findall(r"\bin (wait_\d+)", text))) == functions
    assert SECRET not in text
    assert text.count("# CAPTURED LINE") == 1


@pytest.mark.slow(rows=1)
@needs("pystack")
@pytest.mark.timeout(60)
def test_lines_of_pystack(gencore: Gencore, foreign: Foreign, protection: str) -> None:
    result = gencore("stacks", "--json", foreign.archive)

    assert json.loads(result.stdout)["tool"] == "pystack"
    check(json.loads(result.stdout)["text"], len(foreign.names))
    assert ("in no sandbox" in result.stderr) is (protection != "sandbox")


def needs_script(archive: Path, gencore: Gencore) -> None:
    manifest = json.loads(gencore("show", "--json", archive).stdout)["manifest"]
    if find_on_machine(parse_manifest(json.dumps(manifest).encode())) is None:
        pytest.skip("no commands of CPython for gdb")


@pytest.mark.slow(rows=1)
@needs("gdb")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("command", ["stacks", "debug"])
@pytest.mark.usefixtures("protection")
def test_lines_of_gdb(
    gencore: Gencore, foreign: Foreign, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    needs_script(foreign.archive, gencore)
    monkeypatch.setattr(stacks, "find_tool", lambda name: None if name == "pystack" else find_tool(name))

    result = gencore(command, foreign.archive, *(["--batch"] if command == "debug" else []))

    assert result.exit_code == 0, result.stderr
    assert "could not read the core" not in result.stderr
    check(result.stdout, len(foreign.names))


@needs("gdb")
@pytest.mark.timeout(60)
def test_list_of_gdb(gencore: Gencore, foreign: Foreign) -> None:
    """With commands of the user, so without a sandbox."""
    needs_script(foreign.archive, gencore)
    command = "thread apply all -s -- frame apply all -s -- py-list"

    result = gencore("debug", foreign.archive, "--batch", "--", "-ex", command)

    assert "  >5        ready.set(); done.acquire()  # CAPTURED LINE" in result.stdout
    assert SECRET not in result.stdout
    assert "Unable to open /dev/zero: [Errno 2] no source file in the archive" in result.stdout


@needs("gdb")
def test_open_of_gdb_stays(gencore: Gencore, foreign: Foreign, tmp_path: Path) -> None:
    """Scripts of the user read and write what they like."""
    (tmp_path / "text").write_text("MINE")
    command = f"python print(open({str(tmp_path / 'text')!r}).read() * 2)"

    result = gencore("debug", foreign.archive, "--batch", "--", "-ex", command)

    assert "MINEMINE" in result.stdout
