"""URLs of stores, and of what is in them: ``STORE/RUN/NAME``. Nothing of fsspec is imported here."""

from __future__ import annotations

from typing import Final

PACKAGES: Final = {"file": "fsspec", "s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
"""What fsspec needs for each kind of store: filesystem-spec.readthedocs.io, "Other Known Implementations"."""
_OF_THE_EXTRA: Final = frozenset({"fsspec", "s3fs"})
EXPECTED: Final = "expected a URL such as s3://BUCKET/FOLDER, gs://..., az://... or file:///FOLDER"
_MARK: Final = "://"
_NO_FOLDER: Final = frozenset({"", ".", ".."})


def is_url(text: str) -> bool:
    """Whether a text is meant as a URL, not as a path."""
    return _MARK in text


def kind_of(url: str) -> str:
    """Return which kind of store a URL is of: a key of ``PACKAGES``."""
    return url.partition(_MARK)[0]


def name_requirement(package: str) -> str:
    """Return what has to be installed where one of these packages is missing, as for a shell."""
    return "'pytest-gencore[store]'" if package in _OF_THE_EXTRA else package


def parse_url(text: str) -> str:
    """Return the URL of a store, or of something in it, without a slash at its end.

    Raises ValueError, whose message shows nothing of the text: there may be a password in it.
    """
    kind, mark, rest = text.partition(_MARK)
    if "@" in rest:
        raise ValueError("a URL with a user or a password: credentials come from the environment")
    if not mark or kind not in PACKAGES:
        raise ValueError(EXPECTED)
    root = rest.rstrip("/")
    inner = root.removeprefix("/") if kind == "file" else root
    if kind == "file" and not root.startswith("/"):
        raise ValueError("expected an absolute path: file:///FOLDER")
    if not _NO_FOLDER.isdisjoint(inner.split("/")) or not root.isprintable() or not _is_plain(root):
        raise ValueError(EXPECTED)
    return f"{kind}{_MARK}{root}"


def join(url: str, *parts: str) -> str:
    """Return the URL of what is in a store."""
    return "/".join((url, *parts))


def _is_plain(text: str) -> bool:
    """Whether no other program takes a part of it for something else: queries, chains of fsspec, globs."""
    return not any(mark in text for mark in ("::", "?", "#", "*", "[", "]", "\\"))
