"""The errors of pytest-gencore: each says what happened and what would help."""

from __future__ import annotations


class GencoreError(Exception):
    """Base of every error that this package raises on purpose."""

    def __init__(self, message: str, *, help_text: str = "") -> None:
        super().__init__(message)
        self.help_text = help_text
        """What the reader can do about it; empty if nothing is known."""

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.help_text})" if self.help_text else message


class UnavailableError(GencoreError):
    """Captures cannot be made with this machine or this build."""


class CaptureError(GencoreError):
    """One capture failed; the captured process is unharmed."""


class ArchiveError(GencoreError):
    """An archive cannot be made, read or unpacked."""


class NoSpaceError(GencoreError):
    """A capture would take room on the disk that captures leave free."""


class AlreadyCapturedError(CaptureError):
    """The test has an archive of this run already."""


class LimitError(CaptureError):
    """The run has as many captures, or as large archives, as it may have."""


class StoreError(ArchiveError):
    """A store cannot be read."""


def describe_error(error: BaseException) -> str:
    """Return what happened and what would help, on one line."""
    if isinstance(error, (GencoreError, OSError)):
        return _find_text(error)
    return f"unexpected {name_error(error)}"


def name_error(error: BaseException) -> str:
    """Return the type of a foreign error and its text, on one line."""
    text = _find_text(error)
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def _find_text(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the text of a foreign exception can raise anything
        return ""
