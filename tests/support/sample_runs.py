"""Sample tests, and types of the fixtures that run pytest on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

RunGencore = Callable[..., pytest.RunResult]
"""``(*args, fake="", timeout=120)``"""
FindArchives = Callable[[], dict[str, Path]]

SAMPLE = """
    import pytest
    def test_ok(): pass
    def test_bad():
        marker_of_the_test = "here"
        assert marker_of_the_test == "there"
    def test_worse(): raise ValueError
"""
