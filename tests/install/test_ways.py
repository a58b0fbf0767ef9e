"""A collector starts whichever way the package was installed or found."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from gencore_archives import find_left, read_manifest
from kernel import settings_lock, wait_until
from process_state import processes_in
from wheels import ROOT, build_wheel, clean_environment, copy_sources, run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


def can_build() -> bool:
    """Tell whether the running environment has what ``build-system`` asks for; nothing is downloaded."""
    try:
        return int(metadata.version("setuptools").partition(".")[0]) >= 77
    except metadata.PackageNotFoundError:
        return False


pytestmark = pytest.mark.skipif(
    not can_build() and os.environ.get("GENCORE_REQUIRE_ALL") != "1",  # CI must be able to: there it fails
    reason="builds the package: needs setuptools 77 or newer",
)

SAMPLE = """
import os
from pathlib import Path
import pytest_gencore

def test_fails():
    Path({where!r}).write_text(pytest_gencore.__file__)
    os.chdir("/")
    os.environ.clear()
    assert False
"""
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment; what the package needs comes from the running one."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def packages(self) -> Path:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return self.folder / "lib" / version / "site-packages"


def make_environment(folder: Path, *requirements: str | Path) -> Environment:
    environment = Environment(folder)
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    if requirements:
        options = [
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
        ]
        environment.packages.joinpath("needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        run(sys.executable, "-m", "pip", "--python", environment.python, "install", *options, *requirements)
    environment.packages.joinpath("needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return environment


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "main"
    copy_sources(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return make_environment(tmp_path_factory.mktemp("wheel-environment") / "env", wheel)


@pytest.fixture(scope="module")
def editable(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return make_environment(tmp_path_factory.mktemp("editable-environment") / "env", "--editable", source)


def assert_captures(
    tmp_path: Path, command: Sequence[str | Path], package: Path, environment: dict[str, str] | None = None
) -> None:
    """Run a failing test with this Python; its package must be the expected one, its archive finished."""
    where = tmp_path / "where"
    sample = tmp_path / "test_sample.py"
    sample.write_text(SAMPLE.format(where=str(where)))
    with settings_lock(exclusive=False):
        result = subprocess.run(
            [*command, "-p", "no:cacheprovider", "--gencore-on-fail", sample],
            timeout=60,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**clean_environment(), **(environment or {})},
        )
    output = result.stdout + result.stderr
    assert result.returncode == 1, output
    assert Path(where.read_text()).parent == package
    (archive,) = find_left(tmp_path / "gencore-artifacts")
    assert re.fullmatch(r"core_\d{8}\.\d{6}\.\d+\.001\.tar\.gz", archive.name), output
    assert read_manifest(archive)["nodeid"] == "test_sample.py::test_fails"
    assert "Fatal Python error" not in output
    wait_until(lambda: not processes_in(tmp_path), "the collector has ended")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "pytest"],
        ["-I", "-m", "pytest"],
        ["-c", "import sys, pytest; sys.exit(pytest.main())"],
        ["-B", "-O", "-X", "utf8", "-m", "pytest"],
    ],
    ids=["module", "isolated", "main", "options"],
)
def test_wheel(installed: Environment, tmp_path: Path, arguments: list[str]) -> None:
    assert_captures(tmp_path, [installed.python, *arguments], installed.packages / "pytest_gencore")


@pytest.mark.slow
def test_environment_found_by_a_relative_path(installed: Environment, tmp_path: Path) -> None:
    python = os.path.relpath(installed.python, tmp_path)

    assert_captures(tmp_path, [python, "-m", "pytest"], installed.packages / "pytest_gencore")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_wheel_in_a_read_only_environment(installed: Environment, tmp_path: Path) -> None:
    mount: list[str | Path] = ["unshare", "--mount", "sh", "-c", READ_ONLY, installed.folder]

    assert_captures(
        tmp_path, [*mount, installed.python, "-m", "pytest"], installed.packages / "pytest_gencore"
    )


@pytest.mark.slow
def test_editable(editable: Environment, source: Path, tmp_path: Path) -> None:
    assert_captures(tmp_path, [editable.python, "-m", "pytest"], source / "pytest_gencore")


@pytest.mark.slow
def test_python_path_only(editable: Environment, source: Path, tmp_path: Path) -> None:
    """Not installed at all: the extension is built in the tree, the plugin is named."""
    assert list((source / "pytest_gencore" / "capture").glob("_native*.so")), (
        "built by the editable installation"
    )
    bare = make_environment(tmp_path / "env")
    variables = {"PYTHONPATH": str(source), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command: list[str | Path] = [bare.python, "-m", "pytest", "-p", "pytest_gencore.plugin"]
    folder = tmp_path / "work"
    folder.mkdir()

    assert_captures(folder, command, source / "pytest_gencore", variables)


@pytest.mark.slow
def test_python_path_relative_to_a_folder_that_is_left(
    editable: Environment, source: Path, tmp_path: Path
) -> None:
    bare = make_environment(tmp_path / "env")
    folder = tmp_path / "work"
    folder.mkdir()
    variables = {"PYTHONPATH": os.path.relpath(source, folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command: list[str | Path] = [bare.python, "-m", "pytest", "-p", "pytest_gencore.plugin"]

    assert_captures(folder, command, source / "pytest_gencore", variables)


@pytest.mark.slow
def test_files_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()

    assert re.search(r"-cp310-abi3-linux_\w+\.whl$", wheel.name)
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"pytest_gencore"}
    assert "pytest_gencore/py.typed" in names
    assert "pytest_gencore/capture/_native.pyi" in names
    assert "pytest_gencore/capture/_native.abi3.so" in names
    assert not [name for name in names if "csrc" in name or "tests" in name or name.endswith((".c", ".h"))]
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "pytest_gencore").rglob("*.py")
        if "csrc" not in path.parts
    }
    assert {name for name in names if name.endswith(".py")} == modules
    assert [name for name in names if name.endswith("/licenses/LICENSE")]


@pytest.mark.slow
def test_an_extension_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    """An install without captures would look like a good one."""
    copy_sources(tmp_path / "broken")
    with (tmp_path / "broken/pytest_gencore/capture/csrc/engine.c").open("a") as file:
        file.write("#error broken\n")
    with pytest.raises(AssertionError, match="error broken"):
        build_wheel(tmp_path / "broken", tmp_path / "wheel")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("build_extension")


def make_command(build: ModuleType) -> Any:
    macros = [("Py_LIMITED_API", "0x030a0000"), ("_GNU_SOURCE", "1")]
    setuptools = pytest.importorskip("setuptools")
    extension = setuptools.Extension(
        "package._native", ["native.c"], define_macros=macros, py_limited_api=True
    )
    return build.BuildExtension(setuptools.Distribution({"ext_modules": [extension]}))


@pytest.mark.parametrize("has_gil", [True, False])
def test_stable_abi_is_left_where_there_is_no_gil(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, has_gil: bool
) -> None:
    monkeypatch.setattr(build, "HAS_STABLE_ABI", has_gil)
    command = make_command(build)
    command.finalize_options()
    (extension,) = command.extensions
    assert extension.py_limited_api is has_gil
    assert ("Py_LIMITED_API" in dict(extension.define_macros)) is has_gil
    assert dict(extension.define_macros)["_GNU_SOURCE"] == "1"
    wheel = build.BuildWheel(command.distribution)
    wheel.py_limited_api = "cp310"
    wheel.finalize_options()
    assert wheel.py_limited_api == ("cp310" if has_gil else False)


def test_macos_builds_what_makes_cores(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, however often the command is prepared; from a file that is there."""
    monkeypatch.setattr(build, "sys", SimpleNamespace(platform="darwin"))
    command = make_command(build)
    command.finalize_options()
    build.BuildExtension(command.distribution).finalize_options()
    (_, cores) = command.distribution.ext_modules
    assert command.get_ext_filename(cores.name) == "pytest_gencore/portable/_macos.abi3.so"
    assert [(ROOT / source).is_file() for source in cores.sources] == [True]


