"""STATE METHOD DIRECTORY HELPERS: get into an unusual state, capture, print a JSON object about it."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import shutil
import signal
import struct
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gencore import collect_core, create_core

if TYPE_CHECKING:
    from collections.abc import Callable

STATE, METHOD, DIRECTORY, HELPERS = sys.argv[1:]
MARK = b"the mark of this mapping"
PAGE = mmap.PAGESIZE
GIB, TIB = 1 << 30, 1 << 40
NONE, READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE
PRIVATE, SHARED, ANONYMOUS, NORESERVE = 2, 1, 0x20, 0x4000
DONTDUMP, DONTFORK, WIPEONFORK = 16, 10, 18
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def map_memory(
    size: int, protection: int = READ_WRITE, flags: int = PRIVATE | ANONYMOUS, file: int = -1
) -> int:
    address = LIBC.mmap(None, size, protection, flags, file, 0)
    assert address != ctypes.c_void_p(-1).value, os.strerror(ctypes.get_errno())
    return int(address)


def mark(address: int) -> int:
    ctypes.memmove(address, MARK, len(MARK))
    return address


def capture(**facts: Any) -> dict[str, Any]:
    archive = collect_core(DIRECTORY, method=METHOD).result(100)  # type: ignore[arg-type] # the test's
    return {"archive": str(archive), "pid": os.getpid(), **facts}


def device() -> dict[str, Any]:
    """Map what a driver maps: VM_IO, VM_PFNMAP, VM_DONTCOPY. Page tables of a counter that counts nothing."""
    attributes = (ctypes.c_char * 128).from_buffer(
        bytearray(struct.pack("<IIQ", 1, 128, 9).ljust(128, b"\0"))
    )
    number = {"x86_64": 298, "aarch64": 241}[os.uname().machine]  # perf_event_open, of PERF_COUNT_SW_DUMMY
    file = LIBC.syscall(number, attributes, 0, -1, -1, 0)
    if file < 0:
        return capture(address=0, flags=[])
    address = map_memory(9 * PAGE, flags=SHARED, file=file)
    smaps = Path("/proc/self/smaps").read_text().partition(f"\n{address:x}-")[2]
    return capture(address=address, flags=smaps.partition("VmFlags:")[2].splitlines()[0].split())


def reservation() -> dict[str, Any]:
    return capture(address=map_memory(20 * TIB, NONE, PRIVATE | ANONYMOUS | NORESERVE))


def sparse() -> dict[str, Any]:
    address = map_memory(TIB, flags=PRIVATE | ANONYMOUS | NORESERVE)
    marks = [mark(address + offset) for offset in (0, TIB // 2, TIB - PAGE)]
    return capture(address=address, marks=marks)


def shared() -> dict[str, Any]:
    address = mark(map_memory(16 * PAGE, flags=SHARED | ANONYMOUS))
    stop = threading.Event()
    counter = ctypes.c_uint64.from_address(address + PAGE)

    def write() -> None:
        while not stop.is_set():
            counter.value += 1

    writer = threading.Thread(target=write)
    writer.start()
    facts = capture(address=address)
    stop.set()
    writer.join()
    return facts


def advised(advice: int) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        address = mark(map_memory(16 * PAGE))
        assert LIBC.madvise(address, 16 * PAGE, advice) == 0
        facts = capture(address=address)
        assert ctypes.string_at(address, len(MARK)) == MARK, "the live process has it still"
        return facts

    return run


def memfd() -> dict[str, Any]:
    file = os.memfd_create("subject")
    os.ftruncate(file, GIB)
    address = map_memory(GIB, flags=SHARED, file=file)
    mark(address + 100 * PAGE)
    facts = capture(address=address + 100 * PAGE)
    return {**facts, "blocks": os.fstat(file).st_blocks}


def hugepages() -> dict[str, Any]:
    return capture(address=mark(map_memory(2 << 20, flags=PRIVATE | ANONYMOUS | 0x40000)))


def deleted_library() -> dict[str, Any]:
    copy = Path(DIRECTORY).with_name("libdeleted.so")
    shutil.copy(HELPERS, copy)
    library = ctypes.CDLL(str(copy))
    copy.unlink()
    return capture(path=str(copy), address=ctypes.cast(library.vfork_until, ctypes.c_void_p).value)


def executable_stack() -> dict[str, Any]:
    line = next(line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[stack]"))
    start, end = (int(number, 16) for number in line.split()[0].split("-"))
    assert LIBC.mprotect(start, end - start, READ_WRITE | mmap.PROT_EXEC) == 0
    return capture(address=end - PAGE)


def truncated_file() -> dict[str, Any]:
    path = Path(DIRECTORY).with_name("truncated")
    path.write_bytes(MARK.ljust(8 * PAGE, b"x"))
    with path.open("r+b") as file:
        address = map_memory(8 * PAGE, mmap.PROT_READ, PRIVATE, file.fileno())
        file.truncate(PAGE)
    return capture(address=address)


def many_mappings() -> dict[str, Any]:
    count = 70_000
    address = map_memory(count * PAGE)
    for page in range(0, count, 2):
        assert LIBC.mprotect(address + page * PAGE, PAGE, mmap.PROT_READ) == 0
    mark(address + PAGE)
    core = create_core(DIRECTORY, method=METHOD, core_filter=1).result(100)  # type: ignore[arg-type] # the test's
    return {"core": str(core), "address": address + PAGE}


def vfork() -> dict[str, Any]:
    helpers = ctypes.CDLL(HELPERS)
    ready, release = os.pipe(), os.pipe()
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(helpers.vfork_until(ready[1], release[0])))
    thread.start()
    os.read(ready[0], 1)
    facts = capture(tid=thread.native_id)
    os.write(release[1], b"x")
    thread.join()
    return {**facts, "answers": answers}


def masked() -> dict[str, Any]:
    ready, gate = threading.Semaphore(0), threading.Semaphore(0)

    def mask_and_wait() -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        ready.release()
        gate.acquire()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    thread = threading.Thread(target=mask_and_wait)
    thread.start()
    ready.acquire()
    facts = capture(tid=thread.native_id)
    gate.release()
    thread.join()
    return facts


def masked_with_many_groups() -> dict[str, Any]:
    os.setgroups(range(1_000_000, 1_000_600))
    return masked()


def zombie_leader() -> dict[str, Any]:
    main_tid = threading.get_native_id()

    def work() -> None:
        stat = Path(f"/proc/self/task/{main_tid}/stat")
        while ") Z " not in stat.read_text():
            os.sched_yield()
        print(json.dumps(capture(tid=threading.get_native_id())), flush=True)
        os._exit(0)

    threading.Thread(target=work).start()
    LIBC.syscall(60, 0)  # SYS_exit: as pthread_exit, without Python's end
    raise AssertionError


STATES: dict[str, Callable[[], dict[str, Any]]] = {
    **{
        f.__name__: f
        for f in (reservation, device, sparse, shared, memfd, hugepages, deleted_library, executable_stack)
    },
    **{
        f.__name__: f
        for f in (truncated_file, many_mappings, vfork, masked, masked_with_many_groups, zombie_leader)
    },
    "dontdump": advised(DONTDUMP),
    "dontfork": advised(DONTFORK),
    "wipeonfork": advised(WIPEONFORK),
}
print(json.dumps(STATES[STATE]()))
