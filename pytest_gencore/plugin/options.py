"""The options: one table; what they mean is read by ``settings``, if anything is set.

pytest imports this module in each run: it imports nothing of ours and makes no dataclass.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import pytest

GROUP = "gencore"
DEFAULT_DIRECTORY = "gencore-artifacts"


class Option(NamedTuple):
    """One row of the option table."""

    name: str
    """Field of ``Settings``; the option is ``--gencore-NAME``, its ini twin ``gencore_NAME``."""
    default: object
    metavar: str
    help: str
    repeatable: bool = False
    """Whether it can be given several times; its text has a line each."""

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
    Option("dir", DEFAULT_DIRECTORY, "DIR", "Directory of the archives, made when needed"),
    Option(
        "method",
        "auto",
        "{auto,kernel,memory}",
        "Who writes the core: the collector from memory, or the kernel",
    ),
    Option(
        "type",
        "full",
        "{full,heap,mini,text}",
        "How much an archive holds: all memory, the heap, only what stacks lead to, or no core but the texts",
    ),
    Option("threads", "all", "{all,calling}", "Threads that the core holds"),
    Option(
        "filter",
        0xFF,
        "BITS",
        "Kinds of memory that the core holds: coredump_filter bits of core(5)",
    ),
    Option(
        "libraries",
        "each",
        "{each,once,none}",
        "Put executable and libraries into each archive, into one of their own, or only name them",
    ),
    Option(
        "timeout",
        None,
        "TIME",
        "Capture a test that takes longer, such as 90s or 5m; it is not ended, see gencore_exit_on_timeout",
    ),
    Option(
        "session_timeout",
        None,
        "TIME",
        "Capture a run that makes no progress for that long, such as 10m; see gencore_exit_on_timeout",
    ),
    Option(
        "grace",
        5.0,
        "TIME",
        "How long a run that is cancelled waits for its archive before it ends",
    ),
    Option(
        "interrupt_after",
        10.0,
        "TIME",
        "Make an archive at Ctrl-C only if the test has run for so long; the stacks are shown in any case",
    ),
    Option(
        "capture_memory",
        None,
        "PERCENT",
        "Show once what runs when this part of the cgroup's or the machine's memory is used; no archive",
    ),
    Option(
        "children",
        "watch",
        "{watch,none,dump}",
        "Watch child processes, leave them alone, or also archive them when their parent is captured",
    ),
    Option(
        "moment",
        "report",
        "{report,raise}",
        "Capture a failure when it is reported, or already when it is raised",
    ),
    Option(
        "slow_notice",
        "auto",
        "{auto,on,off}",
        "Say when a test has taken a third of its timeout; auto: unless -q is given",
    ),
    Option(
        "redact",
        "on",
        "{on,off}",
        "Overwrite the values of environment variables with secrets in all that is written",
    ),
    Option(
        "redact_env",
        None,
        "GLOBS",
        "Names of more variables with secrets, such as '*_PIN, LICENSE'",
    ),
    Option(
        "keep_env",
        None,
        "GLOBS",
        "Names of variables whose values are no secrets, such as TOKEN_TYPE",
    ),
    Option(
        "env",
        "names",
        "{names,values,none}",
        "What of the environment stands in the manifest and the texts; secret values never",
    ),
    Option(
        "recipient",
        None,
        "KEY",
        "Seal archives for a public key, age1... or ssh-ed25519 ..., or those in a file; repeatable",
        repeatable=True,
    ),
    Option(
        "clear_text",
        "on",
        "{on,off}",
        "Show what was found in the log and in a text beside each archive; off: only that there is one",
    ),
    Option(
        "ci",
        "auto",
        "{auto,none,NAME}",
        "Which CI system is told of captures, such as github; auto: the one that the environment names",
    ),
    Option(
        "html",
        "off",
        "{on,off}",
        "Make a page for the browser beside each archive, NAME.html; needs pytest-gencore[html]",
    ),
    Option(
        "store",
        None,
        "URL",
        "Upload archives to a store, such as s3://BUCKET/FOLDER; needs pytest-gencore[store]",
    ),
    Option(
        "max_cores",
        10,
        "N",
        "Captures of one run, at most",
    ),
    Option(
        "max_size",
        4 * 1024**3,
        "SIZE",
        "Size of all archives of one run, at most, such as 4GiB",
    ),
)
MARKER_HELP = (
    f"{GROUP}(*, enabled=True, timeout=None, method=None, type=None, threads=None, moment=None, "
    "raises=None): make a core archive if the test fails; see pytest-gencore"
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
        "End the process after the capture at gencore_timeout or gencore_session_timeout",
        type="bool",
        default=False,
    )
    for option in TABLE:
        shown = hex(0xFF) if option.name == "filter" else option.default
        text = option.help
        if option.name == "max_size":
            shown = "4GiB"
        elif isinstance(option.default, float):
            shown = f"{option.default:g}s"
        if shown is not None:
            text = f"{text} (default: {shown})"
        group.addoption(
            option.flag,
            action="append" if option.repeatable else "store",
            default=None,
            dest=option.ini,
            metavar=option.metavar,
            help=text,
        )
        kind: Literal["linelist", "string"] = "linelist" if option.repeatable else "string"
        parser.addini(option.ini, text, type=kind, default=None)


def resolve_on_fail(config: pytest.Config) -> bool:
    """Return whether every failing test is captured."""
    return bool(config.getoption("gencore_on_fail", None) or read_ini(config, "gencore_on_fail"))


def is_armed_early(config: pytest.Config) -> bool:
    """Return whether captures are made before pytest is configured, when errors are nobody's yet."""
    try:
        known = config.known_args_namespace
        return bool(
            known.gencore_on_fail
            or read_ini(config, "gencore_on_fail")
            or known.gencore_session_timeout
            or read_ini(config, "gencore_session_timeout")
        )
    except pytest.UsageError:
        return False


def find_text(config: pytest.Config, option: Option) -> tuple[str | None, str]:
    """Return the value as written, and where; None if it is written nowhere."""
    text = join_lines(config.getoption(option.ini, None))
    if text is not None:
        return text, f"command line {option.flag}"
    text = join_lines(read_ini(config, option.ini))
    if option.repeatable:
        return text, f"ini {option.ini}"
    # An empty ini value is how people switch a setting off.
    return (text or None), f"ini {option.ini}"


def join_lines(value: str | list[str] | None) -> str | None:
    """Return the text of an option, that of a repeatable one with a line each time."""
    return "\n".join(value) if isinstance(value, list) else value


def read_ini(config: pytest.Config, name: str) -> Any:
    """Return an ini value, None if not set."""
    try:
        return config.getini(name)
    except (TypeError, ValueError, pytest.UsageError) as error:
        message = f"gencore: {error} (from ini {name})"
        raise pytest.UsageError(message) from None


def is_anything_set(config: pytest.Config) -> bool:
    """Return whether command line or ini file set any of the options."""
    return resolve_on_fail(config) or any(find_text(config, option)[0] is not None for option in TABLE)


def is_distributed(config: pytest.Config) -> bool:
    """Return whether this is the controller of an xdist run: other processes run the tests."""
    if hasattr(config, "workerinput") or not config.pluginmanager.hasplugin("xdist"):
        return False
    return bool(config.getoption("dist", "no") != "no")


def has_marker(item: pytest.Item) -> bool:
    """Return whether a gencore marker applies to a test; for each test, so without ``iter_markers``."""
    node: Any = item
    while node is not None:
        if node.own_markers and any(mark.name == GROUP for mark in node.own_markers):
            return True
        node = node.parent
    return False
