"""The table of ``.ci/pythons``: what must hold on every Python, run on each that is here or can be made.

As a program: ``every_python.py FOLDER [FREE-THREADED-PYTHON]``. Root file systems stay in the folder, and are
used again. ``GENCORE_WRITE_DOCS=1`` writes the table into the documentation.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

from interpreters import MINORS, find_interpreter
from other_root import OtherRoot, download, make_root
from wheels import ROOT, build_wheel_with, copy_sources, run

PAGE = ROOT / "docs/reference/versions.md"
BLOCK = re.compile(r"(?<=<!-- results: made by \.ci/pythons -->\n).*?(?=\n<!-- end -->)", re.DOTALL)
ROOTS = {"trixie": ("python3.13",), "sid": ("python3.14", "python3.15")}
"""Releases of Debian, and their Pythons that are looked at."""
BUILDING = ("setuptools>=77,<90",)
CELLS = "tests/install/test_every_python.py"
HANGS = "tests/diagnosis/test_hangs.py"
OLD = 13
"""The last minor version that is tested with the wheel of the newest Python, and then with the oldest's."""
ENDS = ("failure", "GIL hang", "asyncio hang", "crash", "xdist")
TOOLS = ("stacks", "gdb", "pystack")
NEEDED = (
    *("anyio", "click", "hypothesis", "jsonschema", "pystack", "pytest-asyncio", "pytest-timeout"),
    "pytest-xdist",
)
"""What these tests import or start."""
HEAD = (
    f"| Python | of | wheel built by | {' | '.join(ENDS)} | hangs diagnosed | wheel of the other one |\n"
    f"|---|---|---|{'---|' * len(ENDS)}---|---|"
)


@dataclass(slots=True)
class Python:
    """An interpreter, on this machine or in a root file system, and what became of its tests."""

    program: str
    source: str
    """Where it comes from."""
    folder: str
    """Where its environment and the tests are; as it sees it."""
    root: OtherRoot | None = None
    wheel: str = "-"
    other: str = "-"
    results: dict[str, bool] = field(default_factory=dict)
    """By the name of the test: whether it has passed; those that were skipped are not here."""
    trouble: str = ""

    def run(self, *command: str, timeout: float = 900) -> str:
        """Run a program that must succeed, where this Python is."""
        return (run if self.root is None else self.root.run)(*command, timeout=timeout)

    def see(self, path: str) -> Path:
        """Return where a file of it is on this machine."""
        return Path(path) if self.root is None else self.root.folder / path.lstrip("/")

    @property
    def version(self) -> str:
        show = (
            "import sys, sysconfig as s; print(sys.version.split()[0] + 't' * bool(s.get_config_var('{}')))"
        )
        return self.run(self.program, "-I", "-c", show.format("Py_GIL_DISABLED")).strip()

    @property
    def tag(self) -> str:
        """As wheels have it: ``3.13t``."""
        return re.sub(r"\.\d+(?=t?$)", "", self.version)

    def install(self, *requirements: str | Path) -> None:
        """Make its environment; nothing is compiled but isal for a build without a GIL, on this machine."""
        shutil.rmtree(self.see(self.folder), ignore_errors=True)
        packages = self.see(self.folder) / "packages"
        packages.mkdir(parents=True)
        self.run(self.program, "-m", "venv", f"{self.folder}/env")
        options = ["--quiet", "--find-links", f"{self.folder}/packages", "--only-binary=:all:"]
        if self.root is not None:
            download(packages, self.tag, *map(str, requirements))
            options.append("--no-index")
        elif self.tag.endswith("t"):
            options.append("--no-binary=isal")  # which has no wheel for it
        for wheel in requirements:
            if isinstance(wheel, Path):
                shutil.copy(wheel, packages)
        names = ["pytest-gencore" if isinstance(found, Path) else found for found in requirements]
        self.run(f"{self.folder}/env/bin/pip", "install", *options, *names)
        copy_tests(self.see(self.folder) / "tree")

    def change_wheel(self, wheel: Path) -> None:
        """Put another build of the package in place of the one that is there."""
        shutil.copy(wheel, self.see(f"{self.folder}/{wheel.name}"))
        options = ["--quiet", "--no-index", "--no-deps", "--force-reinstall"]
        self.run(f"{self.folder}/env/bin/pip", "install", *options, f"{self.folder}/{wheel.name}")

    def test(self, *arguments: str) -> dict[str, bool]:
        """Run tests; return whether each has passed."""
        report = f"{self.folder}/report.xml"
        command = [f"{self.folder}/env/bin/pytest", "-q", f"--junitxml={report}", *arguments]
        enter = 'cd "$0" && { GENCORE_THOROUGH=1 "$@" || [ $? = 1 ]; }'
        output = self.run("sh", "-c", enter, f"{self.folder}/tree", *command)
        print("\n".join(output.splitlines()[-15:]), flush=True)
        cases = [case for case in ET.parse(self.see(report)).iter("testcase") if not case.findall("skipped")]
        return {
            case.get("name", ""): not (case.findall("failure") or case.findall("error")) for case in cases
        }

    @property
    def is_right(self) -> bool:
        cells = [self.results.get(f"test_{tool}[{end}-{tool}]") for end in ENDS for tool in TOOLS]
        return not self.trouble and all((*cells, *self.results.values())) and self.other in ("-", "works")

    def row(self) -> str:
        """Return its row of the table."""
        if self.trouble:
            return f"| {self.program} | {self.source} | {self.trouble} |" + " |" * (len(ENDS) + 2)
        cells = [self._cell(end) for end in ENDS]
        hangs = [passed for name, passed in self.results.items() if name.startswith("test_verdict[")]
        columns = [
            f"CPython {self.version}",
            *(self.source, self.wheel),
            *cells,
            f"{sum(hangs)} of {len(hangs)}",
            self.other,
        ]
        return f"| {' | '.join(columns)} |"

    def _cell(self, end: str) -> str:
        found = {tool: self.results.get(f"test_{tool}[{end}-{tool}]") for tool in TOOLS}
        words = {True: "", False: "not ", None: "no "}
        return ", ".join(f"{words[passed]}{tool}" for tool, passed in found.items())


