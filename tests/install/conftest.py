"""Where archives are made, and the other machine on which they are opened."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from interpreters import find_interpreter
from other_root import INSTALLED, PACKAGES, RELEASES, OtherRoot, download, make_root
from wheels import build_wheel, copy_sources, run

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTENSION = """
#include <Python.h>
static __attribute__((noinline)) PyObject *call_inner(PyObject *function)
{
    PyObject *result = PyObject_CallNoArgs(function);
    __asm__ volatile("" ::: "memory"); /* no tail call */
    return result;
}
static PyObject *call_outer(PyObject *self, PyObject *function)
{
    PyObject *result = call_inner(function);
    __asm__ volatile("" ::: "memory");
    return result;
}
static PyMethodDef methods[] = {{"call", call_outer, METH_O, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "subject_extension", NULL, -1, methods};
PyMODINIT_FUNC PyInit_subject_extension(void) { return PyModule_Create(&module); }
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source") / "main"
    copy_sources(source)
    return build_wheel(source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def other_root(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherRoot]:
    """Make it, install the wheel there, and remove it: it takes more than half a GiB."""
    folder = tmp_path_factory.mktemp("other") / "root"
    here = platform.freedesktop_os_release().get("VERSION_CODENAME")
    release = next(name for name in RELEASES if name != here)
    try:
        root = make_root(folder, release, PACKAGES)
        packages = tmp_path_factory.mktemp("packages")
        show = "import sys; print('%d.%d' % sys.version_info[:2])"
        download(packages, root.run("python3", "-c", show).strip(), f"{wheel}[cli,stacks]")
        shutil.copytree(packages, folder / "tmp" / "packages")
        root.run("python3", "-m", "venv", INSTALLED)
        options = ["--quiet", "--no-index", "--find-links", "/tmp/packages"]
        root.run(f"{INSTALLED}/bin/pip", "install", *options, "pytest-gencore[cli,stacks]")
        yield root
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", params=(10, 11, 12, 13), ids=lambda minor: f"3.{minor}")
def environment(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a virtual environment of one Python, with the wheel, pystack and a C extension."""
    interpreter = find_interpreter(request.param)
    if interpreter is None:
        pytest.skip(f"no CPython 3.{request.param}")
    folder = tmp_path_factory.mktemp(f"environment-3.{request.param}") / "env"
    run(interpreter, "-m", "venv", folder)
    run(folder / "bin" / "pip", "install", "--quiet", f"{wheel}[cli,stacks]", timeout=600)
    show = "import sysconfig; print(*map(sysconfig.get_path, ('include', 'platlib')), sep='\\n')"
    headers, packages = run(folder / "bin" / "python", "-c", show).splitlines()
    source = folder / "subject_extension.c"
    source.write_text(EXTENSION)
    options = ["-g", "-O2", "-shared", "-fPIC", f"-I{headers}"]
    run("gcc", *options, source, "-o", Path(packages, "subject_extension.abi3.so"))
    return folder
