"""What of a process a capture must leave as it was, and what captures may leave behind: nothing."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import Any

import psutil

_PR_GET_DUMPABLE, _PR_GET_PDEATHSIG, _PR_GET_CHILD_SUBREAPER = 3, 2, 37
_SIGNAL_LINES = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Seccomp")


def describe_process() -> dict[str, Any]:
    """Return the state of the calling process; equal before and after a capture."""
    own = psutil.Process()
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line
    )
    mask = os.umask(0)
    os.umask(mask)
    return {
        "descriptors": _descriptors(),
        "signals": {name: status[name] for name in _SIGNAL_LINES if name in status},
        "handlers": {number: repr(signal.getsignal(number)) for number in signal.valid_signals()},
        "actions": _signal_actions(),
        "cwd": _read_link("/proc/self/cwd"),
        "umask": mask,
        "limits": {
            name: resource.getrlimit(getattr(resource, name))
            for name in dir(resource)
            if name.startswith("RLIMIT_")
        },
        "coredump_filter": Path("/proc/self/coredump_filter").read_text(),
        "oom_score_adj": Path("/proc/self/oom_score_adj").read_text(),
        "threads": sorted(path.name for path in Path("/proc/self/task").iterdir()),
        "children": sorted(child.pid for child in own.children()),
        "descendants": sorted(child.pid for child in own.children(recursive=True)),
        "zombies_and_clones": _kernel_children(),
        "session": (os.getsid(0), os.getpgid(0), os.getppid()),
        "name": Path("/proc/self/comm").read_text(),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "affinity": sorted(os.sched_getaffinity(0)),
        "timers": [signal.getitimer(which) for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL)],
        "prctl": {
            "dumpable": _prctl(_PR_GET_DUMPABLE),
            "death signal": _prctl_answer(_PR_GET_PDEATHSIG),
            "subreaper": _prctl_answer(_PR_GET_CHILD_SUBREAPER),
        },
    }


def processes_in(directory: Path) -> list[str]:
    """Return the processes that have something of a directory open, or are in it: ``PID COMMAND LINE``."""
    prefix = f"{directory}/"
    found = []
    for process in psutil.process_iter():
        links = [f"/proc/{process.pid}/cwd"]
        try:
            links += [str(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
            if any(f"{_read_link(link)}/".startswith(prefix) for link in links):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except (OSError, psutil.Error):
            continue  # it has ended meanwhile
    return found


def _descriptors() -> dict[str, str]:
    """Open descriptors and their flags, without the one of the listing itself."""
    found = {}
    for path in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            found[path.name] = f"{path.readlink()} inheritable={os.get_inheritable(int(path.name))}"
    return found


def _signal_actions() -> dict[int, str]:
    """What the kernel has, also of signals that Python hides (those below SIGRTMIN)."""
    libc = ctypes.CDLL(None, use_errno=True)
    actions = {}
    for number in range(1, 65):
        action = (ctypes.c_uint64 * 4)()
        number_of_call = 13 if os.uname().machine == "x86_64" else 134
        error = libc.syscall(
            ctypes.c_long(number_of_call), ctypes.c_long(number), None, action, ctypes.c_long(8)
        )
        assert error == 0
        actions[number] = bytes(action).hex()
    return actions


def _kernel_children() -> dict[str, str]:
    """Children of each thread as the kernel lists them: also those that ``waitpid`` needs ``__WALL`` for."""
    folder = Path("/proc/self/task")
    return {task.name: (task / "children").read_text() for task in folder.iterdir()}


def _prctl(option: int) -> int:
    return int(ctypes.CDLL(None).prctl(option, 0, 0, 0, 0))


def _prctl_answer(option: int) -> int:
    answer = ctypes.c_int(-1)
    assert ctypes.CDLL(None).prctl(option, ctypes.byref(answer), 0, 0, 0) == 0
    return answer.value


def _read_link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
