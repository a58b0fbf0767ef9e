"""How much an archive holds: ``--gencore-type`` and ``--gencore-libraries``."""

from __future__ import annotations

import json
import re
import shutil
import struct
import tarfile
from typing import TYPE_CHECKING

import pytest
from capabilities import needs
from gencore_archives import read_manifest, read_member
from oracles import unpack
from projects import EXITS, Project

from pytest_gencore.corefile.constants import NT_AUXV
from pytest_gencore.corefile.reader import read_core

if TYPE_CHECKING:
    from pathlib import Path


SOURCE = """
    import collections, dataclasses, datetime, decimal, pathlib, threading

    @dataclasses.dataclass
    class Order:
        number: int
        customer: str
        lines: list

    def wait_for_the_moon(ready, secret):
        table = {f"key {number}": {"inner": [number, str(number)]} for number in range(30)}
        numbers, text, wide, large = list(range(20)), "x" * 500, "żółw" * 20, 10**60
        several = (1, ("two", (3.0, b"four")), frozenset({"five"}), collections.OrderedDict(six=7))
        when, price, path = datetime.date(2026, 1, 2), decimal.Decimal("1.25"), pathlib.Path("/etc/hosts")
        ready.set()
        threading.Event().wait()

    def descend(level, order):
        local, more = f"level {level}", [level] * level
        if level:
            return descend(level - 1, order)
        assert order.customer == "another"

    def test_it():
        ready = threading.Event()
        arguments = (ready, "moonlight")
        threading.Thread(target=wait_for_the_moon, args=arguments, daemon=True).start()
        ready.wait()
        order = Order(7, "a customer", [("apple", 3), ("pear", 4)])
        descend(30, order)
"""
AT_RANDOM = 25
"""Of getauxval(3)."""
UNREADABLE = "pages that could not be read and are zeros: "
"""glibc 2.42 has some that words on the stack lead to: guard pages."""
LARGEST_TEXT = 40_000
"""Bytes of an archive without a core."""


