"""The module that arms children: only where the extension of their parent fits."""

from __future__ import annotations

import marshal
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.capture import spawned

if TYPE_CHECKING:
    from pathlib import Path


def test_stable_abi_fits_all_builds_with_a_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "abiflags", "d")
    assert spawned.find_abi() == ()


def test_build_without_a_gil_has_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "abiflags", "t")
    assert spawned.find_abi() == sys.version_info[:2]


@pytest.mark.parametrize(("flags", "abi"), [("", (3, 13)), ("t", ()), ("t", (3, 9))])
def test_extension_of_another_build_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, abi: tuple[int, ...]
) -> None:
    """Its objects begin with something else: whatever it did would be a guess."""
    monkeypatch.setattr(sys, "abiflags", flags)
    (tmp_path / spawned.DATA).write_bytes(marshal.dumps({"abi": abi, "library": "of another build"}))
    with pytest.raises(ImportError, match="of another build"):
        spawned._arm(str(tmp_path))
