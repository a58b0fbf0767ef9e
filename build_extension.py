"""What pyproject.toml cannot say of the extension: where it must compile, and what has no stable ABI."""

from __future__ import annotations

import platform
import re
import sys
import sysconfig

from setuptools import Extension
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

MACHINES = ("x86_64", "aarch64")
WINDOWS = "win_amd64"
HAS_STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")
"""Free-threaded CPython has no abi3 (Python.h refuses ``Py_LIMITED_API``): a wheel for each version."""
CORES_OF_MACOS = Extension(  # not in pyproject.toml, which says what every system builds
    "pytest_gencore.portable._macos",
    ["pytest_gencore/portable/csrc/macos.c"],
    extra_compile_args=["-std=gnu11", "-O2", "-g", "-fvisibility=hidden"],
    py_limited_api=True,
)
"""No module of Python: ``ctypes`` loads it."""


class BuildExtension(build_ext):
    """Fail on a system that captures are made for; elsewhere install what reads archives."""

    def finalize_options(self) -> None:
        """Add what makes cores on macOS; leave the stable ABI where there is none."""
        if sys.platform == "darwin" and CORES_OF_MACOS not in self.distribution.ext_modules:
            self.distribution.ext_modules.append(CORES_OF_MACOS)
        for extension in () if HAS_STABLE_ABI else self.distribution.ext_modules:
            extension.py_limited_api = False
            extension.define_macros = [
                macro for macro in extension.define_macros if macro[0] != "Py_LIMITED_API"
            ]
        super().finalize_options()

    def get_ext_filename(self, fullname: str) -> str:
        """Name a file as all versions of its wheel's tag find it: not as ``.abi3-PLATFORM.so``."""
        return re.sub(r"(?<=\.abi3)-[^.]+(?=\.so$)", "", super().get_ext_filename(fullname))

    def build_extensions(self) -> None:
        """Compile."""
        is_needed = sys.platform == "linux" and platform.machine() in MACHINES
        for extension in self.extensions:
            extension.optional = not is_needed
        super().build_extensions()


class BuildWheel(bdist_wheel):
    """Name the wheel after the ABI that it has."""

    def finalize_options(self) -> None:
        """Forget ``py-limited-api`` of pyproject.toml where there is none; for Windows the extension, too.

        That wheel has a program instead: see tests/support/windows_wheel.py.
        """
        is_for_windows = self.plat_name == WINDOWS
        if is_for_windows:
            self.distribution.ext_modules = []
        if is_for_windows or not HAS_STABLE_ABI:
            self.py_limited_api = False
        super().finalize_options()
