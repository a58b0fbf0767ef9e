"""What a capture is asked to do, and what its collector is told: typed, in one place."""

from __future__ import annotations
