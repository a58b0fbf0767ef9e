"""Tests of a module with ``xdist_group`` run in one process, so that a fixture of module scope is made once.

pytest-xdist 3.8 tells the controller a group by changing the names of tests, which pytest 9.2 does not allow:
there ``--dist=loadgroup`` does nothing. So the controller looks into the modules itself.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

import pytest
from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from pathlib import Path

_MARK: Final = re.compile(
    r"^(?:@pytest\.mark\.|pytestmark = .*|    pytest\.mark\.)xdist_group\(", re.MULTILINE
)
"""Not those in the source of sample tests."""


class ModuleScheduling(LoadGroupScheduling):  # type: ignore[misc]
    """Modules with a group are whole; of the others each test is alone."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if has_group(self.config.rootpath / module) else str(super()._split_scope(nodeid))


@functools.cache
def has_group(module: Path) -> bool:
    """Return whether a test module has the mark."""
    return bool(_MARK.search(module.read_text()))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ModuleScheduling | None:
    """Take this one for ``--dist=loadgroup``."""
    return ModuleScheduling(config, log) if config.getoption("dist") == "loadgroup" else None
