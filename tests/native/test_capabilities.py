"""CI may not skip what it is there for."""

from __future__ import annotations

from capabilities import missing_but_required


def test_nothing_that_is_required_is_missing() -> None:
    assert missing_but_required() == []