def copy_tests(folder: Path) -> None:
    """Copy what the tests need of the tree, without the package: the installed one is tested."""
    ignored = shutil.ignore_patterns("__pycache__", "*.py", "*.so", "csrc")
    shutil.copytree(ROOT / "pytest_gencore", folder / "pytest_gencore", ignore=ignored)  # the schemas
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs/examples", folder / "docs/examples")
    shutil.copy(ROOT / "pyproject.toml", folder)


def build(python: Python, work: Path) -> Path:
    """Return the wheel that a Python builds; in a root file system it must have a compiler."""
    python.install(*BUILDING)
    source = python.see(f"{python.folder}/source")
    copy_sources(source)
    python.run(*build_wheel_with(f"{python.folder}/env/bin/python", f"{python.folder}/source"))
    (wheel,) = source.glob("*.whl")
    folder = work / "wheels" / python.tag
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return Path(shutil.copy(wheel, folder))


TROUBLE = (AssertionError, OSError, ValueError, subprocess.SubprocessError)


def look(python: Python, work: Path, wheel: Path | None = None, builder: Python | None = None) -> None:
    """Install a wheel, of its own making if there is none, and run everything; what fails is in the table."""
    print(f"== {python.program} of {python.source}", flush=True)
    started = time.monotonic()
    try:
        python.wheel = (builder or python).tag
        python.install(wheel or build(python, work), *NEEDED)
        python.results = python.test("-n2", "--dist=loadgroup", CELLS, HANGS)
    except TROUBLE as error:
        print(error, flush=True)
        python.trouble = f"could not be looked at ({type(error).__name__})"
    print(f"-- {time.monotonic() - started:.0f} s", flush=True)


def look_again(python: Python, wheel: Path) -> None:
    """Whether the wheel of another builder works, too: the example that fails."""
    if python.trouble:
        return
    try:
        python.change_wheel(wheel)
        results = python.test(CELLS, "-k", "failure")
        python.other = "works" if results and all(results.values()) else "does not work"
    except TROUBLE as error:
        print(error, flush=True)
        python.other = "does not work"


def make_pythons(work: Path) -> tuple[list[Python], list[Python]]:
    """Return those of this machine, and those of root file systems, oldest first."""
    found = [(minor, find_interpreter(minor)) for minor in MINORS]
    here = [
        Python(program, "this machine", str(work / f"here-3.{minor}")) for minor, program in found if program
    ]
    there = []
    for release, programs in ROOTS.items():
        packages = ",".join(f"{program},{program}-venv" for program in programs)
        root = make_root(work / release, release, f"{packages},gdb,libc6-dbg")
        there += [Python(program, f"Debian {release}", f"/opt/{program}", root) for program in programs]
    return here, there


def main() -> None:
    """Look at all, print the table, and fail if anything in it has."""
    work = Path(sys.argv[1]).resolve()
    here, there = make_pythons(work)
    oldest, newest = here[0], there[-1]
    compiler = make_root(
        work / "compiler", "sid", f"{newest.program}-dev,{newest.program}-venv,gcc,libc6-dev"
    )
    by_oldest = build(oldest, work)
    by_newest = build(Python(newest.program, newest.source, newest.folder, compiler), work)
    for python in there:
        assert not [*python.see("/usr/bin").glob("*gcc*")], "it must do without a compiler"
    for python in (*here, *there):
        is_old = int(python.tag.partition(".")[2]) <= OLD
        look(python, work, by_newest if is_old else by_oldest, newest if is_old else oldest)
        look_again(python, by_oldest if is_old else by_newest)
    others = [
        Python(program, "Debian's source, `--disable-gil`", str(work / "free")) for program in sys.argv[2:]
    ]
    for python in others:
        look(python, work)
    pythons = sorted(
        [*here, *there, *others], key=lambda python: [int(n) for n in re.findall(r"\d+", python.tag)]
    )
    table = "\n".join([HEAD, *(python.row() for python in pythons)])
    print(table)
    if os.environ.get("GENCORE_WRITE_DOCS") == "1":
        PAGE.write_text(BLOCK.sub(lambda _: table, PAGE.read_text()))
    sys.exit(not all(python.is_right for python in pythons))


if __name__ == "__main__":
    main()
