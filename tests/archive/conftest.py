"""Where archives are written, and by which compressor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["isal", "zlib"])
def either_compressor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    kind: str = request.param
    if kind == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)
    return kind


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "archive.tar.gz"
