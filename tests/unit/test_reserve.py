"""Descriptors of ours have numbers that nobody counts on."""

from __future__ import annotations

import os
import resource

from pytest_gencore.plugin.reserve import duplicate


def test_duplicate() -> None:
    copy = duplicate(2)
    os.close(copy)
    assert copy >= 32


def test_duplicate_where_the_limit_is_low() -> None:
    lowest = os.dup(2)
    os.close(lowest)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, before[1]))
    try:
        copy = duplicate(2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    os.close(copy)
    assert copy == lowest
