"""Where the kernel puts a core file: ``/proc/sys/kernel/core_pattern``.

Sources: "Naming of core dump files" in core(5), and ``format_corename`` in ``fs/coredump.c``, which decides
where the two differ.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal["file", "pipe", "socket", "none"]

CORE_PATTERN: Final = Path("/proc/sys/kernel/core_pattern")
CORE_USES_PID: Final = Path("/proc/sys/kernel/core_uses_pid")

_CLOCK_TOLERANCE_NS: Final = 20_000_000
"""File times come from the kernel's coarse clock, which lags up to one tick (10 ms at 100 Hz)."""

_TOKEN = re.compile(r"%(.)|%\Z|([^%]+)", re.DOTALL)
_UNKNOWN_NUMBER: Final = "[0-9]+"
_UNKNOWN_TEXT: Final = "[^/]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreFacts:
    """What is known about a process that dumps core; None matches anything.

    Numbers named ``global`` are those of the initial pid or user namespace, which is where the kernel takes
    them from for ``%P``, ``%I``, ``%u`` and ``%g``.
    """

    pid: int | None = None
    tid: int | None = None
    """Of the thread that dumps; for a process of one thread the pid, which is also the default."""
    global_pid: int | None = None
    global_tid: int | None = None
    global_uid: int | None = None
    global_gid: int | None = None
    signal: int | None = None
    dumpable: int | None = None
    core_limit: int | None = None
    """Soft RLIMIT_CORE in bytes; ``RLIM_INFINITY`` of <resource.h> is ``2**64 - 1``."""
    hostname: str | None = None
    comm: str | None = None
    executable: str | None = None
    """Path of the executable."""


@dataclass(frozen=True, slots=True)
class Component:
    """One component of a path: a name, or what is known about it."""

    name: str | None
    """The exact name; None if something in it is unknown."""
    regex: re.Pattern[str]
    """Matches the whole name."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What the path of a core can be."""

    absolute: bool
    """Whether ``directories`` start at the root and not in the process's working directory."""
    directories: tuple[Component, ...]
    file: Component


@dataclass(frozen=True, slots=True)
class CorePattern:
    """A parsed ``core_pattern``."""

    kind: Kind
    """``none``: the pattern is empty, so that nothing is dumped."""
    template: str
    """The pattern without its newline."""
    uses_pid: bool = False
    """``core_uses_pid``: ``.PID`` is appended to a file name without ``%p``."""

    @classmethod
    def parse(cls, text: str, *, uses_pid: bool = False) -> CorePattern:
        """Parse the text of ``core_pattern``, with bytes that are not UTF-8 as ``os.fsdecode`` gives them."""
        template = text.removesuffix("\n")
        if template.startswith("|"):
            kind: Kind = "pipe"
        elif template.startswith("@"):
            kind = "socket"  # since Linux 6.16
        else:
            kind = "file" if template or uses_pid else "none"
        return cls(kind, template, uses_pid)

    @classmethod
    def read(cls) -> CorePattern:
        """Read the pattern of this machine; raises OSError if ``/proc`` does not show it."""
        uses_pid = CORE_USES_PID.read_text().strip() != "0"
        return cls.parse(os.fsdecode(CORE_PATTERN.read_bytes()), uses_pid=uses_pid)

    @property
    def is_absolute(self) -> bool:
        """Whether cores go to a fixed directory and not to the working directory of the process."""
        return self.kind == "file" and self.template.startswith("/")

    def candidates(self, facts: CoreFacts) -> Candidates:
        """Return what the path of a core of this process can be; raises ValueError if cores are not files."""
        if self.kind != "file":
            message = f"core_pattern {self.template!r} writes no file"
            raise ValueError(message)
        components = list(self._components(facts))
        return Candidates(self.is_absolute, tuple(components[:-1]), components[-1])

    def subdirectories(self, work_dir: Path, facts: CoreFacts) -> list[Path]:
        """Return the directories that must exist below ``work_dir``, outermost first.

        The kernel makes none, and without them there is no core. The list ends before the first directory
        whose name is not known beforehand (``%t``); it is empty for an absolute pattern.
        """
        if self.kind != "file" or self.is_absolute:
            return []
        result: list[Path] = []
        directory = work_dir
        for component in self.candidates(facts).directories:
            if component.name is None:
                break
            directory /= component.name
            if component.name not in {".", ".."}:
                result.append(directory)
        return result

    def fixed_directory(self, facts: CoreFacts) -> Path | None:
        """Return the directory of an absolute pattern; None if it is relative or its name is not known."""
        if not self.is_absolute:
            return None
        directory = Path("/")
        for component in self.candidates(facts).directories:
            if component.name is None:
                return None
            directory /= component.name
        return directory

    def find(self, work_dir: Path, facts: CoreFacts, *, newer_than_ns: int = 0) -> Path | None:
        """Return the core that the process wrote: a regular file, ours, matching, not older; the newest one.

        Links are not followed for the file itself. None if there is none, or if the pattern writes no file.
        """
        if self.kind != "file":
            return None
        candidates = self.candidates(facts)
        directories = _matching_directories(
            Path("/") if candidates.absolute else work_dir, candidates.directories
        )
        found = [
            (status.st_mtime_ns, path)
            for directory in directories
            for path in _matching_entries(directory, candidates.file)
            if (status := _status_if_core(path)) is not None
            and status.st_mtime_ns >= newer_than_ns - _CLOCK_TOLERANCE_NS
        ]
        return max(found)[1] if found else None

    def _components(self, facts: CoreFacts) -> Iterator[Component]:
        """Expand the template and split it; slashes in expanded values are already replaced."""
        exact: list[str | None] = []
        regex: list[str] = []
        for text, pattern in self._expand(facts):
            pieces = (text or "").split("/") if pattern is None else [text]
            for number, piece in enumerate(pieces):
                if number:
                    if exact:
                        yield _component(exact, regex)
                    exact, regex = [], []
                if piece is None or piece:
                    exact.append(piece)
                    regex.append(re.escape(piece) if piece is not None else pattern or "")
        yield _component(exact, regex)

    def _expand(self, facts: CoreFacts) -> Iterator[tuple[str | None, str | None]]:
        """Give pieces of the expanded template: literal (text, None), value (text, regex or empty)."""
        has_pid = False
        for token in _TOKEN.finditer(self.template):
            letter, literal = token.groups()
            if literal is not None:
                yield literal, None
            elif letter is not None:
                has_pid = has_pid or letter == "p"
                yield _value(letter, facts)
        if self.uses_pid and not has_pid:
            yield ".", None
            yield _value("p", facts)


