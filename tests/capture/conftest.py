"""What tests of captures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kernel import settings_lock

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def plain_core_pattern() -> Iterator[None]:
    """Method kernel needs the pattern to stay."""
    with settings_lock(exclusive=False):
        yield
