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
    """Of ``portable``; its library begins with ``_`` and that name."""
    method: CoreMethod
    state: str
    """What is known of it."""


SYSTEMS: Final = {
    "darwin": System("macos", "kernel", "compiled, and its portable part tried on Linux; never run on macOS"),
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
    found = (name for name in names if name.startswith(f"_{system.module}."))
    name = next(found, None)
    return None if name is None else os.path.join(folder, name)  # noqa: PTH118


def has_cores(*, seals: bool = False) -> bool:
    """Whether cores are made here without the extension; each attempt may still fail.

    ``seals``: archives are sealed. What is sealed never touches the disk as it is, and such a core does.
    """
    system = find_system()
    return not seals and system is not None and find_library(system) is not None
