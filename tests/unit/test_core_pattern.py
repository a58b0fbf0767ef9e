from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_gencore.machine.core_pattern import CoreFacts, CorePattern

FACTS = CoreFacts(
    pid=4242,
    tid=4243,
    global_pid=1_004_242,
    global_tid=1_004_243,
    global_uid=1000,
    global_gid=100,
    signal=11,
    dumpable=1,
    core_limit=2**64 - 1,
    hostname="host",
    comm="python3",
    executable="/usr/bin/python3.11",
)
NOTHING = CoreFacts()


@pytest.mark.parametrize(
    ("text", "uses_pid", "kind", "is_absolute"),
    [
        ("core\n", False, "file", False),
        ("core", True, "file", False),
        ("/var/cores/core.%p\n", False, "file", True),
        ("cores/core\n", False, "file", False),
        ("|/usr/lib/systemd/systemd-coredump %P %u\n", False, "pipe", False),
        ("|/usr/share/apport/apport -p%p -s%s\n", True, "pipe", False),
        ("@/run/coredump.socket\n", False, "socket", False),
        ("@@/run/coredump.socket\n", False, "socket", False),
        ("\n", False, "none", False),
        ("\n", True, "file", False),
    ],
)
def test_kind(text: str, uses_pid: bool, kind: str, is_absolute: bool) -> None:
    pattern = CorePattern.parse(text, uses_pid=uses_pid)
    assert (pattern.kind, pattern.is_absolute) == (kind, is_absolute)


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("core", "core"),
        ("core.%p", "core.4242"),
        ("%p%p", "42424242"),
        ("core.%P.%i.%I", "core.1004242.4243.1004243"),
        ("%u-%g-%s-%d", "1000-100-11-1"),
        ("%h.%e", "host.python3"),
        ("%E", "!usr!bin!python3.11"),
        ("%f", "python3.11"),
        ("%c", "18446744073709551615"),
        ("100%%", "100%"),
        ("%%p", "%p"),
        ("core%", "core"),
        ("core.%z.%F.end", "core...end"),
        ("core%/dropped", "coredropped"),
        ("a b", "a b"),
        ("core [1]*?", "core [1]*?"),
    ],
)
def test_known_names_are_exact(template: str, name: str) -> None:
    file = CorePattern.parse(template).candidates(FACTS).file
    assert file.name == name
    assert file.regex.fullmatch(name)


@pytest.mark.parametrize(
    ("template", "uses_pid", "name"),
    [
        ("core", True, "core.4242"),
        ("core.%p", True, "core.4242"),
        ("core.%P", True, "core.1004242.4242"),
        ("core%%p", True, "core%p.4242"),
        ("", True, ".4242"),
        ("core%", True, "core.4242"),
    ],
)
def test_pid_is_appended_as_the_kernel_does(template: str, uses_pid: bool, name: str) -> None:
    assert CorePattern.parse(template, uses_pid=uses_pid).candidates(FACTS).file.name == name


@pytest.mark.parametrize(
    ("comm", "name"), [("a/b", "a!b"), ("..", "!."), (".", "!"), ("", "!"), ("...", "..."), ("a\nb", "a\nb")]
)
def test_values_cannot_change_the_directory(comm: str, name: str) -> None:
    candidates = CorePattern.parse("%e").candidates(CoreFacts(comm=comm))
    assert candidates.file.name == name
    assert candidates.directories == ()


@pytest.mark.parametrize(
    ("template", "matching", "other"),
    [
        ("core.%p", ["core.1", "core.4194304"], ["core.", "core.x", "xcore.1", "core.1x", "core.1\n"]),
        ("core.%t.%C", ["core.1700000000.0"], ["core.1700000000"]),
        ("core-%e-%h", ["core-python3-host", "core-a b-c.d"], ["core--", "core"]),
        ("%E.x", ["!usr!bin!a.x"], [".x", "ax"]),
        ("a+b.%p", ["a+b.7"], ["aab.7"]),
        ("%u%g%s%d%c%P%i%I", ["12345678"], ["1234567", "1234567x"]),
    ],
)
def test_unknown_values_match_anything_that_they_could_be(
    template: str, matching: list[str], other: list[str]
) -> None:
    file = CorePattern.parse(template).candidates(NOTHING).file
    assert file.name is None
    assert all(file.regex.fullmatch(name) for name in matching)
    assert not any(file.regex.fullmatch(name) for name in other)


def test_tid_is_that_of_the_only_thread() -> None:
    assert CorePattern.parse("%i").candidates(CoreFacts(pid=7)).file.name == "7"


