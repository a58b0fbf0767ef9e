"""Take typed values out of a decoded JSON object, as a dataclass declares them; errors name the field."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, Final, Literal, TypeVar

from pytest_gencore.archive.manifest import ABSOLUTE_PATH, PROGRAM_PATH
from pytest_gencore.archive.names import without_drive
from pytest_gencore.errors import ArchiveError

T = TypeVar("T")
_INTEGER_LIMIT: Final = 1 << 63
_ABSENT: Final = object()


class Fields:
    """A JSON object, read field by field. Every method raises ArchiveError; unknown fields are ignored."""

    def __init__(self, value: object, where: str = "", document: str = "the manifest") -> None:
        """``where`` is the name of the object in the document, empty for the document itself."""
        self._where = where
        self._document = document
        if not isinstance(value, dict):
            raise self._wrong(where or "the whole", "an object")
        self.values: dict[str, Any] = value

    def read(self, kind: type[T], **known: object) -> T:
        """Return an instance of a dataclass; its fields, but for those ``known``, are read by their types."""
        target: Any = kind
        for name, plain, is_needed, read in _readers(target):
            value = self.values.get(name, _ABSENT)
            if type(value) is plain:  # most are: texts of libraries and frames
                known[name] = value
            elif value is not _ABSENT or is_needed:
                known[name] = read(self, name)
        read_object: T = target(**known)
        return read_object

    def integer(self, name: str) -> int:
        """Return a whole number from 0 to 2**63 - 1."""
        return self._integer(name, 0)

    def _text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str):
            raise self._wrong(self._path(name), "a string")
        return value

    def _boolean(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise self._wrong(self._path(name), "true or false")
        return value

    def _integer(self, name: str, lowest: int) -> int:
        value = self._get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON does not tell 1 from 1.0
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value < _INTEGER_LIMIT:
            raise self._wrong(self._path(name), "a whole number" if lowest else "a whole number, 0 or more")
        return value

    def _number(self, name: str) -> float:
        value = self._get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _INTEGER_LIMIT:
            raise self._wrong(self._path(name), "a number, 0 or more")
        return float(value)

    def _absolute_path(self, name: str) -> str:
        """Return an absolute path that cannot leave the folder which it is put below."""
        path = self._text(name)
        if not is_safe_path(path):
            raise self._wrong(self._path(name), "an absolute path without '..'")
        return path

    def _program_path(self, name: str) -> str:
        """Return such a path, or one with a drive."""
        path = self._text(name)
        if not is_safe_path(without_drive(path)):
            raise self._wrong(self._path(name), "an absolute path without '..'")
        return path

    def _choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self._text(name)
        if value not in choices:
            raise self._wrong(self._path(name), " or ".join((", ".join(choices[:-1]), choices[-1])))
        return value

    def _optional(self, name: str, read: _Reader) -> Any:
        """Return None for null or a field that is not there."""
        return None if self.values.get(name) is None else read(self, name)

    def _list(self, name: str) -> list[Any]:
        values = self._get(name)
        if not isinstance(values, list):
            raise self._wrong(self._path(name), "a list")
        return values

    def _texts(self, name: str) -> tuple[str, ...]:
        values = self._list(name)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(self._path(name), "a list of strings")
        return tuple(values)

    def _objects(self, name: str, kind: type[T]) -> tuple[T, ...]:
        path = self._path(name)
        return tuple(
            Fields(value, f"{path}[{index}]", self._document).read(kind)
            for index, value in enumerate(self._list(name))
        )

    def _get(self, name: str) -> Any:
        if name not in self.values:
            message = f"{self._document} lacks {self._path(name)}"
            raise ArchiveError(message)
        return self.values[name]

    def _inner(self, name: str) -> Fields:
        return Fields(self._get(name), self._path(name), self._document)

    def _wrong(self, path: str, expected: str) -> ArchiveError:
        return ArchiveError(f"{path} of {self._document} is not {expected}")

    def _path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name


class _Reader(typing.Protocol):
    def __call__(self, fields: Fields, name: str, /) -> Any: ...


class _Field(typing.NamedTuple):
    name: str
    plain: type | None
    """A value of this very type is taken as it is."""
    is_needed: bool
    read: _Reader


@functools.cache
def _readers(kind: Any) -> list[_Field]:
    """Return the fields of a dataclass and how each is read."""
    hints = typing.get_type_hints(kind)
    return [
        _Field(
            field.name,
            _plain_of(hints[field.name], field),
            field.default is dataclasses.MISSING,
            _reader_of(hints[field.name], field),
        )
        for field in dataclasses.fields(kind)
        if field.metadata.get("json", True)
    ]


def _plain_of(hint: Any, field: dataclasses.Field[Any]) -> type | None:
    if typing.get_origin(hint) is types.UnionType:
        hint = typing.get_args(hint)[0]
    is_plain = hint in (str, bool) and field.metadata["pattern"] not in _PATHS
    return hint if is_plain else None


def _reader_of(hint: Any, field: dataclasses.Field[Any]) -> _Reader:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        inner = _reader_of(arguments[0], field)
        return lambda fields, name: fields._optional(name, inner)
    if origin is Literal:
        return lambda fields, name: fields._choice(name, arguments)
    if origin is tuple and arguments[0] is not str:
        return lambda fields, name: fields._objects(name, arguments[0])
    if dataclasses.is_dataclass(hint):
        kind: Any = hint
        return lambda fields, name: fields._inner(name).read(kind)
    if hint is int:
        return lambda fields, name: fields._integer(name, field.metadata["lowest"])
    return _PATHS.get(field.metadata["pattern"]) or _SIMPLE[hint]


_SIMPLE: Final[dict[Any, _Reader]] = {
    str: Fields._text,
    bool: Fields._boolean,
    float: Fields._number,
    tuple[str, ...]: Fields._texts,
}

_PATHS: Final[dict[str, _Reader]] = {
    ABSOLUTE_PATH: Fields._absolute_path,
    PROGRAM_PATH: Fields._program_path,
}
"""By pattern."""


def is_safe_path(path: str) -> bool:
    """Tell whether a path is absolute and has no ``..`` and no NUL."""
    return path.startswith("/") and ".." not in path.split("/") and "\0" not in path
