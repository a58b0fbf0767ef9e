"""The system's side of it: descriptors, system calls, children, as they were at the capture."""

from __future__ import annotations
