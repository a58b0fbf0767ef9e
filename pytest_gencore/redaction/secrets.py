"""Which environment variables hold secrets, by their names; and which values those are."""

from __future__ import annotations

import fnmatch
import functools
import re
import urllib.parse
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEAST_BYTES: Final = 8
"""Shorter values are not looked for: they occur by chance, and in ordinary words."""

HOOK: Final = "pytest_gencore_secrets"
"""Stands where the name of a variable stands otherwise, for the values that the hook returns."""

SECRET_NAMES: Final = (
    *("*token*", "*secret*", "*password*", "*passwd*", "*passphrase*", "*_pass", "*_psw", "*_pwd"),
    *("*api_key*", "*apikey*", "*access_key*", "*account_key*", "*deploy_key*", "*encryption_key*"),
    *("*master_key*", "*private_key*", "*session_key*", "*signing_key*", "*ssh_key*", "*storage_key*"),
    *("*_auth", "*auth_key*", "*authorization*", "*cookie*", "*credential*", "*_jwt*", "*webhook_url*"),
    *("*connection_string*", "*_dsn"),
)
"""Names of variables with secret values, as globs, in whatever case.

They cover what GitHub, GitLab, Azure, Jenkins, the large clouds and the package indexes define.
"""
PLAIN_NAMES: Final = (
    "*_file",
    "*_path",
    "*_dir",
    "*_sock",
    "*_ttl",
    "*_expires*",
    "*_url",
    "*_uri",
    "*_endpoint",
)
"""Names of variables that say where a secret is, or how long it holds, and win over the ones before."""
_ALWAYS: Final = ("*webhook_url*",)
_SPECIAL: Final = frozenset("*?[")
_AFTER_USER: Final = r"://[^\s/@:]*:([^\s/@]+)@"


class Secrets(NamedTuple):
    """Values to be overwritten."""

    values: dict[str, set[str]]
    """By the name of the variable, or of the hook; undecodable bytes as by ``surrogateescape``."""
    too_short: tuple[str, ...]
    """Names of variables whose values are not looked for."""


def is_secret(name: str, value: str, more: tuple[str, ...] = (), kept: tuple[str, ...] = ()) -> bool:
    """Tell whether a variable has a secret value; ``more`` and ``kept`` are globs of names.

    Credentials are often files, as Google's: their path is none.
    """
    is_path = "credential" in name.lower() and value.startswith("/")
    return is_secret_name(name, more, kept) and not is_path


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str, more: tuple[str, ...] = (), kept: tuple[str, ...] = ()) -> bool:
    """Tell whether the name of a variable is one of those with secret values."""
    lower = name.lower()
    if _matches(lower, kept):
        return False
    if _matches(lower, more) or _matches(lower, _ALWAYS):
        return True
    return _matches(lower, SECRET_NAMES) and not _matches(lower, PLAIN_NAMES)


def find_secrets(
    variables: Iterable[tuple[str, str]],
    given: Mapping[str, Iterable[str]],
    *,
    more: tuple[str, ...] = (),
    kept: tuple[str, ...] = (),
) -> Secrets:
    """Return the secret values of variables, which may occur more than once, and those that are ``given``.

    A value of several lines counts as each of them, too, as that of a key in PEM. The password in a URL is
    one, whatever the variable's name.
    """
    found: dict[str, set[str]] = {name: set(values) for name, values in given.items()}
    for name, value in variables:
        if _matches(name.lower(), kept):
            continue
        if is_secret(name, value, more, kept):
            found.setdefault(name, set()).add(value)
        for password in re.findall(_AFTER_USER, value):
            found.setdefault(name, set()).update((password, urllib.parse.unquote(password)))
    too_short = []
    for name, values in found.items():
        all_of_it = {part for value in values for part in (value, *value.splitlines())}
        found[name] = {value for value in all_of_it if len(encode(value)) >= LEAST_BYTES}
        if any(value and len(encode(value)) < LEAST_BYTES for value in values):
            too_short.append(name)
    return Secrets({name: values for name, values in found.items() if values}, tuple(sorted(too_short)))


def encode(value: str) -> bytes:
    """Return the bytes of a value as they are in an environment."""
    return value.encode("utf-8", "surrogateescape")


class _Globs:
    """Globs of names, sorted by what it takes to match them: a regular expression takes long to be made."""

    def __init__(self, globs: Iterable[str]) -> None:
        self._inside: list[str] = []
        self._others: list[str] = []
        ends: list[str] = []
        for glob in map(str.lower, globs):
            text = glob.strip("*")
            if glob in {f"*{text}*", f"*{text}"} and _SPECIAL.isdisjoint(text):
                (self._inside if glob.endswith("*") else ends).append(text)
            else:
                self._others.append(glob)
        self._ends = tuple(ends)

    def match(self, name: str) -> bool:
        """Tell whether one of them does, of a name in lower case."""
        return (
            any(map(name.__contains__, self._inside))
            or name.endswith(self._ends)
            or any(fnmatch.fnmatchcase(name, glob) for glob in self._others)
        )


_compile = functools.lru_cache(_Globs)


def _matches(name: str, globs: tuple[str, ...]) -> bool:
    return _compile(globs).match(name)
