"""Tests marked ``slow`` run in CI, with ``GENCORE_THOROUGH=1``, and whenever files or tests are named.

``slow(rows=N)`` lets the first ``N`` rows of a table run always.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from counts import is_thorough

if TYPE_CHECKING:
    import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if is_thorough() or is_anything_named(config):
        return
    rows: collections.Counter[str] = collections.Counter()
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker("slow")
        table = item.nodeid.partition("[")[0]
        rows[table] += 1
        is_kept = mark is None or rows[table] <= mark.kwargs.get("rows", 0)
        (kept if is_kept else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def find_rows(test: str, request: pytest.FixtureRequest) -> set[str]:
    """Return the rows of a table in the test's module that are not left out, by their ids."""
    items = (item for item in request.session.items if item.path == request.path)
    names = (item.name.removesuffix("]").partition("[") for item in items)
    return {row for name, _, row in names if name == test}


def is_anything_named(config: pytest.Config) -> bool:
    """Return whether the command line selects files, tests, or the slow ones."""
    is_named = any(".py" in argument for argument in config.option.file_or_dir)
    return is_named or bool(config.option.keyword) or "slow" in config.option.markexpr
