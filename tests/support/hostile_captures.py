"""What tests of hostile states of the captured process and its helpers share."""

from __future__ import annotations

import os

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes what only root may change")
BOTH = pytest.mark.parametrize("method", ["memory", "kernel"])


# ---- the captured process -------------------------------------------------------------------------------

PLAIN = """
import ctypes, os, resource, signal, sys
from subjects import *
directory, method = sys.argv[1:3]
{before}
captures = Captures(directory)
{between}
captures.take(method=method)
{after}
report(outcomes=captures.finish())
"""
