"""The document: one thread for what several sources say, cycles, excerpts, and parts that are damaged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from documents import VALIDATOR
from made_archives import NAME, STACKS, add_file, new_manifest, tar_archive

from pytest_gencore.archive import read_archive
from pytest_gencore.archive.stacks_file import encode_stacks
from pytest_gencore.collector.stacks import model
from pytest_gencore.collector.stacks.stacks_json import make_stacks_file
from pytest_gencore.document.encode import encode_document, make_document

if TYPE_CHECKING:
    from pathlib import Path

FILE = "/project/test_three.py"
SOURCE = "".join(f"line {number}\n" for number in range(1, 41))


def frame(line: int, **changes: Any) -> model.Frame:
    return model.Frame(file="test_three.py", line=line, function="test_one", **changes)


MAIN = model.PythonThread("MainThread", 9520, 1, (frame(10), frame(12)), is_current=True)
WAITER = model.PythonThread("waiter", 9521, 2, (frame(30),))
ALONE = model.PythonThread(None, None, None, (), is_read=False)


def wait_for(*holders: list[Any]) -> dict[str, Any]:
    return {
        "kind": "lock",
        "text": "lock 'a'",
        "resource": 7,
        "name": "a",
        "timeout_seconds": -1,
        "holders": list(holders),
    }


def diagnosed(ident: int, native_id: int | None, wait: Any) -> dict[str, Any]:
    place = [FILE, 12, "test_one"]
    name = f"python-{ident}"
    return {
        "ident": ident,
        "native_id": native_id,
        "name": name,
        "captured": ident == 1,
        "place": place,
        "wait": wait,
    }


def task(ident: int, holder: int) -> dict[str, Any]:
    return {
        "id": ident,
        "name": f"Task-{ident}",
        "framework": "asyncio",
        "coroutine": "serve",
        "running": False,
        "place": None,
        "frames": [[FILE, 3, "serve"], ["<string>", -1, "x"]],
        "alike": 0,
        "wait": {**wait_for(["task", holder]), "kind": "task"},
    }


DIAGNOSIS: dict[str, Any] = {
    "verdict": {"kind": "deadlock", "text": "deadlock: MainThread waits"},
    "lines": ["What everything waits for:"],
    "complete": True,
    "gil": None,
    "threads": [diagnosed(1, 9520, wait_for(["thread", 2])), diagnosed(2, 9521, wait_for(["thread", 1]))],
    "tasks": [task(11, 12), task(12, 11)],
    "loops": [{"id": 5, "type": "Loop", "thread": 1, "tasks": 2, "ready": None}],
    "deadlocked": [["thread", 1], ["thread", 2], ["task", 11]],
    "system": {
        "calls": [],
        "descriptors": [{"fd": 3, "kind": "pipe", "text": "fd 3: a pipe"}],
        "descriptor_count": 1,
        "child_count": 1,
        "children": [
            {
                "pid": 77,
                "command": "sleep",
                "state": "S",
                "age_s": 1.5,
                "text": "child 77: sleep",
                "is_direct": True,
            }
        ],
    },
    "forked": [
        {
            "pid": 77,
            "complete": True,
            "gil": None,
            "tasks": [],
            "loops": [],
            "deadlocked": [],
            "threads": [diagnosed(1, None, None)],
        }
    ],
}


def make(folder: Path, members: dict[str, bytes], **manifest: Any) -> dict[str, Any]:
    path = folder / "a.tar.gz"
    with tar_archive(path, new_manifest(libraries=[], **manifest)) as tar:
        for name, data in members.items():
            add_file(tar, f"{NAME}/{name}", data)
    document: dict[str, Any] = json.loads(encode_document(make_document(read_archive(path))))
    VALIDATOR.validate(document)
    return document


def members(**options: Any) -> dict[str, bytes]:
    stacks = make_stacks_file(
        "/project",
        [MAIN, WAITER, ALONE],
        [frame(1)],
        {77: [model.PythonThread(None, None, 1, (frame(20),))]},
        unread=0,
        **options,
    )
    return {
        "stacks.txt": STACKS.encode(),
        "stacks.json": encode_stacks(stacks).encode(),
        "diagnosis.json": json.dumps(DIAGNOSIS).encode(),
        "failure.txt": b"E   assert",
        FILE.lstrip("/"): SOURCE.encode(),
    }


def test_all_sources_say_one_thing(tmp_path: Path) -> None:
    kernels = {"tid": 9530, "name": "native", "native_registers": True, "reason": None}
    document = make(tmp_path, members(), threads=[*new_manifest()["threads"], kernels])

    names = [(thread["name"], thread["native_id"], thread["ident"]) for thread in document["threads"]]
    assert names == [
        ("python-1", 9520, 1),
        ("python-2", 9521, 2),
        (None, None, None),
        ("native", 9530, None),
    ]
    main, waiter, alone, native = document["threads"]
    assert [frame["line"] for frame in main["frames"]] == [10, 12]
    assert main["frames"][0] | {"locals": []} == {
        "file": FILE,
        "line": 10,
        "function": "test_one",
        "native": False,
        "library": None,
        "project": True,
        "source": None,
        "locals": [],
    }
    assert (main["captured"], main["deadlocked"], waiter["captured"]) == (True, True, False)
    assert main["wait"]["holders"] == [{"kind": "thread", "id": 2}]
    assert main["wait"]["timeout_seconds"] is None
    assert (alone["frames"], native["frames"]) == (None, None)
    assert document["cycle"] == [{"kind": "thread", "id": 1}, {"kind": "thread", "id": 2}]
    assert [task["deadlocked"] for task in document["tasks"]] == [True, False]
    assert document["tasks"][0]["frames"][1]["line"] is None
    (child,) = document["children"]
    assert [frame["line"] for frame in child["threads"][0]["frames"]] == [20]
    assert (document["failure"], document["output"]) == ("E   assert", None)
    assert document["unreadable"] == []


def test_excerpts(tmp_path: Path) -> None:
    """They are around the lines of all frames; those that are near one another are one."""
    excerpts = make(tmp_path, members())["sources"]

    found = [(excerpt["file"], excerpt["first"], len(excerpt["lines"])) for excerpt in excerpts]
    assert found == [(FILE, 1, 24), (FILE, 26, 9)]
    assert excerpts[1]["lines"][0] == "line 26"


def test_earlier_archive(tmp_path: Path) -> None:
    """It has no frames for programs: they are not taken from a text."""
    earlier = {name: data for name, data in members().items() if name != "stacks.json"}
    document = make(tmp_path, earlier)

    assert [(thread["name"], thread["frames"]) for thread in document["threads"]] == [
        ("python-1", None),
        ("python-2", None),
    ]
    assert document["verdict"]["kind"] == "deadlock"


def test_room_is_for_inner_frames_of_the_first_threads(tmp_path: Path) -> None:
    """What does not fit is left out, and the document says so."""
    document = make(tmp_path, members(limit=800))

    main, waiter, *_ = document["threads"]
    assert ([frame["line"] for frame in main["frames"]], main["cut"]) == ([12], True)
    assert waiter["frames"] is None
    assert "more stacks are in stacks.txt" in document["notices"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("stacks.json", b"[" * 100_000, "stacks.json is not valid JSON"),
        ("stacks.json", b"[" + b"0," * 300_000 + b"0]", "stacks.json has too many entries"),
        ("stacks.json", b'{"version": 2}', "stacks.json has version 2"),
        ("stacks.json", b'{"version": 1}', "stacks.json lacks rootdir"),
        ("stacks.json", b" " * (5 << 20), "stacks.json is not valid JSON"),
        ("diagnosis.json", b'{"lines": [1]}', "lines of diagnosis.json is not a list of strings"),
        ("diagnosis.json", b'{"lines": [], "deadlocked": [["x"]]}', "diagnosis.json lacks waits.complete"),
        ("diagnosis.json", b"null", "the whole of diagnosis.json is not an object"),
    ],
)
def test_damaged_part(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    """It is not used, and named; the rest is told."""
    document = make(tmp_path, {**members(), name: data})

    (unreadable,) = document["unreadable"]
    assert unreadable.startswith(reason)
    assert document["failure"] == "E   assert"


def test_commas_in_strings_are_no_entries(tmp_path: Path) -> None:
    local = ("numbers", "[" + "1," * 400)
    stack = [MAIN.__class__("many", 9520, 1, (frame(1, locals=(local,) * 1200),))]
    text = encode_stacks(make_stacks_file("/project", stack, (), {}, unread=0))
    assert text.count(",") > 250_000

    document = make(tmp_path, {"stacks.json": text.encode()})

    assert len(document["threads"][0]["frames"][0]["locals"]) == 1200
