"""The run's folder."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from pytest_gencore.run.folder import remove_folder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", [".fuse_hidden0000000300000001", ".nfs000000000000002a00000001"])
def test_removed_files_that_are_kept_until_their_last_close(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    kept = folder / name
    kept.touch()

    closing = threading.Timer(0.05, kept.unlink)
    closing.start()
    remove_folder(folder)
    closing.join()

    assert not folder.exists()


def test_folder_that_others_use(tmp_path: Path) -> None:
    (tmp_path / "other").touch()

    with pytest.raises(OSError, match="not empty"):
        remove_folder(tmp_path)

    assert (tmp_path / "other").exists()
