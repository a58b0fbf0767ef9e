"""FOLDER [KIND ...]: print as JSON what captures do here, and what ``gencore check`` says of it.

It needs nothing but the package: it is run in containers, by tests and by ``.ci/containers``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

SAMPLE = """
import ctypes
import threading

def test_failure():
    assert False

def test_hang():
    threading.Event().wait()

def test_crash():
    ctypes.string_at(8)
"""
ENDS = ("--gencore-timeout=1", "-o", "gencore_exit_on_timeout=true")
STATUS = {"failure": 1, "hang": 1, "crash": -11}
"""Of a run whose test ends so, with or without captures; one that hangs needs captures to end at all."""
_SAID = re.compile(r"^gencore: (no capture is possible: .*|.*\bno core archive\b.*)$", re.MULTILINE)
_SECONDS = 60
_CHECK_SECONDS = 300
"""It ends by itself; on an emulated processor that has other work it can take more than a minute."""


def run(*command: str, folder: Path, seconds: int = _SECONDS) -> tuple[int | None, str]:
    """Return status and output; None if it had to be ended."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return None, (error.stdout or b"").decode(errors="replace")
    return done.returncode, done.stdout


def capture(folder: Path, kind: str) -> dict[str, object]:
    """Run a test that ends so; tell how the run ended, what there is of an archive, and what was said."""
    artifacts = folder / kind
    fixed = ("-p", "no:cacheprovider", "--gencore-on-fail", f"--gencore-dir={artifacts}")
    ends = ENDS if kind == "hang" else ()
    status, output = run("pytest", *fixed, *ends, f"test_cell.py::test_{kind}", folder=folder)
    said = _SAID.search(output)
    archives = [path for path in artifacts.glob("*") if path.suffix != ".txt"] if artifacts.is_dir() else []
    threads = [count_threads(path) for path in archives]
    return {"status": status, "threads": threads, "said": said[1] if said else "", "output": output}


def count_threads(archive: Path) -> int:
    """Return how many threads the archive has with their registers; it must have a core, and its end."""
    top = archive.name.removesuffix(".tar.gz")
    with tarfile.open(archive) as file:
        manifest = file.extractfile(f"{top}/gencore.json")
        assert manifest is not None
        facts = json.load(manifest)
        assert file.getmember(f"{top}/core").size > 0
    return sum(thread["native_registers"] for thread in facts["threads"])


def check(folder: Path, *options: str) -> dict[str, object]:
    """Return what ``gencore check`` answers."""
    _, output = run(
        "pytest_gencore",
        "check",
        str(folder / "checked"),
        "--json",
        *options,
        folder=folder,
        seconds=_CHECK_SECONDS,
    )
    return dict(json.loads(output))


def main() -> None:
    """Print everything, or some kinds of it."""
    folder = Path(sys.argv[1])
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_cell.py").write_text(SAMPLE)
    kinds = sys.argv[2:] or [*STATUS, "selftest"]
    facts: dict[str, object] = {kind: capture(folder, kind) for kind in STATUS if kind in kinds}
    facts["check"] = check(folder, *(["--selftest"] if "selftest" in kinds else []))
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
