"""The settings: what options and markers mean; precedence marker, command line, ini, default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import pytest

from pytest_gencore import units
from pytest_gencore.contents import parse_dump_type, parse_environment, parse_libraries
from pytest_gencore.methods import parse_method
from pytest_gencore.plugin import values
from pytest_gencore.plugin.options import GROUP, TABLE, Option, find_text, has_marker, resolve_on_fail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_gencore.ci.systems import Target
    from pytest_gencore.contents import DumpType, Environment, Libraries
    from pytest_gencore.methods import Method
    from pytest_gencore.request.model import Children, Moment, SlowNotice, Threads
    from pytest_gencore.texts import Folders

BAZEL_DIRECTORY = "TEST_UNDECLARED_OUTPUTS_DIR"
"""What Bazel keeps of a test: bazel.build/reference/test-encyclopedia."""
ExceptionTypes: TypeAlias = tuple[type[BaseException], ...]

PARSERS: Mapping[str, Callable[[str], object]] = {
    "dir": values.parse_path,
    "method": parse_method,
    "type": parse_dump_type,
    "threads": values.parse_threads,
    "filter": values.parse_core_filter,
    "libraries": parse_libraries,
    "timeout": values.parse_timeout,
    "session_timeout": values.parse_timeout,
    "grace": units.parse_duration,
    "interrupt_after": units.parse_duration,
    "capture_memory": values.parse_percent,
    "children": values.parse_children,
    "moment": values.parse_moment,
    "slow_notice": values.parse_slow_notice,
    "redact": values.parse_switch,
    "redact_env": values.parse_globs,
    "keep_env": values.parse_globs,
    "env": parse_environment,
    "recipient": values.parse_lines,
    "clear_text": values.parse_switch,
    "ci": values.parse_ci,
    "html": values.parse_switch,
    "store": values.parse_store,
    "max_cores": values.parse_count,
    "max_size": values.parse_size,
}
"""Of the options of ``TABLE``."""

_DEFAULTS: Mapping[str, object] = {
    "redact": True,
    "clear_text": True,
    "html": False,
    "recipient": (),
    "store": "",
    "redact_env": (),
    "keep_env": (),
}
"""Where the table has what help texts show."""


class Settings(NamedTuple):
    """All settings of a run, checked."""

    on_fail: bool
    dir: Path
    """Absolute."""
    method: Method
    type: DumpType
    threads: Threads
    filter: int
    libraries: Libraries
    timeout: float | None
    session_timeout: float | None
    grace: float
    """Seconds."""
    interrupt_after: float
    """Seconds."""
    capture_memory: float | None
    """Percent."""
    children: Children
    slow_notice: SlowNotice
    moment: Moment
    redact: bool
    redact_env: tuple[str, ...]
    keep_env: tuple[str, ...]
    env: Environment
    recipient: tuple[str, ...]
    """Public keys, as age and SSH write them."""
    clear_text: bool
    ci: str
    """As ``ci.systems.find_target`` takes it."""
    html: bool
    store: str
    """A URL; empty: none."""
    max_cores: int
    max_size: int
    """Bytes."""
    raises: ExceptionTypes = ()
    """What is captured when it is raised; empty: ``AssertionError`` and that of ``pytest.fail``."""

    @property
    def watches(self) -> bool:
        """Whether the process takes notice of what runs."""
        return bool(self.on_fail or self.timeout or self.capture_memory)

    @property
    def page_command(self) -> tuple[str, ...]:
        """The command that makes pages; empty if none are wanted. Raises ``UsageError``."""
        if not self.html:
            return ()
        from pytest_gencore.plugin.pages import find_page_command  # few runs need it

        return find_page_command()

    @property
    def upload_command(self) -> tuple[str, ...]:
        """The command that uploads; empty without a store. Raises ``UsageError``."""
        if not self.store:
            return ()
        from pytest_gencore.plugin.stores import find_upload_command  # few runs need it

        return find_upload_command(self.store)

    def of_a_request(self) -> dict[str, Any]:
        """Return what of them goes into each ``CaptureRequest``, by the names of its fields."""
        return {
            "method": self.method,
            "threads": self.threads,
            "core_filter": self.filter,
            "type": self.type,
            "libraries": self.libraries,
            "dumps_children": self.children == "dump",
        }


class Marker(NamedTuple):
    """The gencore markers of a test, merged; None is what no marker says."""

    enabled: bool = True
    timeout: float | None = None
    method: Method | None = None
    type: DumpType | None = None
    threads: Threads | None = None
    moment: Moment | None = None
    raises: ExceptionTypes | None = None


MARKER_FIELDS = Marker._fields


def resolve_settings(config: pytest.Config) -> Settings:
    """Return the settings of the run; raises ``UsageError`` naming the source of a bad value."""
    fields: dict[str, Any] = {"on_fail": resolve_on_fail(config)}
    directory_base = config.rootpath
    for option in TABLE:
        text, source = find_text(config, option)
        if text is None:
            fields[option.name] = _DEFAULTS.get(option.name, option.default)
            continue
        fields[option.name] = parse_text(option, text, source)
        if option.name == "dir":
            directory_base = find_directory_base(config, source)
        elif option.name == "recipient":
            from pytest_gencore.plugin.recipients import resolve_recipients  # few runs need it

            base = find_directory_base(config, source)
            fields["recipient"] = resolve_recipients(config, fields["recipient"], base, source)
    if find_text(config, TABLE[0])[0] is None and fields["ci"] in {"auto", "bazel"}:
        fields["dir"] = os.environ.get(BAZEL_DIRECTORY) or fields["dir"]
    fields["dir"] = Path(os.path.normpath(directory_base / fields["dir"]))  # as pytest does with its own
    settings = Settings(**fields)
    check_sealing(settings)
    _ = settings.page_command, settings.upload_command
    return settings


def find_ci(config: pytest.Config, settings: Settings) -> Target | None:
    """Return the CI system to tell; None if there is none, or nothing of it that could be written to."""
    if settings.ci == "none":
        return None
    from pytest_gencore.ci import systems  # only of runs that capture

    return systems.find_target(settings.ci, os.environ, str(config.invocation_params.dir))


def find_folders(config: pytest.Config) -> Folders:
    """Return the folders of the session."""
    from pytest_gencore.texts import Folders  # only of runs that capture

    return Folders(str(config.rootpath), str(config.invocation_params.dir))


def check_sealing(settings: Settings) -> None:
    """Raise ``UsageError`` if archives shall be sealed of which something would be on the disk unsealed."""
    if not settings.recipient:
        return
    if settings.method == "kernel":
        what = "method kernel: the kernel writes cores that are not sealed"
    elif settings.libraries == "once":
        what = "libraries once: what archives share is not sealed"
    else:
        return
    message = f"gencore: recipient excludes {what}"
    raise pytest.UsageError(message)


def parse_text(option: Option, text: str, source: str) -> object:
    """Return the value that a text means."""
    try:
        return PARSERS[option.name](text)
    except ValueError as error:
        shown = "" if option.name == "store" else f" {text!r}"  # there may be a password in it
        message = f"gencore: invalid {option.name}{shown}: {error} (from {source})"
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
    if not has_marker(item):
        return None
    merged: dict[str, Any] = {}
    for mark in item.iter_markers(GROUP):
        fields = check_marker(mark, item.nodeid)
        merged = {**fields, **merged}
    return Marker(**merged)


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
    "method": parse_method,
    "type": parse_dump_type,
    "threads": values.parse_threads,
    "moment": values.parse_moment,
    "raises": values.check_raises,
}


def apply_marker(settings: Settings, marker: Marker | None) -> Settings:
    """Return the settings of one test: those of the run, overridden by its marker."""
    if marker is None:
        return settings
    if not marker.enabled:
        return settings._replace(on_fail=False, timeout=None)
    changes: dict[str, Any] = {"on_fail": True}
    for name in ("timeout", "method", "type", "threads", "moment", "raises"):
        value = getattr(marker, name)
        if value is not None:
            changes[name] = value
    return settings._replace(**changes)
