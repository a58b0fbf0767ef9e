"""prune: what it removes, and what it leaves."""

from __future__ import annotations

import fcntl
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from made_archives import new_manifest, tar_archive

from pytest_gencore.run.folder import new_run_id, run_folder_name

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Gencore = Callable[..., Result]
    RunProgram = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """Return a directory with five archives by name, 1000 bytes and a day apart, and what is none."""
    now = time.time()
    for days in range(5):
        stamp = time.strftime("%Y%m%d.%H%M%S", time.gmtime(now - days * 86_400 - 60))
        (tmp_path / f"core_{stamp}.77.001.tar.gz").write_bytes(bytes(1000))
    others = (
        "core_20200101.000000.1.001",
        "core_20200101.000000.1.001.tar.gz.partial",
        "xcore_20200101.000000.1.001.tar.gz",
        "core_20200101.000000.1.1.tar.gz",
        "core_20209901.000000.1.001.tar.gz",
        "notes.txt",
        ".gencore-1-2-3",
    )
    for name in others:
        (tmp_path / name).write_bytes(bytes(1000))
    (tmp_path / "core_20200101.000000.1.001.tar.gz").symlink_to(tmp_path / "notes.txt")
    (tmp_path / "core_20200101.000000.2.001.tar.gz").mkdir()
    (tmp_path / "core_20200101.000000.2.001.tar.gz" / "core_20200101.000000.2.001.tar.gz").write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        (["--keep", "2"], 2),
        (["--keep", "9"], 5),
        (["--older-than", "2d"], 2),
        (["--older-than", "36h", "--keep", "1"], 1),
        (["--max-size", "3000"], 3),
        (["--max-size", "2.9kB"], 2),
        (["--keep", "0"], 0),
    ],
)
def test_prune(gencore: Gencore, artifacts: Path, rules: list[str], left: int) -> None:
    archives = [path for path in sorted(artifacts.rglob("*")) if ".77." in path.name]
    texts = {path: path.with_name(path.name.replace("tar.gz", "txt")) for path in archives}
    for text in [*texts.values()][1:]:
        text.write_text("stacks")
    before = sorted(artifacts.rglob("*"))

    planned = gencore("prune", artifacts, *rules, "--dry-run", "--json")
    assert sorted(artifacts.rglob("*")) == before
    result = gencore("prune", artifacts, *rules)

    assert result.exit_code == 0
    doomed = archives[: len(archives) - left]
    assert sorted(json.loads(planned.stdout)["removed"]) == [str(path) for path in doomed]
    gone = [*doomed, *(texts[path] for path in doomed)]
    assert sorted(artifacts.rglob("*")) == [path for path in before if path not in gone]
    assert result.output.count("removed ") == len(doomed)


def test_prune_of_what_killed_runs_left(gencore: Gencore, artifacts: Path) -> None:
    """What is used stays: the folder of a living process, that of a collector, and what is too young."""
    own = artifacts / run_folder_name(new_run_id())
    busy = artifacts / ".gencore-1-2-5"
    left = artifacts / ".gencore-1-2-4"
    for folder in (own, busy, left):
        (folder / "work").mkdir(parents=True)
    names = [f"core_20200101.000000.{number}.001" for number in range(3, 8)]
    for folder, name in zip((own, busy, left), names, strict=False):
        (folder / f"{name}.json").write_text("{}")
    for name in names:
        path = artifacts / f"{name}.tar.gz.partial"
        path.write_bytes(b"x")
        os.utime(path, (1, 1) if name != names[4] else None)
    os.utime(artifacts / "core_20200101.000000.1.001.tar.gz.partial", (1, 1))
    for name, is_lone in (*((name, True) for name in names), ("core_20200101.000000.9.001", False)):
        (artifacts / f"{name}.txt").write_text("stacks")
        os.utime(artifacts / f"{name}.txt", (1, 1) if name != names[4] else None)
        if not is_lone:
            (artifacts / f"{name}.tar.gz").write_bytes(b"x")
    before = set(artifacts.iterdir())
    expected = [
        artifacts / "core_20200101.000000.1.001.tar.gz.partial",
        *(
            artifacts / f"core_20200101.000000.{number}.001.{kind}"
            for number in (5, 6)
            for kind in ("tar.gz.partial", "txt")
        ),
        left,
    ]

    with (busy / f"{names[1]}.json").open() as state:
        fcntl.flock(state, fcntl.LOCK_EX)
        planned = gencore("prune", artifacts, "--unfinished", "--dry-run", "--json")
        assert set(artifacts.iterdir()) == before
        result = gencore("prune", artifacts, "--unfinished")

    assert (planned.exit_code, result.exit_code) == (0, 0)
    assert json.loads(planned.stdout)["removed"] == [str(path) for path in expected]
    assert result.stdout.splitlines() == [f"removed {path}" for path in expected]
    assert before - set(artifacts.iterdir()) == set(expected)


