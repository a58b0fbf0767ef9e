"""Types of the fixtures that run pytest on sample files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

RunGencore = Callable[..., pytest.RunResult]
"""``(*args, fake="", timeout=120)``"""
FindArchives = Callable[[], dict[str, Path]]
