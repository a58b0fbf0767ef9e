"""Say in plain words what led to a capture; names of signal codes are those of sigaction(2)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NamedTuple

from pytest_gencore.request.model import AFTER_SESSION
from pytest_gencore.texts import NOWHERE, Folders
from pytest_gencore.triggers import TRIGGERS
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from pytest_gencore.triggers import Trigger

_SENT_CODES = {
    0: ("SI_USER", "sent with kill"),
    0x80: ("SI_KERNEL", "raised by the kernel"),
    -1: ("SI_QUEUE", "sent with sigqueue"),
    -2: ("SI_TIMER", "sent by a timer"),
    -3: ("SI_MESGQ", "sent by a message queue"),
    -4: ("SI_ASYNCIO", "sent by asynchronous I/O"),
    -5: ("SI_SIGIO", "sent by queued SIGIO"),
    -6: ("SI_TKILL", "sent with tkill or tgkill, as raise and abort do"),
}
_CODES = {
    "SIGSEGV": {
        1: ("SEGV_MAPERR", "address not mapped"),
        2: ("SEGV_ACCERR", "no permission for the mapping"),
        3: ("SEGV_BNDERR", "failed address bound checks"),
        4: ("SEGV_PKUERR", "access denied by memory protection keys"),
    },
    "SIGBUS": {
        1: ("BUS_ADRALN", "invalid address alignment"),
        2: ("BUS_ADRERR", "nonexistent physical address, as behind the end of a mapped file"),
        3: ("BUS_OBJERR", "hardware error of the object"),
        4: ("BUS_MCEERR_AR", "hardware memory error, action required"),
        5: ("BUS_MCEERR_AO", "hardware memory error, action optional"),
    },
    "SIGFPE": {
        1: ("FPE_INTDIV", "integer division by zero"),
        2: ("FPE_INTOVF", "integer overflow"),
        3: ("FPE_FLTDIV", "floating-point division by zero"),
        4: ("FPE_FLTOVF", "floating-point overflow"),
        5: ("FPE_FLTUND", "floating-point underflow"),
        6: ("FPE_FLTRES", "inexact floating-point result"),
        7: ("FPE_FLTINV", "invalid floating-point operation"),
        8: ("FPE_FLTSUB", "subscript out of range"),
    },
    "SIGILL": {
        1: ("ILL_ILLOPC", "illegal opcode"),
        2: ("ILL_ILLOPN", "illegal operand"),
        3: ("ILL_ILLADR", "illegal addressing mode"),
        4: ("ILL_ILLTRP", "illegal trap"),
        5: ("ILL_PRVOPC", "privileged opcode"),
        6: ("ILL_PRVREG", "privileged register"),
        7: ("ILL_COPROC", "coprocessor error"),
        8: ("ILL_BADSTK", "internal stack error"),
    },
    "SIGTRAP": {1: ("TRAP_BRKPT", "breakpoint"), 2: ("TRAP_TRACE", "trace trap")},
    "SIGSYS": {1: ("SYS_SECCOMP", "system call refused by a seccomp filter")},
}


class Facts(NamedTuple):
    """What a capture is about."""

    trigger: Trigger
    pid: int
    """The captured process."""
    child: str = ""
    """The command line of a child of the armed process that was captured; empty if it is not one."""
    nodeid: str | None = None
    phase: str | None = None
    """``setup``, ``call`` or ``teardown``."""
    place: str = ""
    """Where in or outside of the test, in words; empty if test and phase say it."""
    worker_id: str | None = None
    signal_number: int | None = None
    signal_code: int | None = None
    """``si_code`` of sigaction(2)."""
    fault_address: int | None = None
    """``si_addr`` of sigaction(2)."""
    is_stack_overflow: bool = False
    """Whether the address is in the guard below the thread's stack."""
    deadline_seconds: float | None = None
    deadline_source: str | None = None
    """Who set it: ``pytest-timeout`` or ``gencore``."""
    cancel: str = ""
    """What cancelled the run, in words."""
    memory: str = ""
    """How much is used of which limit, in words."""
    place_seconds: float | None = None
    """How long the process had been where it was, for a run that was cancelled."""
    exception: str | None = None
    """Type of the exception of a failure."""
    is_raising: bool = False
    """Whether that was just raised on the thread that made the capture."""
    native_id: int | None = None
    """The thread that crashed or runs the test; None if it is the one that made the capture."""
    said: tuple[str, ...] = ()
    """What the process itself said last, as lines for people."""
    is_living: bool = False
    """Whether there was no snapshot: the process went on while it was looked at."""
    folders: Folders = NOWHERE
    """Of the session."""


def describe_trigger(facts: Facts) -> str:
    """Return one line: what triggered the capture, and where."""
    worker = f"worker {facts.worker_id}" if facts.worker_id else ""
    test = facts.nodeid or ("" if facts.place else "no test")
    seconds = facts.place_seconds
    since = "" if seconds is None else f"for {format_duration(round(seconds, 1))}"
    process = "" if facts.child else f"process {facts.pid}"
    where = ", ".join(filter(None, (test, facts.phase, facts.place, since, worker, process)))
    if facts.child:
        where = f"child {facts.pid} ({facts.child}) of {where}"
    signal_text = describe_signal(facts.signal_number, facts.signal_code, facts.fault_address)
    if facts.is_raising:
        return f"{facts.exception} raised in {where}"
    if facts.trigger == "failure" and facts.exception:
        where += f": {facts.exception}"
    summary = TRIGGERS[facts.trigger].summary
    if where.startswith(AFTER_SESSION):
        summary = summary.replace(" in {where}", ", {where}")
    return summary.format(
        where=where,
        signal=f"{signal_text}, stack overflow," if facts.is_stack_overflow else signal_text,
        deadline=_describe_deadline(facts.deadline_seconds, facts.deadline_source),
        cancel=facts.cancel,
        memory=facts.memory,
    )


def describe_signal(number: int | None, code: int | None, address: int | None) -> str:
    """Return name, code and address: ``SIGSEGV (SEGV_MAPERR: address not mapped) at address 0x8``."""
    if number is None:
        return "crashed"
    name = name_signal(number)
    if code is None:
        return name
    known = _find_code(number, code)
    text = f"{name} ({known[0]}: {known[1]})" if known else f"{name} (si_code {code})"
    fault = None if address is None else find_address(number, code, address)
    return text if fault is None else f"{text} at address {fault:#x}"


def name_signal(number: int) -> str:
    """Return ``SIGSEGV``; ``signal 40`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def name_code(number: int, code: int) -> str | None:
    """Return the name of an ``si_code``, None if it is not known."""
    known = _find_code(number, code)
    return known[0] if known else None


def find_address(number: int, code: int, address: int) -> int | None:
    """Return the address of a fault, None for a signal whose ``si_addr`` is another field."""
    is_fault = name_signal(number) in _CODES and code > 0 and code not in _SENT_CODES
    return address if is_fault else None


def _find_code(number: int, code: int) -> tuple[str, str] | None:
    return _SENT_CODES.get(code) or _CODES.get(name_signal(number), {}).get(code)


def _describe_deadline(seconds: float | None, source: str | None) -> str:
    if source == "gencore-session":
        return f"no progress for {format_duration(seconds or 0)} (session timeout of gencore)"
    took = "took too long" if seconds is None else f"took longer than {format_duration(seconds)}"
    return f"{took} (timeout of {source})" if source else took
