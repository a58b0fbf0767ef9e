"""What the collector reads of the system for a process that captures itself: both sides of such tests."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel import wait_until
from subjects import Captures, python_for_everybody, run_subject

if TYPE_CHECKING:
    from collections.abc import Callable

_COLLECTOR = """
import sys; sys.path += sys.argv[1:]
import json, os, select, time
from pytest_gencore.collector.diagnosis.system.facts import read_system
from pytest_gencore.collector.source.handover import parse_handover
from pytest_gencore.collector.source.snapshot import Snapshot
os.chdir("/")
with open(3, "rb") as file:
    handover = parse_handover(file.read())
if AFTER_ITS_END:
    try:
        poll = select.poll()
        poll.register(os.pidfd_open(handover.pid), select.POLLIN)
        assert poll.poll(30000)
    except ProcessLookupError:
        pass
snapshot = Snapshot(handover.snapshot_pid, 6, 7)
started = time.monotonic()
facts = read_system(handover, snapshot)
answer = facts.to_json()
answer["seconds"] = time.monotonic() - started
answer["lines"] = {tid: facts.describe_call(tid) for tid in facts.calls}
answer["owners"] = {tid: facts.owner_for(tid) for tid in facts.calls}
answer["waited_for"] = {tid: child.pid for tid in facts.calls if (child := facts.child_of(tid))}
answer["unreadable"] = snapshot.unreadable_pages()
snapshot.end()
(handover.directory / "part").write_text(json.dumps(answer))
(handover.directory / "part").rename(handover.directory / "answer")
"""


_AS_NOBODY = """
import ctypes, os
from subjects import give_up_privileges
give_up_privileges(100_000 + os.getpid())  # a user of its own: others' processes could have its pipes, too
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: a process that gave up privileges is not
"""


def read_of(script: str, user: str) -> Any:
    """Run a subject that captures itself and reports, in a folder of its own; as nobody if asked for."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's are for their user alone
        if user == "nobody":
            Path(folder).chmod(0o777)
            return run_subject(_AS_NOBODY + script, folder, python=python_for_everybody())
        return run_subject(script, folder)


def answer_in(directory: Path) -> Any:
    """Wait for what a collector has read."""
    path = directory / "answer"
    wait_until(path.exists, "the collector has read the system", timeout=30)
    return json.loads(path.read_text())


# ---- in the subject ------------------------------------------------------------------------------------


def replace_collector(*, after_its_end: bool = False) -> None:
    """Let collectors of this process only write down what they read, once it has ended if asked for."""
    from pytest_gencore.capture import start

    describe = start.collector_command
    program = _COLLECTOR.replace("AFTER_ITS_END", repr(after_its_end))

    def command(*, seals: bool = False) -> list[str]:
        parts = describe(seals=seals)
        parts[parts.index("-c") + 1] = program
        return parts

    start.collector_command = command


def capture_and_read(directory: Path) -> Any:
    """Capture the calling process, and return what was read."""
    replace_collector()
    Captures(directory).take()
    return answer_in(directory)


def start_in_call(function: Callable[..., object], *arguments: object, names: tuple[str, ...]) -> int:
    """Run the function in a thread; return the thread's id when it blocks in one of the system calls."""
    from pytest_gencore.collector.diagnosis.system.call_tables import CALLS

    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    numbers = {str(number) for call in CALLS if call.name in names for number in (call.x86_64, call.aarch64)}
    path = Path(f"/proc/self/task/{thread.native_id}/syscall")
    wait_until(lambda: path.read_text().split()[0] in numbers, f"a thread is in {names}", timeout=30)
    assert thread.native_id is not None
    return thread.native_id