@pytest.fixture
def failing(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write(test_a=SOURCE)
    return project


def capture(project: Project, *arguments: str) -> Path:
    """Run the tests; return the archive, which the report names."""
    ended = project.run("--gencore-on-fail", "test_a.py", *arguments, pystack=True)
    assert ended.counts() == {"failed": 1}
    archive = project.only_archive()
    assert f"core archive: {project.shown(archive)}\n" in ended.out
    return archive


def names_in(archive: Path) -> set[str]:
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


@pytest.mark.slow(rows=1)
@needs("pystack")
@pytest.mark.parametrize("method", ["auto", "kernel"])
def test_text(failing: Project, method: str) -> None:
    archive = capture(failing, "--gencore-type=text", f"--gencore-method={method}")

    assert archive.stat().st_size < LARGEST_TEXT
    manifest = read_manifest(archive)
    assert (manifest["type"], manifest["core"], manifest["complete"]) == ("text", None, True)
    assert (manifest["method"], manifest["method_reason"]) == ("memory", "there is no core")
    assert manifest["open_with"] == f"gencore stacks {archive.name}"
    assert manifest["nodeid"] == "test_a.py::test_it"
    executable = next(entry for entry in manifest["libraries"] if entry["path"] == manifest["executable"])
    assert not executable["included"]
    assert executable["note"] == "archives of type text hold none"
    names = names_in(archive)
    assert names >= {"gencore.json", "stacks.txt", "diagnosis.json", "failure.txt"}
    assert any(name.endswith("/test_a.py") for name in names)
    assert not {name for name in names if name in {"core", "open.gdb"} or ".so" in name}
    stacks = read_member(archive, "stacks.txt").decode()
    assert "wait_for_the_moon" in stacks
    assert "moonlight" in stacks, "a local variable"
    assert "could not be included" not in stacks


def test_commands_on_a_text(failing: Project) -> None:
    archive = capture(failing, "--gencore-type=text")

    shown = failing.gencore("show", archive)
    assert "\ntype       text\ncore       none\n" in shown.out
    (row,) = json.loads(failing.gencore("list", "--json").out)
    assert (row["type"], row["truncated"]) == ("text", False)
    stacks = failing.gencore("stacks", archive)
    assert "wait_for_the_moon" in stacks.out
    assert "stacks as they were written at the time of the capture" in stacks.err
    debug = failing.gencore("debug", "--batch", archive)
    assert debug.status == 1
    assert "the archive holds no core; its stacks: gencore stacks ARCHIVE" in debug.err
    unpacked = failing.gencore("unpack", archive, "folder")
    assert unpacked.status == 0
    assert (failing.folder / unpacked.out.strip() / "stacks.txt").exists()


ENDS = pytest.mark.parametrize(
    ("end", "trigger"), [("ctypes.string_at(8)", "crash"), ("time.sleep(100)", "timeout")]
)


def run_to_the_end(folder: Path, end: str, dump_type: str) -> Project:
    """Run a test with a variable that ends so, and does not fail."""
    project = Project(folder)
    project.write(test_a=f"import ctypes, time\ndef test_it():\n    wanted = 'moonlight'\n    {end}\n")
    project.run("--gencore-on-fail", f"--gencore-type={dump_type}", "--gencore-timeout=1s", *EXITS)
    return project


@pytest.mark.slow(rows=1)
@ENDS
def test_text_of_what_does_not_fail(tmp_path: Path, end: str, trigger: str) -> None:
    archive = run_to_the_end(tmp_path, end, "text").only_archive()

    assert archive.stat().st_size < LARGEST_TEXT
    assert read_manifest(archive)["trigger"]["kind"] == trigger
    assert "test_it" in read_member(archive, "stacks.txt").decode()


@pytest.mark.field
@pytest.mark.slow
@needs("gdb", "pystack")
@pytest.mark.parametrize(("dump_type", "core_filter", "part"), [("heap", "0x11", 0.75), ("mini", "0x0", 0.5)])
def test_smaller_cores(failing: Project, dump_type: str, core_filter: str, part: float) -> None:
    """They are what the stacks need, and much less than all."""
    full = capture(failing)
    stacks = {"full": failing.gencore("stacks", "--native", "--locals", full).out}
    gdb = {"full": failing.gencore("debug", "--batch", full).out}
    size = read_manifest(full)["core"]["data_size"]
    shutil.rmtree(full.parent)

    small = capture(failing, f"--gencore-type={dump_type}")
    stacks["small"] = failing.gencore("stacks", "--native", "--locals", small).out
    gdb["small"] = failing.gencore("debug", "--batch", small).out

    manifest = read_manifest(small)
    assert (manifest["type"], manifest["core"]["coredump_filter"]) == (dump_type, core_filter)
    assert manifest["core"]["data_size"] < part * size
    assert threads_in(stacks["small"]) == threads_in(stacks["full"])
    asked = stacks["small"].replace(f'"{dump_type}"', '"full"')  # a variable of ours is the request
    assert locals_in(asked) == locals_in(stacks["full"])
    assert threads_of_gdb(gdb["small"]) == threads_of_gdb(gdb["full"])
    assert "PyEval" in gdb["small"]


LARGEST_MINI = 3 << 20
"""Bytes of an archive of a test of a line or two."""


@pytest.mark.slow(rows=1)
@needs("pystack")
@pytest.mark.parametrize("method", ["auto", "kernel"])
def test_mini(failing: Project, method: str) -> None:
    archive = capture(failing, "--gencore-type=mini", f"--gencore-method={method}")

    assert archive.stat().st_size < LARGEST_MINI
    manifest = read_manifest(archive)
    assert (manifest["type"], manifest["complete"]) == ("mini", True)
    assert not [notice for notice in manifest["notices"] if not notice.startswith(UNREADABLE)]
    assert (manifest["method"], manifest["method_reason"]) == (
        "memory",
        "cores of type mini are made from memory",
    )
    assert {entry["note"] for entry in manifest["libraries"]} == {"archives of type mini hold none"}
    assert not {name for name in names_in(archive) if ".so" in name}


@pytest.mark.slow
def test_mini_without_arguments_and_environment(failing: Project) -> None:
    archive = capture(failing, "--gencore-type=mini")

    folder = unpack(archive)
    with (folder / "core").open("rb") as file:
        core = read_core(file)
        auxv = core.find_note(NT_AUXV)
        assert auxv is not None
        strings = dict(struct.iter_unpack("<QQ", auxv.desc))[AT_RANDOM] + 16
        (stack,) = [part for part in core.segments if part.vaddr <= strings < part.vaddr + part.memsz]
        file.seek(stack.offset + strings - stack.vaddr)
        assert not any(file.read(stack.data_end - strings))


@pytest.mark.slow(rows=1)
@ENDS
def test_mini_of_what_does_not_fail(tmp_path: Path, end: str, trigger: str) -> None:
    project = run_to_the_end(tmp_path, end, "mini")

    archive = project.only_archive()
    assert archive.stat().st_size < LARGEST_MINI
    assert read_manifest(archive)["trigger"]["kind"] == trigger
    stacks = project.gencore("stacks", "--locals", archive).out
    assert "test_it" in stacks
    assert "moonlight" in stacks


def functions_of(stack: str) -> list[tuple[str, str]]:
    """Return the functions of pystack's or gdb's frames."""
    return re.findall(r"\bline \d+, in (\S+)|^#\d+ +(?:0x[0-9a-f]+ in )?(\S+) \(", stack, re.MULTILINE)


def threads_in(text: str) -> list[list[tuple[str, str]]]:
    """Return the functions of each thread; in which order pystack shows them is chance."""
    return sorted(map(functions_of, text.split("Traceback for thread ")[1:]))


def threads_of_gdb(text: str) -> list[list[tuple[str, str]]]:
    """Return likewise what gdb shows."""
    return sorted(map(functions_of, re.split(r"^Thread \d+ \(", text, flags=re.MULTILINE)[1:]))


def locals_in(text: str) -> list[str]:
    """Return the lines with variables, without addresses."""
    lines = re.findall(r"^ {8}\w+: .*$", text, re.MULTILINE)
    return sorted(re.sub(r"0x[0-9a-f]+|\b\d{3,}\b", "N", line) for line in lines)


@pytest.mark.slow
@needs("gdb", "pystack")
def test_named_libraries(failing: Project) -> None:
    """They are taken from where they are, if they are the same."""
    each = capture(failing)
    expected = failing.gencore("stacks", "--native", each).out
    shutil.rmtree(each.parent)
    archive = capture(failing, "--gencore-libraries=none")

    assert not {name for name in names_in(archive) if ".so" in name}
    assert "could not be included" not in failing.gencore("show", archive).out
    found = failing.gencore("stacks", "--native", archive)
    assert threads_in(found.out) == threads_in(expected)
    assert "is not in the archive" not in found.err
    debug = failing.gencore("debug", "--batch", archive)
    assert "PyEval" in debug.out
    assert debug.status == 0


def test_marker_and_requests(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(
        test_a="""
        import pathlib, pytest, pytest_gencore
        @pytest.mark.gencore(type="text")
        def test_marked(gencore):
            core = gencore.create_core().result()
            assert core.read_bytes()[:4] == b"\\x7fELF"
            core.unlink()
            assert gencore.collect_core().result().stat().st_size < 40_000
        def test_function():
            archive = pytest_gencore.collect_core("here", type="heap", libraries="none").result()
            assert archive.stat().st_size < 20_000_000
            with pytest.raises(ValueError, match="expected full, heap, mini or text"):
                pytest_gencore.collect_core("here", type="tiny")
            with pytest.raises(ValueError, match="expected each, once or none"):
                pytest_gencore.collect_core("here", libraries="all")
        """
    )

    ended = project.run()

    assert ended.counts() == {"passed": 2}
    types = {path.parent.name: read_manifest(path)["type"] for path in tmp_path.glob("*/*.tar.gz")}
    assert types == {"gencore-artifacts": "text", "here": "heap"}


def test_bad_type(failing: Project) -> None:
    ended = failing.run("--gencore-type=tiny")

    assert ended.status == 4
    assert (
        "invalid type 'tiny': expected full, heap, mini or text (from command line --gencore-type)"
        in ended.err
    )


MADV_GUARD_INSTALL = 102
UNCHANGED = ("--gencore-on-fail", "--gencore-libraries=none", "--gencore-redact=off")


@pytest.mark.slow
@needs("pystack")
def test_pages_that_cannot_be_read_are_counted_once(project: Project) -> None:
    """pystack's core has them, too."""
    project.write(
        test_a=f"""
            import mmap, pytest

            def test_a():
                pages = mmap.mmap(-1, 8 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                pages.write(b"x" * len(pages))
                try:
                    pages.madvise({MADV_GUARD_INSTALL}, 0, 3 * mmap.PAGESIZE)
                except OSError as error:
                    pytest.skip(str(error))
                assert 0
        """
    )

    def count(*, pystack: bool) -> int:
        ended = project.run(*UNCHANGED, pystack=pystack)
        if ended.counts().get("skipped"):
            pytest.skip("this kernel has no MADV_GUARD_INSTALL")
        (archive,) = project.find_archives()
        notices = read_manifest(archive)["notices"]
        archive.unlink()
        (number,) = (notice.removeprefix(UNREADABLE) for notice in notices if notice.startswith(UNREADABLE))
        return int(number)

    assert count(pystack=True) == count(pystack=False) >= 3
