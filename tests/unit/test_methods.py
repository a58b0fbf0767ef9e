"""The names of the methods, where functions are given one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore import api, collect_core, create_core

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("function", [collect_core, create_core])
def test_functions_take_old_names(
    function: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(api, "start_capture", lambda _, wanted: asked.append(wanted.method))

    for name in ("auto", "memory", "kernel", "copy", "crash"):
        function(tmp_path, method=name)

    assert asked == ["auto", "memory", "kernel", "memory", "kernel"]


@pytest.mark.parametrize("name", ["gdb", "", None, ["kernel"]])
def test_functions_refuse_other_names(tmp_path: Path, name: Any) -> None:
    with pytest.raises(ValueError, match="expected auto, kernel or memory"):
        create_core(tmp_path, method=name)

    assert not list(tmp_path.iterdir())
