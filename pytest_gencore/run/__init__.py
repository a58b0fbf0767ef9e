"""The run's hidden folder: where waiting processes and collectors meet."""

from __future__ import annotations
