"""Memory that is left, from made /proc and /sys trees, and what follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_gencore.machine.memory import (
    COLLECTOR_BYTES,
    Usage,
    find_fullest,
    judge,
    read_headroom,
    read_rss,
)

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
GIB = 1 << 30
V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "35 31 0:32 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
OTHER_V1_MOUNT = "36 31 0:33 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu"


def make_tree(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def meminfo(available: int) -> str:
    return f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable: {available // 1024} kB\n"


def v2(folder: str, limit: str, usage: int, cache: int = 0) -> dict[str, str]:
    base = f"sys/fs/cgroup{folder}"
    return {
        f"{base}/memory.max": f"{limit}\n",
        f"{base}/memory.current": f"{usage}\n",
        f"{base}/memory.stat": f"anon 5\nfile 77\nactive_file {cache}\ninactive_file {cache}\nshmem 9\n",
    }


def v1(folder: str, limit: int, usage: int, cache: int = 0) -> dict[str, str]:
    base = f"sys/fs/cgroup/memory{folder}"
    return {
        f"{base}/memory.limit_in_bytes": f"{limit}\n",
        f"{base}/memory.usage_in_bytes": f"{usage}\n",
        f"{base}/memory.stat": f"cache 5\ntotal_active_file {cache}\ntotal_inactive_file {cache}\n",
    }


def test_without_cgroups(tmp_path: Path) -> None:
    assert read_headroom(make_tree(tmp_path, {"proc/meminfo": meminfo(3 * GIB)})) == 3 * GIB


def test_nothing_can_be_read(tmp_path: Path) -> None:
    assert read_headroom(str(tmp_path)) is None
    assert find_fullest(str(tmp_path)) is None
    assert read_rss(str(tmp_path)) == 0


@pytest.mark.parametrize("character", ["\r", "\x0c", "\x1c", "\u2028"])
def test_names_end_no_line(tmp_path: Path, character: str) -> None:
    """Of cgroups and of mount points."""
    name = f"/j{character}ob"
    other = OTHER_V1_MOUNT.replace("cpu rw", f"{character}30 23 0:26 / /elsewhere rw - cgroup2 x rw", 1)
    files = {
        "proc/meminfo": meminfo(8 * GIB),
        "proc/self/mountinfo": f"{other}\n{V2_MOUNT.format(root='/')}\n",
        "proc/self/cgroup": f"0::{name}\n",
        **v2(name, str(2 * GIB), GIB),
        "elsewhere/memory.max": "1\n",
        "elsewhere/memory.current": "1\n",
    }
    assert read_headroom(make_tree(tmp_path, files)) == GIB


@pytest.mark.parametrize(
    ("leaf", "parent", "expected"),
    [
        (("max", GIB), ("max", GIB), 8 * GIB),
        ((str(2 * GIB), GIB), ("max", GIB), GIB),
        (("max", GIB), (str(3 * GIB), GIB), 2 * GIB),
        ((str(2 * GIB), GIB), (str(3 * GIB), 3 * GIB - MIB), MIB),
        ((str(GIB), 2 * GIB), ("max", GIB), 0),
    ],
)
def test_version_2(tmp_path: Path, leaf: tuple[str, int], parent: tuple[str, int], expected: int) -> None:
    files = {
        "proc/meminfo": meminfo(8 * GIB),
        "proc/self/mountinfo": V2_MOUNT.format(root="/") + "\n",
        "proc/self/cgroup": "0::/ci/job\n",
        **v2("/ci/job", *leaf),
        **v2("/ci", *parent),
    }
    assert read_headroom(make_tree(tmp_path, files)) == expected


def test_file_cache_can_be_had(tmp_path: Path) -> None:
    files = {
        "proc/self/mountinfo": V2_MOUNT.format(root="/") + "\n",
        "proc/self/cgroup": "0::/\n",
        **v2("", str(2 * GIB), GIB, cache=100 * MIB),
    }
    assert read_headroom(make_tree(tmp_path, files)) == GIB + 200 * MIB


def test_fullest(tmp_path: Path) -> None:
    """Of the cgroups with a limit and the machine; file cache is not used."""
    files = {
        "proc/self/mountinfo": V2_MOUNT.format(root="/") + "\n",
        "proc/self/cgroup": "0::/ci/job\n",
        **v2("/ci/job", str(2 * GIB), GIB + 200 * MIB, cache=100 * MIB),
        **v2("/ci", str(8 * GIB), 3 * GIB),
        **v2("", "max", 50 * GIB),
    }
    root = make_tree(tmp_path, files)
    assert find_fullest(root) == Usage(GIB, 2 * GIB, "cgroup")
    memory = "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\nHugePages_Total: 0\n"
    (tmp_path / "proc/meminfo").write_text(memory)
    fullest = find_fullest(root)
    assert fullest == Usage(600 * 1024, 1000 * 1024, "machine")
    assert fullest.percent == 60


@pytest.mark.parametrize("mount_root", ["/", "/docker/abc"])
def test_version_1(tmp_path: Path, mount_root: str) -> None:
    """Without a cgroup namespace a container has its own cgroup mounted as the top."""
    folder = "/docker/abc" if mount_root == "/" else ""
    files = {
        "proc/meminfo": meminfo(8 * GIB),
        "proc/self/mountinfo": f"{OTHER_V1_MOUNT}\n{V1_MOUNT.format(root=mount_root)}\n",
        "proc/self/cgroup": "9:cpu:/docker/abc\n4:memory:/docker/abc\n0::/\n",
        **v1(folder, GIB, 700 * MIB, cache=50 * MIB),
    }
    assert read_headroom(make_tree(tmp_path, files)) == GIB - 600 * MIB


def test_version_1_without_limit(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": meminfo(8 * GIB),
        "proc/self/mountinfo": V1_MOUNT.format(root="/") + "\n",
        "proc/self/cgroup": "4:memory:/a\n",
        **v1("/a", 0x7FFFFFFFFFFFF000, GIB),
    }
    assert read_headroom(make_tree(tmp_path, files)) == 8 * GIB


def test_a_cgroup_that_is_not_shown_here(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": meminfo(8 * GIB),
        "proc/self/mountinfo": V2_MOUNT.format(root="/") + "\n",
        "proc/self/cgroup": "0::/../../elsewhere\n",
        **v2("", str(GIB), 0),
    }
    assert read_headroom(make_tree(tmp_path, files)) == GIB


def test_this_machine() -> None:
    headroom = read_headroom()
    assert headroom is not None
    assert headroom > 0
    assert read_rss() > MIB


@pytest.mark.parametrize(
    ("headroom", "rss", "expected"),
    [
        (None, GIB, "go"),
        (2 * GIB, GIB, "go"),
        (300 * MIB, GIB, "hold"),
        (50 * MIB, GIB, "refuse"),
        (COLLECTOR_BYTES + GIB // 256, GIB, "hold"),
        (COLLECTOR_BYTES + GIB // 256 - 1, GIB, "refuse"),
        (COLLECTOR_BYTES + GIB // 256 + GIB, GIB, "go"),
    ],
)
def test_judgement(headroom: int | None, rss: int, expected: str) -> None:
    assert judge(headroom, rss) == expected
