"""The options: one table, one resolver; precedence marker, command line, ini, default."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gencore.plugin import values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_gencore.request.model import Method, Threads

GROUP = "gencore"
DEFAULT_DIRECTORY = "gencore-artifacts"


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the option table."""

    name: str
    """Field of ``Settings``; the option is ``--gencore-NAME``, its ini twin ``gencore_NAME``."""
    default: object
    parse: Callable[[str], object]
    metavar: str
    help: str

    @property
    def flag(self) -> str:
        """Return the name on the command line."""
        return "--gencore-" + self.name.replace("_", "-")

    @property
    def ini(self) -> str:
        """Return the name in the ini file, which is also the destination of the command line option."""
        return "gencore_" + self.name


# Help texts start with a capital letter; a single phrase does not end with a period.
TABLE = (
    Option("dir", DEFAULT_DIRECTORY, values.parse_path, "DIR", "Directory of the archives, made when needed"),
    Option("method", "auto", values.parse_method, "{auto,crash,copy}", "Who writes the core: kernel or copy"),
    Option("threads", "all", values.parse_threads, "{all,calling}", "Threads that the core holds"),
    Option(
        "filter",
        0xFF,
        values.parse_core_filter,
        "BITS",
        "Kinds of memory that the core holds: coredump_filter bits of core(5)",
    ),
    Option(
        "timeout",
        None,
        values.parse_timeout,
        "TIME",
        "Capture a test that takes longer, such as 90s or 5m; it is not ended, see gencore_exit_on_timeout",
    ),
    Option(
        "max_cores",
        10,
        values.parse_count,
        "N",
        "Captures of one run, at most",
    ),
    Option(
        "max_size",
        4 * 1024**3,
        values.parse_size,
        "SIZE",
        "Size of all archives of one run, at most, such as 4GiB",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of a run, checked."""

    on_fail: bool
    dir: Path
    """Absolute."""
    method: Method
    threads: Threads
    filter: int
    timeout: float | None
    max_cores: int
    max_size: int
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """The gencore markers of a test, merged; None is what no marker says."""

    enabled: bool = True
    timeout: float | None = None
    method: Method | None = None
    threads: Threads | None = None


MARKER_FIELDS = tuple(field.name for field in dataclasses.fields(Marker))
MARKER_HELP = (
    f"{GROUP}(*, enabled=True, timeout=None, method=None, threads=None): "
    "make a core archive if the test fails; see pytest-gencore"
)


def add_options(parser: pytest.Parser) -> None:
    """Add all options and their ini twins."""
    group = parser.getgroup(GROUP, "core dumps of failing tests")
    on_fail_help = "Make a core archive of every test that fails"
    group.addoption(
        "--gencore-on-fail", action="store_true", default=None, dest="gencore_on_fail", help=on_fail_help
    )
    parser.addini("gencore_on_fail", on_fail_help, type="bool", default=None)
    parser.addini(
        "gencore_exit_on_timeout",
        "End the process after the capture of a test that takes longer than gencore_timeout",
        type="bool",
        default=False,
    )
    for option in TABLE:
        shown = hex(0xFF) if option.name == "filter" else option.default
        text = option.help
        if option.name == "max_size":
            shown = "4GiB"
        if shown is not None:
            text = f"{text} (default: {shown})"
        group.addoption(option.flag, default=None, dest=option.ini, metavar=option.metavar, help=text)
        parser.addini(option.ini, text, type="string", default=None)


def resolve_settings(config: pytest.Config) -> Settings:
    """Return the settings of the run; raises ``UsageError`` naming the source of a bad value."""
    fields: dict[str, Any] = {"on_fail": resolve_on_fail(config)}
    directory_base = config.rootpath
    for option in TABLE:
        text, source = find_text(config, option)
        if text is None:
            fields[option.name] = option.default
            continue
        fields[option.name] = parse_text(option, text, source)
        if option.name == "dir":
            directory_base = find_directory_base(config, source)
    fields["dir"] = directory_base / Path(fields["dir"]).expanduser()
    return Settings(**fields)


def resolve_on_fail(config: pytest.Config) -> bool:
    """Return whether every failing test is captured."""
    return bool(config.getoption("gencore_on_fail", None) or read_ini(config, "gencore_on_fail"))


def find_text(config: pytest.Config, option: Option) -> tuple[str | None, str]:
    """Return the value as written, and where; None if it is written nowhere."""
    text: str | None = config.getoption(option.ini, None)
    if text is not None:
        return text, f"command line {option.flag}"
    text = read_ini(config, option.ini)
    # An empty ini value is how people switch a setting off.
    return (text or None), f"ini {option.ini}"


def read_ini(config: pytest.Config, name: str) -> Any:
    """Return an ini value, None if not set."""
    try:
        return config.getini(name)
    except (TypeError, ValueError, pytest.UsageError) as error:
        message = f"gencore: {error} (from ini {name})"
        raise pytest.UsageError(message) from None


def parse_text(option: Option, text: str, source: str) -> object:
    """Return the value that a text means."""
    try:
        return option.parse(text)
    except ValueError as error:
        message = f"gencore: invalid {option.name} {text!r}: {error} (from {source})"
        raise pytest.UsageError(message) from None


def find_directory_base(config: pytest.Config, source: str) -> Path:
    """Return what a relative directory is relative to."""
    if source.startswith("command line"):
        return config.invocation_params.dir
    return config.inipath.parent if config.inipath else config.rootpath


def read_marker(item: pytest.Item) -> Marker | None:
    """Return the markers of a test merged, the nearest first; None without any.

    ``enabled`` is that of the nearest marker: a marker on a function switches on what a marker on its class
    switched off. Raises ``UsageError`` naming the test.
    """
    merged: dict[str, Any] = {}
    for mark in item.iter_markers(GROUP):
        fields = check_marker(mark, item.nodeid)
        merged = {**fields, **merged}
    return Marker(**merged) if merged else None


def check_marker(mark: pytest.Mark, nodeid: str) -> dict[str, Any]:
    """Return the checked keywords of one marker; always with ``enabled``."""
    where = f"(from marker on test {nodeid})"
    if mark.args:
        message = f"gencore: positional arguments are not allowed: {mark.args!r} {where}"
        raise pytest.UsageError(message)
    fields: dict[str, Any] = {"enabled": True}
    for name, value in mark.kwargs.items():
        if name not in MARKER_FIELDS:
            known = ", ".join(MARKER_FIELDS)
            message = f"gencore: unknown keyword {name!r}: expected one of {known} {where}"
            raise pytest.UsageError(message)
        if value is None and name != "enabled":
            continue
        try:
            fields[name] = MARKER_CHECKS[name](value)
        except ValueError as error:
            message = f"gencore: invalid {name} {value!r}: {error} {where}"
            raise pytest.UsageError(message) from None
    return fields


def check_enabled(value: object) -> bool:
    """Return a bool that is one."""
    if not isinstance(value, bool):
        raise ValueError("expected True or False")
    return value


MARKER_CHECKS: Mapping[str, Callable[[object], object]] = {
    "enabled": check_enabled,
    "timeout": values.check_timeout,
    "method": values.parse_method,
    "threads": values.parse_threads,
}


def apply_marker(settings: Settings, marker: Marker | None) -> Settings:
    """Return the settings of one test: those of the run, overridden by its marker."""
    if marker is None:
        return settings
    if not marker.enabled:
        return dataclasses.replace(settings, on_fail=False, timeout=None)
    changes: dict[str, Any] = {"on_fail": True}
    for name in ("timeout", "method", "threads"):
        value = getattr(marker, name)
        if value is not None:
            changes[name] = value
    return dataclasses.replace(settings, **changes)
