"""Read what faulthandler and pystack print. Neither parser raises: what it does not know it leaves out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_gencore.collector.stacks.model import Frame, PythonThread

if TYPE_CHECKING:
    from collections.abc import Mapping

_DIGITS_LIMIT = 20
"""Longer numbers are none: they do not fit 64 bits, and ``int`` refuses very long ones."""

# ---- faulthandler: _Py_DumpTracebackThreads of CPython's Python/traceback.c -------------------------------

_HANDLER_THREAD = re.compile(
    r"(Current thread|Thread) (?:0x)?([0-9a-fA-F]{1,16})(?: \[(.*)\])? \(most recent call first\):$"
)
_HANDLER_STACK = re.compile(r"Stack \(most recent call first\):$")
"""The title of the current thread, if no other one is asked for."""
_HANDLER_FRAME = re.compile(r'  File (?:"(.*)"|(\?\?\?)), line (\d{1,20}|\?\?\?) in (.*)$')
_HANDLER_NATIVE = re.compile(r'  Binary file "(.*)", at (\S.*?)(?: \[0x[0-9a-fA-F]+\])?$')
_HANDLER_NATIVE_TITLE = re.compile(r"Current thread's C stack trace \(most recent call first\):$")
_HANDLER_DEPTH = 100
"""Frames of a thread after which it stops, without a word in some versions: MAX_FRAME_DEPTH."""
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")
_LAST_CODE_POINT = 0x10FFFF


def parse_faulthandler(
    text: str,
    *,
    native_ids: Mapping[int, int] | None = None,
    names: Mapping[int, str] | None = None,
) -> list[PythonThread]:
    """Return the threads that faulthandler of CPython 3.10 or newer has printed, in its order.

    ``native_ids`` and ``names`` are what is known of the idents that it prints. C frames, which CPython 3.14
    prints of the current thread, follow its Python frames.
    """
    reader = _HandlerReader(native_ids or {}, names or {})
    for line in text.splitlines():
        reader.take(line)
    return reader.finish()


class _HandlerReader:
    """Takes faulthandler's lines, innermost call first."""

    def __init__(self, native_ids: Mapping[int, int], names: Mapping[int, str]) -> None:
        self._native_ids = native_ids
        self._names = names
        self._threads: list[_Draft] = []
        self._frames: list[Frame | _OpenFrame] | None = None
        """Where the Python frames go that follow."""
        self._native: list[Frame] | None = None
        """Where the C frames go that follow."""

    def take(self, line: str) -> None:
        if match := _HANDLER_THREAD.match(line):
            name = _unescape(match[3]) if match[3] else None
            self._start_thread(name, int(match[2], 16), match[1] == "Current thread")
        elif _HANDLER_STACK.match(line):
            self._start_thread(None, None, is_current=True)
        elif _HANDLER_NATIVE_TITLE.match(line):
            owner = next((thread for thread in self._threads if thread.is_current), None)
            self._frames, self._native = None, owner.native if owner else None
        elif self._native is not None and (match := _HANDLER_NATIVE.match(line)):
            library = _unescape(match[1]).rpartition("/")[2]
            self._native.append(Frame("", None, match[2], native=True, library=library))
        elif self._frames is not None and (match := _HANDLER_FRAME.match(line)):
            file = "???" if match[1] is None else _unescape(match[1])
            self._frames.append(Frame(file, _number(match[3]), _unescape(match[4])))

    def finish(self) -> list[PythonThread]:
        return [self._finish(thread) for thread in self._threads]

    @staticmethod
    def _finish(thread: _Draft) -> PythonThread:
        is_cut = len(thread.frames) >= _HANDLER_DEPTH
        thread.frames = [*reversed(thread.frames), *reversed(thread.native)]
        return thread.finish()._replace(is_cut=is_cut)

    def _start_thread(self, name: str | None, ident: int | None, is_current: bool) -> None:
        known = self._names.get(ident) if ident else None
        native_id = self._native_ids.get(ident) if ident else None
        thread = _Draft(known or name, native_id, ident, is_current)
        self._threads.append(thread)
        self._frames, self._native = thread.frames, None


def _unescape(text: str) -> str:
    """Undo ``_Py_DumpASCII``: printable ASCII is itself, the backslash too, so a name may be ambiguous."""

    def character(match: re.Match[str]) -> str:
        code = int(match[1] or match[2] or match[3], 16)
        return chr(code) if code <= _LAST_CODE_POINT else match[0]

    return _ESCAPED.sub(character, text)


# ---- pystack: traceback_formatter.py of pystack 1.4 to 1.7 ------------------------------------------------

_PYSTACK_THREAD = re.compile(
    r"Traceback for thread (\d{1,20}) (?:\((.*)\) )?(?:(\[[^\]]*\]) )?\(most recent call last\):$"
)
_PYSTACK_EMPTY = re.compile(r"The frame stack for thread (\d{1,20}) is empty$")
_PYSTACK_INTERPRETER = re.compile(
    r"  (?:In (?:the main interpreter|interpreter \d+)|Not currently attached to any interpreter)"
    r" (\[[^\]]*\])$"
)
_PYSTACK_FRAME = re.compile(r'    \(Python\) File "(.*)", line (-?\d{1,20}), in (.*)$')
_PYSTACK_NATIVE = re.compile(r'    \(C\) File "(.*)", line (-?\d{1,20}), in (.*) \((.*)\)$')
_PYSTACK_LOCALS = ("      Arguments:", "      Locals:")
_PYSTACK_LOCAL = re.compile(r"        (\w+|\.\d+): (.*)$")
_PYSTACK_INDENT = " " * 8
_ENDS = {'"': '"', "[": "]", "{": "}", "(": ")"}
_VALUE_LENGTH = 120
_COLLECTING = "collecting garbage"