def test_prune_does_not_wait_for_a_pipe(run_program: RunProgram, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / ".gencore-1-1-a", tmp_path / "elsewhere"
    for path in (folder, elsewhere):
        path.mkdir()
    os.mkfifo(folder / "x.json")
    (elsewhere / "file").write_text("mine")
    (folder / "work").symlink_to(elsewhere)
    (tmp_path / ".gencore-2-2-b").symlink_to(elsewhere)

    result = run_program("prune", tmp_path, "--unfinished")

    assert (result.returncode, result.stdout) == (0, f"removed {folder}\n")
    assert not folder.exists()
    assert (elsewhere / "file").read_text() == "mine"


def test_prune_of_nothing(gencore: Gencore, tmp_path: Path) -> None:
    assert gencore("prune", tmp_path / "none", "--keep", "1", "--unfinished").exit_code == 0


def library(name: str) -> dict[str, Any]:
    return {"path": f"/{name}", "build_id": "ab", "size": 0, "included": True, "note": "", "aliases": []}


@pytest.mark.parametrize(
    ("archives", "left"),
    [
        ({"1": "abc", "2": "d"}, "12"),
        ({"1": "abc", "2": "abcd"}, "2"),
        ({"1": "abcd", "2": "x"}, "1"),
        ({"1": "ab", "2": "bc", "3": "cd"}, "123"),
        ({"1": "x"}, ""),
    ],
)
def test_archives_of_libraries(gencore: Gencore, tmp_path: Path, archives: dict[str, str], left: str) -> None:
    """Those stay that have what an archive names; of two that have it the newer one."""
    for number, names in archives.items():
        with tar_archive(
            tmp_path / f"libraries_20260101.00000{number}.7.001.tar.gz",
            new_manifest(type="libraries", libraries=[library(name) for name in names]),
        ):
            pass
    named = [{**library(name), "included": False} for name in "abcd"]
    with tar_archive(tmp_path / "core_20260101.000009.7.001.tar.gz", new_manifest(libraries=named)):
        pass
    other = tmp_path / "libraries_of_somebody.tar.gz"
    other.touch()

    assert gencore("prune", tmp_path, "--keep", "1").exit_code == 0

    kept = sorted(path.name for path in tmp_path.glob("libraries_2*"))
    assert kept == [f"libraries_20260101.00000{number}.7.001.tar.gz" for number in left]
    assert other.exists()


def test_archives_of_libraries_stay_where_an_archive_cannot_be_read(gencore: Gencore, tmp_path: Path) -> None:
    kept = tmp_path / "libraries_20260101.000001.7.001.tar.gz"
    with tar_archive(kept, new_manifest(type="libraries", libraries=[library("x")])):
        pass
    (tmp_path / "core_20260101.000009.7.001.tar.gz").write_bytes(b"not finished")

    gencore("prune", tmp_path, "--keep", "1")

    assert kept.exists()
