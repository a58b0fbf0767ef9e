"""Take typed values out of a decoded JSON object; errors name the field."""

from __future__ import annotations

from typing import Any, Final

from pytest_gencore.errors import ArchiveError

_INTEGER_LIMIT: Final = 1 << 63


class Fields:
    """A JSON object, read field by field. Every method raises ArchiveError; unknown fields are ignored."""

    def __init__(self, value: object, where: str = "") -> None:
        """``where`` is the name of the object in the manifest, empty for the manifest itself."""
        if not isinstance(value, dict):
            raise _wrong(where or "the whole", "an object")
        self.values: dict[str, Any] = value
        self._where = where

    def text(self, name: str) -> str:
        """Return a string."""
        value = self._get(name)
        if not isinstance(value, str):
            raise _wrong(self._path(name), "a string")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None for null or a field that is not there."""
        return None if self.values.get(name) is None else self.text(name)

    def boolean(self, name: str) -> bool:
        """Return true or false."""
        value = self._get(name)
        if not isinstance(value, bool):
            raise _wrong(self._path(name), "true or false")
        return value

    def optional_boolean(self, name: str, *, default: bool) -> bool:
        """Return true or false, or the default for a field that is not there."""
        return self.boolean(name) if name in self.values else default

    def integer(self, name: str) -> int:
        """Return a whole number from 0 to 2**63 - 1."""
        value = self._get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON does not tell 1 from 1.0
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _INTEGER_LIMIT:
            raise _wrong(self._path(name), "a whole number, 0 or more")
        return value

    def optional_number(self, name: str) -> float | None:
        """Return a number from 0 to less than 2**63, or None for null or a field that is not there."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _INTEGER_LIMIT:
            raise _wrong(self._path(name), "a number, 0 or more")
        return float(value)

    def object(self, name: str) -> Fields:
        """Return an object."""
        return Fields(self._get(name), self._path(name))

    def objects(self, name: str) -> list[Fields]:
        """Return a list of objects."""
        return [Fields(value, f"{self._path(name)}[{index}]") for index, value in enumerate(self._list(name))]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise _wrong(self._path(name), "a list of strings")
        return tuple(values)

    def absolute_path(self, name: str) -> str:
        """Return an absolute path that cannot leave the folder which it is put below."""
        path = self.text(name)
        if not is_safe_path(path):
            raise _wrong(self._path(name), "an absolute path without '..'")
        return path

    def _get(self, name: str) -> Any:
        if name not in self.values:
            message = f"the manifest lacks {self._path(name)}"
            raise ArchiveError(message)
        return self.values[name]

    def _list(self, name: str) -> list[Any]:
        values = self._get(name)
        if not isinstance(values, list):
            raise _wrong(self._path(name), "a list")
        return values

    def _path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name


def is_safe_path(path: str) -> bool:
    """Tell whether a path is absolute and has no ``..`` and no NUL."""
    return path.startswith("/") and ".." not in path.split("/") and "\0" not in path


def _wrong(path: str, expected: str) -> ArchiveError:
    return ArchiveError(f"{path} of the manifest is not {expected}")
