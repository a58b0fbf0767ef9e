"""Systems on which cores are made without the C extension: by which module, and how far that was tried."""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pytest_gencore.methods import CoreMethod

METHOD_REASON: Final = "the only one of this system"


class System(NamedTuple):
    """One of them."""

    module: str
    """Of ``portable``."""
    library: str
    """With what the name of the file begins that was built of its C code, beside the module."""
    method: CoreMethod
    has_all_registers: bool
    """Of all threads; False: only of the one that captures."""
    state: str
    """What is known of it."""
    help_text: str
    """How to have that file."""


SYSTEMS: Final = {
    "darwin": System(
        "macos",
        "_macos.",
        "kernel",
        has_all_registers=False,
        state="compiled, and its portable part tried on Linux; never run on macOS",
        help_text="with a C compiler: "
        "pip install --force-reinstall --no-binary pytest-gencore pytest-gencore",
    ),
    "win32": System(
        "windows",
        "gencore-minidump.",
        "memory",
        has_all_registers=True,
        state="run under Wine, but for snapshots, which it has not; never run on Windows",
        help_text="it is in the wheel for 64-bit Windows: pip install --force-reinstall pytest-gencore",
    ),
}
"""By ``sys.platform``."""


def find_system() -> System | None:
    """Return this one; None if no cores are made here without the extension."""
    return SYSTEMS.get(sys.platform)


@functools.cache
def find_library(system: System) -> str | None:
    """Return the file that was built of the C code of a system; None if nothing was."""
    folder = os.path.join(os.path.dirname(__file__), "portable")  # noqa: PTH118, PTH120 - as in ``installed``
    names = os.listdir(folder)  # noqa: PTH208
    found = (name for name in names if name.startswith(system.library))
    name = next(found, None)
    return None if name is None else os.path.join(folder, name)  # noqa: PTH118


def has_cores(*, seals: bool = False) -> bool:
    """Whether cores are made here without the extension; each attempt may still fail.

    ``seals``: archives are sealed. What is sealed never touches the disk as it is, and such a core does.
    """
    system = find_system()
    return not seals and system is not None and find_library(system) is not None
