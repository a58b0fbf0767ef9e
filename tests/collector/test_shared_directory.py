"""Another user can change the artifact directory: nothing of this user's is removed, told or given away."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from capabilities import needs
from held_captures import HELPERS
from kernel import wait_until
from process_state import processes_in
from subjects import run_subject

pytestmark = needs("root")

ATTACK = """
import json, shutil
OTHER = 65534
directory = Path(sys.argv[1])
home = directory.parent / "home"

def as_other(action):
    '''Tell whether the other user could do it.'''
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setresgid(OTHER, OTHER, OTHER)
            os.setresuid(OTHER, OTHER, OTHER)
            os.umask(0)
            action()
        except OSError as error:
            print(error, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0

def make_home():
    '''What this user has besides: in folders that the other one can read but not change.'''
    home.mkdir(mode=0o755)
    for name in ("precious", "x.json", "x.log", "x.txt", "answer", "claim-1", "slot-1"):
        (home / name).write_text("mine")
    (home / "x").mkdir()
    (home / "x" / "file").write_text("mine")

def read_home():
    return {str(path.relative_to(home)): path.read_text() for path in home.rglob("*") if path.is_file()}

def move_away():
    folder = folder_of(captures)
    folder.rename(directory / "moved")
    return folder

def put_folder(result="", claim=None, name="core_x"):
    '''A folder of the right name, with a state that tells what the other user wants.'''
    folder = move_away()
    folder.mkdir()
    state = dict(STATE, state="done", result=result, claim=claim, size=5, slot=1, answered=True,
                 summary="\\x1b]0;title\\x07", reason="\\x1b]8;;http://evil\\x07")
    (folder / f"{name}.json").write_text(json.dumps(state))
    (folder / f"drop-{name}").write_text("")
    return folder

make_home()
before = read_home()
directory.mkdir()
directory.chmod(int(sys.argv[2], 8))
captures = Captures(directory)
captures.engine = CaptureEngine(directory, captures.run_id, max_captures=5, max_bytes=1 << 40)
capture, collector = hold(captures, nodeid="a")
name = name_of(capture)
moment = sys.argv[3]
held = collector
if moment == "at work":
    (held,) = collector.children()
    held.suspend()
    collector.resume()
    wait_until(lambda: captures.run.outcomes()[0].captured_pid, "it is at work")
from dataclasses import asdict
from pytest_gencore.run.state import CaptureState
STATE = asdict(CaptureState())
"""
END = """
problem = captures.run.find_problem()
during = captures.run.outcomes()
held.resume()
psutil.wait_procs([collector], 50)
report(could=could, problem=problem, during=len(during), outcomes=captures.finish(),
       same=read_home() == before, archive=str(capture.archive), existing=names_in(captures))
"""


def attack(script: str, tmp_path: Path, mode: str = "777", moment: str = "at work") -> dict[str, Any]:
    answer: dict[str, Any] = run_subject(HELPERS + ATTACK + script + END, tmp_path / "out", mode, moment)
    wait_until(lambda: not processes_in(tmp_path), "all collectors have ended")
    assert answer["same"], "what this user has is as it was"
    return answer


@pytest.fixture(autouse=True)
def _open(open_path: Path) -> None:
    """Let the other user come as far as the artifact directory."""


FORGED = {
    "a result elsewhere": "could = as_other(lambda: put_folder(result='../home/precious'))",
    "a claim elsewhere": """
could = as_other(lambda: (put_folder(claim='claim-1/../../../home/precious') / 'claim-1').mkdir())
""",
    "the name of the capture": "could = as_other(lambda: put_folder(result='../home/precious', name=name))",
    "a link to a folder": "could = as_other(lambda: move_away().symlink_to(home))",
    "a work directory that is a link": """
could = as_other(lambda: (put_folder() / name).symlink_to(home))
""",
    "a state that is a pipe": "could = as_other(lambda: os.mkfifo(put_folder() / 'core_y.json'))",
    "a giant state": "could = as_other(lambda: os.truncate(put_folder() / 'core_x.json', 1 << 40))",
}


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(
    ("how", "moment"), [*((how, "at work") for how in FORGED), ("a link to a folder", "starting")]
)
def test_forged_folder(open_path: Path, how: str, moment: str) -> None:
    """Nothing in it is believed, and the archive is there: it was written to the file that was opened."""
    answer = attack(FORGED[how], open_path, moment=moment)

    assert answer["could"]
    assert answer["problem"].partition(" cannot be used: ")[2] in (
        "it belongs to user 65534",
        "it is a link",
    )
    assert (answer["during"], answer["outcomes"]) == (0, [])
    assert Path(answer["archive"]).is_file()


def test_answer_is_not_given_away(open_path: Path) -> None:
    """The collector writes stacks into its work directory: into its own."""
    script = """
def wait_in_ambush():
    work = put_folder() / name
    work.mkdir()
    (work / "answer").write_text("")
could = as_other(wait_in_ambush)
"""
    answer = attack(script, open_path, moment="starting")

    assert answer["could"]
    (folder,) = (open_path / "out").glob(".gencore-*")
    assert not [path for path in folder.rglob("*") if path.is_file() and path.stat().st_uid == 0]
    assert next(folder.glob("*/answer")).read_text() == ""


REPLACED = {
    "link": "partial.symlink_to(home / 'precious')",
    "hard link": "(directory / 'theirs').write_text('theirs'); os.link(directory / 'theirs', partial)",
    "folder": "partial.mkdir()",
}
REPLACE = """
partial = directory / f"{{name}}.tar.gz.partial"
def replace():
    partial.rename(directory / "theirs.tar.gz")
    {put}
could = as_other(replace)
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", REPLACED)
def test_replaced_archive(open_path: Path, what: str) -> None:
    """What has the archive's name in the end is what was written, whatever had that of the unfinished one."""
    answer = attack(REPLACE.format(put=REPLACED[what]), open_path)

    assert answer["could"]
    archive = Path(answer["archive"])
    assert not archive.is_symlink()
    assert archive.stat().st_uid == os.geteuid()
    with tarfile.open(archive) as tar:
        assert tar.next()
    assert [outcome["state"] for outcome in answer["outcomes"]] == ["done"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [FORGED["a result elsewhere"], FORGED["a link to a folder"], REPLACE.format(put=REPLACED["link"])],
    ids=["forged folder", "link", "replaced archive"],
)
def test_sticky_bit(open_path: Path, script: str) -> None:
    answer = attack(script, open_path, "1777")

    assert not answer["could"]
    assert answer["problem"] == ""
    assert [outcome["state"] for outcome in answer["outcomes"]] == ["done"]
