"""What the captured process, its snapshot and the collector agree on: the Python side of csrc/protocol.h.

Names, order and types are those of the C file. ``tests/native/test_protocol.py`` compares the two.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, Final, NamedTuple

LIST_HEAD: Final = 4096
LIST_SLOT: Final = 32768
"""Sizes of the parts of a list of tests, in bytes: see csrc/protocol.h."""


class Descriptor(IntEnum):
    """``enum gencore_descriptor``: what a collector has open when it starts."""

    HANDOVER = 3
    ARCHIVE = 4
    STATE = 5
    COMMANDS = 6
    REPLIES = 7
    STDERR = 8
    """The test run's standard error; only if the record's ``has_stderr`` says so."""


class Stage(IntEnum):
    """``enum gencore_stage``: where a capture failed."""

    NONE = 0
    """It did not."""
    BUSY = 1
    TABLE = 2
    LAUNCH = 3
    DIRECTORY = 4
    RUN_DIRECTORY = 5
    NAME = 6
    FILES = 7
    SNAPSHOT = 8
    HANDOVER = 9
    EXEC = 10
    DIED = 11
    CLAIMED = 12
    LIMIT = 13
    FULL = 14
    OWNER = 15
    MODE = 16
    PIPES = 17


class ThreadState(IntEnum):
    """``enum gencore_thread_state``: how far the stop of a thread got."""

    FREE = 0
    ASKED = 1
    STOPPED = 2
    CALLING = 3
    MASKED = 4
    SILENT = 5
    GONE = 6
    UNASKED = 7


class Phase(IntEnum):
    """``enum gencore_phase``: where in its test a process is."""

    NONE = 0
    SETUP = 1
    CALL = 2
    TEARDOWN = 3

    @property
    def text(self) -> str:
        """As reports have it, such as ``setup``; empty outside of a test."""
        return self.name.lower() if self else ""


class Deadline(IntEnum):
    """``enum gencore_deadline``: whose timer it is."""

    GENCORE = 0
    PYTEST_TIMEOUT = 1
    SESSION = 2
    """Passes when the run makes no progress."""
    SLOW = 3
    """A part of that of a test has passed: it is only told."""


class Command(IntEnum):
    """``enum gencore_command_kind``: what a snapshot can do."""

    READ = 1
    MINCORE = 2
    UNREADABLE = 3
    CRASH = 4
    TRACE = 5
    PROBE = 6


class WorkerState(IntEnum):
    """``enum gencore_worker_state``: what a controller expects of a worker."""

    FREE = 0
    HEARD = 1
    DISMISSED = 2


class CaptureResult(NamedTuple):
    """``struct gencore_result``: what the extension returns of a capture."""

    stage: int
    """A ``Stage``; 0 for success."""
    error: int
    """``errno`` of the failure."""
    name: str
    """Of the archive, without ``.tar.gz``."""
    pid: int
    collector_pid: int
    snapshot_pid: int


class FiredDeadline(NamedTuple):
    """What a deadline came to."""

    captured: bool
    """False if a debugger was attached: there was no capture, and ``result`` says nothing."""
    result: CaptureResult


class Layout:
    """A C structure as a list of named fields; without padding, as protocol.h has none."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        """``fields`` are names with their formats of the module ``struct``."""
        self.fields: Final = fields
        self._struct = struct.Struct("<" + "".join(code for _, code in fields))
        self.size: Final = self._struct.size

    def offset_of(self, name: str) -> int:
        """Return the bytes in front of a field."""
        before = [field for field, _ in self.fields].index(name)
        return struct.calcsize("<" + "".join(code for _, code in self.fields[:before]))

    def pack(self, *values: object) -> bytes:
        """Encode the values, in the order of the fields."""
        return self._struct.pack(*values)

    def unpack(self, data: bytes, offset: int = 0) -> dict[str, Any]:
        """Decode; raises struct.error if there are too few bytes."""
        names = (name for name, _ in self.fields)
        return dict(zip(names, self._struct.unpack_from(data, offset), strict=True))


MAGIC: Final = b"GENCORE1"
NAME_SIZE: Final = 64
OUTPUT_SIZE: Final = 16384
"""Bytes at most of the end of standard output, and of standard error."""

RECORD: Final = Layout(
    ("magic", "8s"),
    ("record_size", "I"),
    ("thread_size", "I"),
    ("thread_count", "I"),
    ("registers", "I"),
    ("pid", "i"),
    ("tid", "i"),
    ("snapshot_pid", "i"),
    ("stop_signal", "i"),
    ("text_size", "Q"),
    ("core_filter", "Q"),
    ("started_ns", "q"),
    ("stop_ns", "q"),
    ("snapshot_ns", "q"),
    ("pause_ns", "q"),
    ("stopped_at_ns", "q"),
    ("hold_ns", "q"),
    ("trace_function", "Q"),
    ("probe_function", "Q"),
    ("forked_signal", "q"),
    ("ident_offset", "q"),
    ("signed_bits", "Q"),
    ("cpu_ns", "q"),
    ("wall_ns", "q"),
    ("place_ns", "q"),
    ("place_tid", "q"),
    ("journal_address", "Q"),
    ("journal_size", "Q"),
    ("workers_address", "Q"),
    ("workers_count", "Q"),
    ("children_size", "Q"),
    ("descriptors_size", "Q"),
    ("child_count", "i"),
    ("descriptor_count", "i"),
    ("all_threads_signal", "i"),
    ("own_thread_signal", "i"),
    ("slot", "I"),
    ("phase", "I"),
    ("attempt", "i"),
    ("has_stderr", "i"),
    ("stdout_size", "I"),
    ("stderr_size", "I"),
    ("info", "128s"),
    ("name", "64s"),
)
"""``struct gencore_record``: first in the hand-over."""

THREAD: Final = Layout(
    ("tid", "i"),
    ("state", "I"),
    ("name", "16s"),
    ("fp_address", "Q"),
    ("fp_size", "Q"),
    ("tls", "Q"),
    ("sigmask", "Q"),
)
"""``struct gencore_thread`` up to its registers."""

NOT_READ: Final = -1
"""A number of the next three that could not be read."""

OPEN_FILE: Final = Layout(
    ("number", "i"),
    ("mode", "I"),
    ("device_major", "I"),
    ("device_minor", "I"),
    ("inode", "Q"),
    ("special", "I"),
    ("flags", "I"),
    ("unread", "i"),
    ("unsent", "i"),
    ("capacity", "i"),
    ("socket_size", "I"),
    ("link_size", "I"),
    ("info_size", "I"),
)
"""``struct gencore_open_file``: a descriptor; ``SOCKET``, link and fdinfo follow."""

SOCKET: Final = Layout(
    ("family", "i"),
    ("type", "i"),
    ("protocol", "i"),
    ("is_listening", "i"),
    ("peer_pid", "i"),
    ("tcp_state", "i"),
    ("last_sent_ms", "i"),
    ("last_received_ms", "i"),
    ("received_bytes", "q"),
    ("local_size", "I"),
    ("peer_size", "I"),
    ("local", "112s"),
    ("peer", "112s"),
)
"""``struct gencore_socket``."""

CHILD: Final = Layout(
    ("pid", "i"),
    ("stat_size", "I"),
    ("command_size", "I"),
    ("channel_size", "I"),
    ("call_size", "I"),
    ("links_size", "I"),
)
"""``struct gencore_child``; its texts follow."""

WORKER: Final = Layout(("heard_at", "q"), ("test", "Q"), ("pid", "i"), ("state", "i"), ("name", "32s"))
"""``struct gencore_worker``: one of a controller, in its memory."""

WORKER_TEST: Final = Layout(("began_at", "q"), ("size", "Q"))
"""``struct gencore_worker_test``; the name of the test follows."""

SNAPSHOT_STATUS: Final = Layout(
    ("pid", "i"),
    ("filter_error", "i"),
    ("oom_error", "i"),
    ("limit_error", "i"),
    ("chdir_error", "i"),
    ("page_size", "I"),
)
"""``struct gencore_snapshot_status``: first on the reply pipe."""

COMMAND: Final = Layout(("kind", "Q"), ("address", "Q"), ("size", "Q"))
"""``struct gencore_command``."""
