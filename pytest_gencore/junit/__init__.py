"""The junit file: attaching archives, writing it in place of a pytest that died."""

from __future__ import annotations
