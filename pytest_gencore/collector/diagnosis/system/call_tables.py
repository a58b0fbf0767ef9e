"""System calls that can block: their numbers, and which argument says what they wait for."""

from __future__ import annotations

from typing import Final, NamedTuple


class CallKind(NamedTuple):
    """One system call."""

    name: str
    x86_64: int | None
    aarch64: int | None
    descriptors: tuple[int, ...] = ()
    """Positions of the arguments that are descriptors, the one it waits for first."""


_READS: Final = (
    CallKind("read", 0, 63, (0,)),
    CallKind("readv", 19, 65, (0,)),
    CallKind("pread64", 17, 67, (0,)),
    CallKind("preadv", 295, 69, (0,)),
    CallKind("preadv2", 327, 286, (0,)),
    CallKind("accept", 43, 202, (0,)),
    CallKind("accept4", 288, 242, (0,)),
    CallKind("recvfrom", 45, 207, (0,)),
    CallKind("recvmsg", 47, 212, (0,)),
    CallKind("recvmmsg", 299, 243, (0,)),
)
_WRITES: Final = (
    CallKind("write", 1, 64, (0,)),
    CallKind("writev", 20, 66, (0,)),
    CallKind("pwrite64", 18, 68, (0,)),
    CallKind("pwritev", 296, 70, (0,)),
    CallKind("pwritev2", 328, 287, (0,)),
    CallKind("sendto", 44, 206, (0,)),
    CallKind("sendmsg", 46, 211, (0,)),
    CallKind("sendmmsg", 307, 269, (0,)),
)
READING: Final = frozenset(kind.name for kind in _READS)
WRITING: Final = frozenset(kind.name for kind in _WRITES)

CALLS: Final = (
    *_READS,
    *_WRITES,
    CallKind("connect", 42, 203, (0,)),
    CallKind("sendfile", 40, 71, (0, 1)),
    CallKind("splice", 275, 76, (0, 2)),
    CallKind("tee", 276, 77, (0, 1)),
    CallKind("vmsplice", 278, 75, (0,)),
    CallKind("copy_file_range", 326, 285, (0, 2)),
    CallKind("poll", 7, None),
    CallKind("ppoll", 271, 73),
    CallKind("select", 23, None),
    CallKind("pselect6", 270, 72),
    CallKind("epoll_wait", 232, None, (0,)),
    CallKind("epoll_pwait", 281, 22, (0,)),
    CallKind("epoll_pwait2", 441, 441, (0,)),
    CallKind("io_uring_enter", 426, 426, (0,)),
    CallKind("flock", 73, 32, (0,)),
    CallKind("fcntl", 72, 25, (0,)),
    CallKind("ioctl", 16, 29, (0,)),
    CallKind("fsync", 74, 82, (0,)),
    CallKind("fdatasync", 75, 83, (0,)),
    CallKind("close", 3, 57, (0,)),
    CallKind("open", 2, None),
    CallKind("openat", 257, 56),
    CallKind("wait4", 61, 260),
    CallKind("waitid", 247, 95),
    CallKind("futex", 202, 98),
    CallKind("futex_waitv", 449, 449),
    CallKind("futex_wait", 455, 455),
    CallKind("nanosleep", 35, 101),
    CallKind("clock_nanosleep", 230, 115),
    CallKind("pause", 34, None),
    CallKind("rt_sigsuspend", 130, 133),
    CallKind("rt_sigtimedwait", 128, 137),
    CallKind("semop", 65, 193),
    CallKind("semtimedop", 220, 192),
    CallKind("msgrcv", 70, 188),
    CallKind("msgsnd", 69, 189),
    CallKind("mq_timedreceive", 243, 183, (0,)),
    CallKind("mq_timedsend", 242, 182, (0,)),
    CallKind("getrandom", 318, 278),
)

BY_NUMBER: Final = {
    "x86_64": {kind.x86_64: kind for kind in CALLS if kind.x86_64 is not None},
    "aarch64": {kind.aarch64: kind for kind in CALLS if kind.aarch64 is not None},
}
"""By machine, as ``platform.machine()`` has it, and number."""
