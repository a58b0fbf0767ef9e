"""A capture that the handler of a deadline made: what ``watch`` finds and ``capturing`` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_gencore.capture import CaptureRequest
    from pytest_gencore.protocol import CaptureResult


class Fired:
    """A deadline has passed, and its handler captured, or could not."""

    def __init__(self, request: CaptureRequest, result: CaptureResult, *, in_debugger: bool) -> None:
        self.request = request
        self.result = result
        self.in_debugger = in_debugger

    @property
    def is_gencore(self) -> bool:
        """Whether our own timeout has passed, not the one of pytest-timeout."""
        return self.request.deadline_source == "gencore"
