"""What everything waited for, and who held it."""

from __future__ import annotations