def parse_pystack(text: str) -> list[PythonThread]:
    """Return the threads that ``pystack --no-color remote`` or ``core`` has printed, in its order.

    pystack prints the values of locals with their line breaks, up to about 80 characters. So a value that has
    no end yet goes on in the next line, whatever that looks like; other lines that are nothing else belong to
    the value before too.
    """
    reader = _PystackReader()
    for line in text.split("\n"):
        reader.take(line)
    return [thread.finish() for thread in reader.threads]


class _PystackReader:
    """Takes pystack's lines, innermost call last."""

    def __init__(self) -> None:
        self.threads: list[_Draft] = []
        self._open_frame: _OpenFrame | None = None

    def take(self, line: str) -> None:
        if self._open_frame is not None and self._open_frame.has_open_value():
            self._open_frame.take_more(line)
        elif self._took_title(line) or (self.threads and self._took_call(line)):
            return
        elif self._open_frame is not None:
            self._open_frame.take(line)

    def _took_title(self, line: str) -> bool:
        match = _PYSTACK_THREAD.match(line) or _PYSTACK_EMPTY.match(line)
        if match is None:
            return False
        name, status = match.groups()[1:] or (None, None)
        self.threads.append(_Draft(name, _number(match[1]) or None, None, False))
        self.threads[-1].set_status(status)
        self._open_frame = None
        return True

    def _took_call(self, line: str) -> bool:
        """Take over what belongs to the last thread but to none of its frames so far."""
        thread = self.threads[-1]
        if match := _PYSTACK_FRAME.match(line):
            self._open_frame = _OpenFrame(match[1], _number(match[2]), match[3])
            thread.frames.append(self._open_frame)
            return True
        if match := _PYSTACK_NATIVE.match(line):
            is_known = match[1] not in ("", "???", "??")
            file, number = (match[1], _number(match[2])) if is_known else ("", None)
            thread.frames.append(Frame(file, number, match[3], native=True, library=match[4]))
        elif match := _PYSTACK_INTERPRETER.match(line):
            thread.set_status(match[1])
        else:
            return False
        self._open_frame = None
        return True


@dataclass(slots=True)
class _OpenFrame:
    """A Python frame whose source and locals may follow."""

    file: str
    line: int | None
    function: str
    source: str = ""
    locals: list[tuple[str, str]] = field(default_factory=list)
    _in_locals: bool = False
    _lines: int = 0

    def take(self, line: str) -> None:
        self._lines += 1
        if line in _PYSTACK_LOCALS:
            self._in_locals = True
        elif not self._in_locals:
            if self._lines == 1 and line.startswith(_PYSTACK_INDENT):
                self.source = line.strip()
        elif match := _PYSTACK_LOCAL.match(line):
            self.locals.append((match[1], match[2]))
        elif self.locals and line:
            self.take_more(line)

    def take_more(self, line: str) -> None:
        name, value = self.locals[-1]
        self.locals[-1] = (name, f"{value}\n{line}")

    def has_open_value(self) -> bool:
        value = self.locals[-1][1] if self.locals else ""
        end = _ENDS.get(value[:1])
        is_ended = len(value) > 1 and value.endswith((end or "", "..."))
        return end is not None and not is_ended and len(value) < _VALUE_LENGTH

    def finish(self) -> Frame:
        return Frame(self.file, self.line, self.function, tuple(self.locals), self.source)


@dataclass(slots=True)
class _Draft:
    """A thread while its lines are read."""

    name: str | None
    native_id: int | None
    ident: int | None
    is_current: bool
    frames: list[Frame | _OpenFrame] = field(default_factory=list)
    native: list[Frame] = field(default_factory=list)
    holds_gil: bool | None = None
    activity: str | None = None

    def set_status(self, status: str | None) -> None:
        """Take over pystack's ``[Has the GIL,Garbage collecting]``; of several interpreters the strongest."""
        if status is None:
            return
        self.holds_gil = bool(self.holds_gil) or "Has the GIL" in status
        if "Waiting for the GIL" in status:
            self.activity = "waiting for the GIL"
        elif "Garbage collecting" in status and self.activity is None:
            self.activity = _COLLECTING

    def finish(self) -> PythonThread:
        frames = tuple(frame.finish() if isinstance(frame, _OpenFrame) else frame for frame in self.frames)
        activity = self.activity
        if activity == _COLLECTING and any(frame.native for frame in frames):
            activity = None  # with native frames pystack says so of any function whose name has "collect"
        return PythonThread(
            self.name, self.native_id, self.ident, frames, self.holds_gil, self.is_current, activity
        )


def _number(text: str) -> int | None:
    """Return a number from 0 upwards, None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_LIMIT else None
