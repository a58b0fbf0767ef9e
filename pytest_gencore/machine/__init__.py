"""What this host is and leaves: memory, disk, core_pattern, processes."""

from __future__ import annotations
