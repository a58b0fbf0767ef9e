"""How a capture ends, and who is told."""

from __future__ import annotations