def test_file_that_the_newest_python_builds_is_found_by_the_oldest(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """setuptools puts the platform into the name where CPython 3.15 or newer builds."""
    module = importlib.import_module("setuptools.command.build_ext")
    monkeypatch.setattr(module, "get_abi3_suffix", lambda: ".abi3-x86_64-linux-gnu.so")
    command = make_command(build)
    command.finalize_options()
    assert command.get_ext_filename("package._native") == "package/_native.abi3.so"


@pytest.mark.parametrize(
    ("system", "machine", "is_optional"),
    [
        ("linux", "x86_64", False),
        ("linux", "aarch64", False),
        ("linux", "riscv64", True),
        ("darwin", "x86_64", True),
    ],
)
def test_extension_may_fail_only_where_nothing_can_be_captured(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, is_optional: bool
) -> None:
    monkeypatch.setattr(build.sys, "platform", system)
    monkeypatch.setattr(build.platform, "machine", lambda: machine)
    monkeypatch.setattr(build.build_ext, "build_extensions", lambda _: None)
    command = make_command(build)
    command.extensions = command.distribution.ext_modules
    command.build_extensions()
    assert [extension.optional for extension in command.extensions] == [is_optional]


@pytest.mark.slow
def test_the_source_distribution_can_be_built(tmp_path: Path) -> None:
    copy_sources(tmp_path / "source")
    make = "import os, sys, setuptools.build_meta as m; os.chdir(sys.argv[1]); m.build_sdist(sys.argv[2])"
    run(sys.executable, "-c", make, tmp_path / "source", tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    assert build_wheel(archive, tmp_path / "wheel").suffix == ".whl"
