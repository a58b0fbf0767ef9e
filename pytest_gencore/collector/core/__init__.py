"""The core: from the snapshot's memory, or by the kernel."""

from __future__ import annotations
