"""Who uploads the archives of a run to a store."""

from __future__ import annotations

import pytest

from pytest_gencore.installed import NO_EXTENSION, has_extension
from pytest_gencore.plugin.isolated import find_isolated_command
from pytest_gencore.store.url import PACKAGES, kind_of, name_requirement


def find_upload_command(store: str) -> tuple[str, ...]:
    """Return the beginning of the command line of an upload; UsageError if a package is missing."""
    if not has_extension():
        message = f"gencore: archives cannot be uploaded: {NO_EXTENSION}"
        raise pytest.UsageError(message)
    kind = kind_of(store)

    def say_missing(name: str) -> str:
        return f"gencore: a store of kind {kind} needs {name}: pip install {name_requirement(name)}"

    return find_isolated_command("store.upload", ("fsspec", PACKAGES[kind]), say_missing, with_all=True)
