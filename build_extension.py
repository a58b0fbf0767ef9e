"""Where the extension must compile: pyproject.toml can say that it may fail, but not where."""

from __future__ import annotations

import platform
import sys

from setuptools.command.build_ext import build_ext

MACHINES = ("x86_64", "aarch64")


class BuildExtension(build_ext):
    """Fail on a system that captures are made for; elsewhere install what reads archives."""

    def build_extensions(self) -> None:
        """Compile."""
        is_needed = sys.platform == "linux" and platform.machine() in MACHINES
        for extension in self.extensions:
            extension.optional = not is_needed
        super().build_extensions()
