"""Paths as Windows has them, which are judged as those with slashes are."""

from __future__ import annotations

import json
import ntpath
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from pytest_gencore import installed, texts
from pytest_gencore.archive.names import member_of, without_drive
from pytest_gencore.collector.diagnosis.parse import parse_facts
from pytest_gencore.collector.stacks import sources
from pytest_gencore.collector.stacks.lines import is_project, machinery_of
from pytest_gencore.collector.stacks.model import Frame, PythonThread
from pytest_gencore.collector.stacks.sources import absolute_path, find_traceback_files, gather_sources
from pytest_gencore.collector.stacks.stacks_json import make_stacks_file
from pytest_gencore.document.excerpts import read_excerpts
from pytest_gencore.probe import facts
from pytest_gencore.texts import Folders

PYTHON = r"C:\Python313\Lib"
SITE = r"C:\work\shop\.venv\Lib\site-packages"
ROOT = r"C:\work\shop"
TEST = rf"{ROOT}\tests\test_a.py"


class Member(NamedTuple):
    data: bytes


@pytest.fixture(autouse=True)
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let those who judge paths find themselves on Windows."""
    system = SimpleNamespace(path=ntpath, sep=ntpath.sep, pardir=ntpath.pardir)
    for module in (installed, texts, sources):
        monkeypatch.setattr(module, "os", system)
    monkeypatch.setattr(installed, "_FOLDER", PYTHON)
    monkeypatch.setattr(facts, "_SEPARATOR", ntpath.sep)
    monkeypatch.setattr(facts, "_STANDARD", f"{PYTHON}{ntpath.sep}")


@pytest.mark.parametrize(
    ("file", "function", "part", "project"),
    [
        (rf"{SITE}\pluggy\_hooks.py", "f", "pluggy", False),
        (rf"{SITE}\_pytest\python.py", "f", "pytest", False),
        (rf"{SITE}\pytest_timeout.py", "f", "pytest-timeout", False),
        (r"C:\work\shop\.venv\Scripts\pytest.exe\__main__.py", "<module>", "pytest", False),
        (rf"{PYTHON}\threading.py", "Thread._bootstrap", "threading", False),
        (rf"{PYTHON}\queue.py", "Queue.get", "", False),
        (rf"{SITE}\requests\api.py", "f", "", False),
        (r"C:\other\a.py", "f", "", False),
        (TEST, "test_a", "", True),
    ],
)
def test_frames(file: str, function: str, part: str, *, project: bool) -> None:
    frame = Frame(file, 1, function)
    assert machinery_of(frame) == part
    assert is_project(frame, Folders(ROOT)) is project


def test_locals_of_libraries() -> None:
    """The probe keeps those of the project alone."""
    assert facts.is_project_file(TEST)
    assert not facts.is_project_file(rf"{SITE}\requests\api.py")
    assert not facts.is_project_file(rf"{PYTHON}\queue.py")


def test_absolute_paths() -> None:
    assert absolute_path(TEST, ROOT) == "C:/work/shop/tests/test_a.py"
    assert absolute_path(r"tests\test_a.py", ROOT) == "C:/work/shop/tests/test_a.py"
    assert absolute_path(r"\\server\share\a.py", ROOT) == "//server/share/a.py"
    assert absolute_path("<string>", ROOT) is None
    assert absolute_path("a.py", "") is None


def test_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the archive by a name that has no colon, and no libraries are among them."""
    monkeypatch.setattr(sources, "read_source", lambda path, _: (path.encode(), ""))
    frames = tuple(Frame(file, 1, "f") for file in (rf"{SITE}\requests\api.py", rf"{PYTHON}\queue.py", TEST))
    threads = [PythonThread("MainThread", 1, 1, frames, is_current=True)]
    found = gather_sources(threads, ROOT, sources.OF_A_TEXT)
    assert found.files == [("C/work/shop/tests/test_a.py", b"C:/work/shop/tests/test_a.py")]
    stacks = make_stacks_file(ROOT, threads, (), {}, unread=0)
    assert stacks.rootdir == "C:/work/shop"
    (thread,) = stacks.threads
    assert [(frame.file, frame.project) for frame in thread.frames or ()][-1] == (
        "C:/work/shop/tests/test_a.py",
        True,
    )


def test_failures() -> None:
    text = "C:\\work\\shop\\a.py:5: ValueError\ntests\\test_a.py:7: AssertionError\n"
    assert find_traceback_files(text) == ["C:\\work\\shop\\a.py", "tests\\test_a.py"]


def test_diagnosis() -> None:
    place = [TEST, 3, "f"]
    line = {"fact": "thread", "id": 1, "is_own": True, "place": place, "project": place}
    found = parse_facts(json.dumps(line).encode())
    assert found.threads[1].place == ("C:/work/shop/tests/test_a.py", 3, "f")


def test_short_names() -> None:
    assert Folders(ROOT).shorten(TEST) == r"tests\test_a.py"
    assert Folders(ROOT).shorten("C:/work/shop/tests/test_a.py") == r"tests\test_a.py"
    assert Folders(ROOT).shorten(r"C:\work\shopping\a.py") == r"C:\work\shopping\a.py"


def test_members() -> None:
    assert (member_of("C:/a.py"), member_of("/a:/b.py"), member_of("//c/d.py")) == (
        "C/a.py",
        "a:/b.py",
        "c/d.py",
    )
    assert (without_drive("C:/a.py"), without_drive("/a.py"), without_drive("a.py")) == (
        "/a.py",
        "/a.py",
        "a.py",
    )


def test_excerpts() -> None:
    """Readers find the source of a frame under its member's name, and take no relative names."""
    archive: Any = SimpleNamespace(read_members=lambda names: {name: Member(b"a\nb\n") for name in names})
    (found,) = read_excerpts(archive, [("C:/work/a.py", 1), ("a.py", 1), ("C:/../a.py", 1)])
    assert (found.file, found.lines[:2]) == ("C:/work/a.py", ("a", "b"))
