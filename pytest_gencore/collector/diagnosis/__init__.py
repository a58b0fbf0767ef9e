"""The diagnosis: what everything waits for, and who holds it; a verdict only where it was read."""

from __future__ import annotations
