"""The snapshot, and what is known of the captured process."""

from __future__ import annotations