def why_no_core(pattern: CorePattern, core_facts: CoreFacts, hard_limit: int, page_size: int) -> str:
    """Return why the kernel would not write a file that we can collect; empty if it would."""
    if pattern.kind == "pipe":
        return f"core_pattern sends cores to a program: {pattern.template}"
    if pattern.kind == "socket":
        return f"core_pattern sends cores to a socket: {pattern.template}"
    if pattern.kind == "none":
        return "core_pattern is empty"
    if 0 <= hard_limit < page_size:
        return "the hard limit of the core size is 0 (ulimit -Hc)"
    directory = pattern.fixed_directory(core_facts)
    if directory is not None and not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        reason = os.strerror(errno.EACCES if directory.is_dir() else errno.ENOENT)
        return f"core_pattern's directory {directory} cannot be written: {reason}"
    return ""


def core_limit_of(pid: int) -> int:
    """Return the hard RLIMIT_CORE of a process of ours in bytes, -1 without limit."""
    return resource.prlimit(pid, resource.RLIMIT_CORE)[1]


def _component(exact: list[str | None], regex: list[str]) -> Component:
    names = [piece for piece in exact if piece is not None]
    name = "".join(names) if len(names) == len(exact) else None
    return Component(name, re.compile("".join(regex), re.DOTALL))


def _value(letter: str, facts: CoreFacts) -> tuple[str | None, str]:
    """Return the text of a specifier, or None and a regex; one that the kernel does not know is dropped."""
    if letter == "%":
        return "%", ""
    numbers = {
        "p": facts.pid,
        "P": facts.global_pid,
        "i": facts.tid if facts.tid is not None else facts.pid,
        "I": facts.global_tid if facts.global_tid is not None else facts.global_pid,
        "u": facts.global_uid,
        "g": facts.global_gid,
        "s": facts.signal,
        "d": facts.dumpable,
        "c": facts.core_limit,
        "C": None,
        "t": None,
    }
    if letter in numbers:
        number = numbers[letter]
        return (None, _UNKNOWN_NUMBER) if number is None else (str(number), "")
    executable = facts.executable
    texts = {
        "h": facts.hostname,
        "e": facts.comm,
        "E": executable,
        "f": executable and executable.rpartition("/")[2],
    }
    if letter in texts:
        text = texts[letter]
        return (None, _UNKNOWN_TEXT) if text is None else (_escape(text), "")
    return "", ""  # also %F, which only a pipe has


def _escape(text: str) -> str:
    """Make a value harmless in a path, as ``cn_esc_printf`` does."""
    escaped = text.replace("/", "!")
    if escaped in {"", ".", ".."}:
        return "!" + escaped[1:]
    return escaped


def _matching_directories(start: Path, components: Iterable[Component]) -> list[Path]:
    directories = [start]
    for component in components:
        directories = [
            path
            for directory in directories
            for path in _matching_entries(directory, component)
            if path.is_dir()
        ]
    return directories


def _matching_entries(directory: Path, component: Component) -> list[Path]:
    """List what matches; a directory that is gone or not readable has nothing."""
    if component.name is not None:
        return [directory / component.name] if component.name else []
    try:
        names = os.listdir(directory)  # noqa: PTH208 - names are matched before paths are made
    except OSError:
        return []
    return [directory / name for name in names if component.regex.fullmatch(name)]


def _status_if_core(path: Path) -> os.stat_result | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() else None
