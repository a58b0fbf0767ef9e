"""The junit file: attaching archives, writing it in place of a pytest that died."""

from __future__ import annotations

from typing import Final

PROPERTY: Final = "gencore"
"""Name of the property of a test case whose value is the path of an archive."""
URL_PROPERTY: Final = "gencore_url"
"""Likewise, whose value is its URL in the store."""
