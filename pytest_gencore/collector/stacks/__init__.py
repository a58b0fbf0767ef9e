"""Where every thread was: readers, and lines for people."""

from __future__ import annotations
