"""Damage archives in many ways, and read, list, show and unpack each in one process with little memory.

Run as a program: ``archive_fuzzer.py FOLDER COUNT SEED``; prints what came of it as JSON. The first surprise
ends it: an exception that is no ArchiveError, a write outside of the folder, a program started, output that a
terminal could take for a command.
"""

from __future__ import annotations

import collections
import json
import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

from archive_damage import Fuzzer
from click.testing import CliRunner
from made_archives import NAME, write_archive

from pytest_gencore.archive import read_archive
from pytest_gencore.cli.program import program
from pytest_gencore.errors import ArchiveError

MEMORY = 100 << 20


def forbid_writes_outside(folder: Path) -> None:
    """Let this process end if it writes elsewhere, starts a program or opens a socket."""
    inside = os.fsencode(folder) + b"/"
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    changing = {
        "os.mkdir",
        "os.rename",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.chmod",
        "os.chown",
        "os.utime",
    }

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes) and arguments[2] & writing:
            paths = arguments[:1]
        elif event in changing:
            paths = tuple(path for path in arguments[:2] if isinstance(path, str | bytes | os.PathLike))
        elif event.startswith(
            ("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "socket.")
        ):
            os.write(2, f"forbidden: {event} {arguments}\n".encode())
            os._exit(3)
        else:
            return
        for path in paths:
            if not os.path.abspath(os.fsencode(path)).startswith(inside):  # noqa: PTH100 - resolve() would open files
                os.write(2, f"outside: {event} {arguments}\n".encode())
                os._exit(3)

    sys.addaudithook(watch)


def try_one(path: Path, out: Path, number: int = 0) -> str:
    """Do all that is done with archives, some in turns; return how far it came."""
    runner = CliRunner()
    turns = (["list", str(path.parent)], ["show", "--failure", str(path)])
    for arguments in (["show", str(path)], turns[number % 2]):
        result = runner.invoke(program, arguments)
        if result.exit_code not in {0, 1} or not isinstance(result.exception, SystemExit | None):
            raise AssertionError(arguments) from result.exception
        assert all(character.isprintable() for character in result.output.replace("\n", "")), result.output
    try:
        archive = read_archive(path)
    except ArchiveError:
        return "not read"
    try:
        archive.stacks()
        archive.unpack(out)
    except ArchiveError:
        assert not out.exists() or not list(out.iterdir())
        return "not unpacked"
    assert list(out.iterdir()) == [out / NAME]
    shutil.rmtree(out / NAME)
    return "unpacked"


def main() -> None:
    folder, count, seed = Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
    os.chdir(folder)
    fuzzer = Fuzzer(write_archive(folder), seed)
    path, out = folder / f"{NAME}.tar.gz", folder / "out"
    assert try_one(path, out) == "unpacked"
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    forbid_writes_outside(folder)
    results: collections.Counter[str] = collections.Counter()
    for number in range(count):
        kind, data = fuzzer.make()
        path.write_bytes(data)
        try:
            result = try_one(path, out, number)
        except BaseException:
            os.write(2, f"number {number} of seed {seed}: {kind}\n".encode())
            raise
        results[f"{kind}: {result}"] += 1
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    left = [str(file) for file in (*folder.iterdir(), *out.iterdir()) if file not in {path, out}]
    print(json.dumps({"results": results, "growth_kib": growth, "left": left}))


if __name__ == "__main__":
    main()
