"""Stores as fsspec opens them: options, and what its errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.errors import StoreError
from pytest_gencore.store.url import PACKAGES, kind_of, name_requirement
from pytest_gencore.texts import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

CONNECTIONS: Final = 32
"""How many requests can be under way."""
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_OPTIONS: Final[Mapping[str, dict[str, Any]]] = {
    "s3": {
        "config_kwargs": {
            "max_pool_connections": CONNECTIONS,
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
            "retries": {"max_attempts": 1},  # we try again ourselves, and know for how long
        },
        "use_listings_cache": False,
    },
    "file": {"auto_mkdir": False},
}
"""What is passed to fsspec for each kind; credentials and the rest are those of its configuration."""
_FINAL: Final = (PermissionError, FileNotFoundError, NotADirectoryError, ImportError, ValueError, TypeError)
_FINAL_NAMES: Final = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "CredentialRetrievalError"}
)
"""Of botocore: botocore.exceptions."""
_TIMEOUT_NAMES: Final = frozenset({"TimeoutError", "ConnectTimeoutError", "ReadTimeoutError"})
"""Of Python, whose asyncio has one of its own before 3.11, and of botocore."""
_BUSY: Final = frozenset({408, 429})
_LENGTH: Final = 300


def open_store(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL, and the path in it; raises what fsspec raises."""
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    kind = kind_of(url)
    options = dict(_OPTIONS.get(kind, {}))
    if "config_kwargs" in options:  # fsspec would take ours in place of those of its configuration
        options["config_kwargs"] = {**options["config_kwargs"], **conf.get(kind, {}).get("config_kwargs", {})}
    files, path = url_to_fs(url, skip_instance_cache=True, **options)
    return files, str(path)


def is_final(error: BaseException) -> bool:
    """Whether trying again would not help: the store has answered, or there is nothing to ask it with."""
    if isinstance(error, _FINAL) or type(error).__name__ in _FINAL_NAMES:
        return True
    status = _status_of(error) or (_status_of(error.__cause__) if error.__cause__ else 0)
    return 400 <= status < 500 and status not in _BUSY


def is_timeout(error: BaseException) -> bool:
    """Whether a store has been waited for as long as a request may take."""
    return not _TIMEOUT_NAMES.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def describe_error(error: BaseException) -> str:
    """Return what went wrong, in one line."""
    text = printable(" ".join(str(error).split()), _LENGTH)
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    if isinstance(error, FileNotFoundError):
        return f"it is not there: {text}"
    if isinstance(error, PermissionError):
        return f"access is denied: {text}"
    return text or type(error).__name__


def as_store_error(url: str, error: BaseException) -> StoreError:
    """Return the error that users see."""
    if isinstance(error, ImportError):
        needed = name_requirement(PACKAGES[kind_of(url)])
        return StoreError(describe_error(error), help_text=f"pip install {needed}")
    return StoreError(describe_error(error))


def _status_of(error: BaseException) -> int:
    """Return the status of an HTTP answer, as botocore's ``ClientError`` has it; 0 without one."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return 0
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status if isinstance(status, int) else 0