@pytest.mark.parametrize(
    ("template", "absolute", "directories"),
    [
        ("core", False, []),
        ("cores/%e/core.%p", False, ["cores", "python3"]),
        ("./cores//core", False, [".", "cores"]),
        ("../core", False, [".."]),
        ("/var/cores/%t/core", True, ["var", "cores", None]),
        ("//core", True, []),
        ("x%e/%E/core", False, ["xpython3", "!usr!bin!python3.11"]),
    ],
)
def test_directories(template: str, absolute: bool, directories: list[str | None]) -> None:
    candidates = CorePattern.parse(template).candidates(FACTS)
    assert candidates.absolute is absolute
    assert [component.name for component in candidates.directories] == directories


@pytest.mark.parametrize("text", ["|/bin/handler", "@/run/socket", ""])
def test_no_candidates_without_a_file(text: str, tmp_path: Path) -> None:
    pattern = CorePattern.parse(text)
    with pytest.raises(ValueError, match="writes no file"):
        pattern.candidates(FACTS)
    assert pattern.find(tmp_path, FACTS) is None
    assert pattern.subdirectories(tmp_path, FACTS) == []


def test_subdirectories_are_those_that_the_kernel_would_not_make(tmp_path: Path) -> None:
    def below(template: str, facts: CoreFacts = FACTS) -> list[str]:
        found = CorePattern.parse(template).subdirectories(tmp_path, facts)
        return [os.fspath(path.relative_to(tmp_path)) for path in found]

    assert below("core.%p") == []
    assert below("cores/%e/core.%p") == ["cores", "cores/python3"]
    assert below("cores/./core") == ["cores"]
    assert below("cores/%t/core") == ["cores"]
    assert below("cores/%p/core", NOTHING) == ["cores"]
    assert below("/var/cores/core") == []


def make(path: Path, mtime_ns: int = 10**18) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"core")
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def test_find_in_the_working_directory(tmp_path: Path) -> None:
    pattern = CorePattern.parse("core", uses_pid=True)
    assert pattern.find(tmp_path, FACTS) is None
    make(tmp_path / "core")
    make(tmp_path / "core.42421")
    assert pattern.find(tmp_path, FACTS) is None
    expected = make(tmp_path / "core.4242")
    assert pattern.find(tmp_path, FACTS) == expected


def test_find_in_an_absolute_directory(tmp_path: Path) -> None:
    expected = make(tmp_path / "cores" / "python3-1.core")
    pattern = CorePattern.parse(f"{tmp_path}/cores/%e-%C.core")
    assert pattern.find(Path("/nonexistent"), FACTS) == expected


def test_find_below_directories_with_unknown_names(tmp_path: Path) -> None:
    pattern = CorePattern.parse("%t/x%C/core.%p")
    make(tmp_path / "17" / "xy" / "core.4242")
    make(tmp_path / "18")
    make(tmp_path / "19" / "x0" / "core.1")
    assert pattern.find(tmp_path, FACTS) is None
    expected = make(tmp_path / "17" / "x3" / "core.4242")
    assert pattern.find(tmp_path, FACTS) == expected


def test_find_takes_the_newest_and_none_from_before(tmp_path: Path) -> None:
    pattern = CorePattern.parse("core.%t")
    second = 10**9
    make(tmp_path / "core.1", 100 * second)
    newest = make(tmp_path / "core.2", 300 * second)
    make(tmp_path / "core.3", 200 * second)
    assert pattern.find(tmp_path, FACTS) == newest
    assert pattern.find(tmp_path, FACTS, newer_than_ns=300 * second) == newest
    assert pattern.find(tmp_path, FACTS, newer_than_ns=300 * second + 10**7) == newest
    assert pattern.find(tmp_path, FACTS, newer_than_ns=301 * second) is None


def test_find_takes_only_regular_files(tmp_path: Path) -> None:
    target = make(tmp_path / "elsewhere")
    (tmp_path / "core.1").symlink_to(target)
    (tmp_path / "core.2").mkdir()
    os.mkfifo(tmp_path / "core.3")
    assert CorePattern.parse("core.%t").find(tmp_path, FACTS) is None


def test_find_takes_only_files_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "core")
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    assert CorePattern.parse("core").find(tmp_path, FACTS) is None


def test_template_that_ends_with_a_slash_names_no_file(tmp_path: Path) -> None:
    assert CorePattern.parse("cores/").find(tmp_path, FACTS) is None


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    expected = make(tmp_path / os.fsdecode(b"core-\xff"))
    assert CorePattern.parse(os.fsdecode(b"core-\xff\n")).find(tmp_path, FACTS) == expected
    assert CorePattern.parse("core-%e").find(tmp_path, NOTHING) == expected


def test_pattern_of_this_machine_is_read() -> None:
    assert CorePattern.read().kind in {"file", "pipe", "socket", "none"}
