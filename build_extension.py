"""What pyproject.toml cannot say of the extension: where it must compile, and what has no stable ABI."""

from __future__ import annotations

import platform
import re
import sys
import sysconfig

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

MACHINES = ("x86_64", "aarch64")
WINDOWS = "win_amd64"
HAS_STABLE_ABI = not sysconfig.get_config_var("Py_GIL_DISABLED")
"""Free-threaded CPython has no abi3 (Python.h refuses ``Py_LIMITED_API``): a wheel for each version."""


class BuildExtension(build_ext):
    """Fail on a system that captures are made for; elsewhere install what reads archives."""

    def finalize_options(self) -> None:
        """Leave the stable ABI where there is none."""
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
