"""Other hosts for the tests of the plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from other_hosts import Hosts, make_hosts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Return this host and another one; when all is over no process of a run is left there."""
    with make_hosts(tmp_path) as hosts:
        yield hosts
