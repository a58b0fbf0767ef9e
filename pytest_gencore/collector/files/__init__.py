"""What goes beside the core: libraries, debug information, sources."""

from __future__ import annotations
