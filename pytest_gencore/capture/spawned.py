"""What a child that runs Python does to be watched like its parent.

The armed process copies this file, as ``sitecustomize.py``, into a folder of the run that it puts first into
``PYTHONPATH``. Python imports a module of that name when it starts. Each Python that starts under the tests
pays for this file, so it imports nothing that is not there already, or built in.
"""

from __future__ import annotations

import faulthandler
import marshal
import os
import sys

TYPE_CHECKING = False  # the module typing takes longer than everything else here
if TYPE_CHECKING:
    from typing import Any

NAME = "sitecustomize"
DATA = "data"
"""File beside the copy: a dictionary, by ``marshal``; see ``CaptureEngine.describe_children``."""
_TRACE_SIGNALS = 2


def adopt_trace(native: Any) -> list[int]:
    """Have faulthandler's C code write the stacks in the snapshot, where no lock and no GIL is needed.

    Registering for a signal is how faulthandler hands out that code; the signals themselves are free again at
    once. Two, as it walks 100 threads at most: with the second it writes the stack of the capturing thread.
    The file is standard error: in the snapshot that is a pipe to the collector. Returns the signals.
    """
    import _signal  # type: ignore[import-not-found] # not signal, which makes enumerations

    free = [
        number
        for number in range(_signal.SIGRTMIN + 2, _signal.SIGRTMAX)
        if _signal.getsignal(number) == _signal.SIG_DFL
    ][:_TRACE_SIGNALS]
    for number, all_threads in zip(free, (True, False)):  # noqa: B905 - there may be fewer
        faulthandler.register(number, file=2, all_threads=all_threads, chain=False)
    if free:
        native.adopt_trace(*free, *[0] * (_TRACE_SIGNALS - len(free)))
    return free


def find_abi() -> tuple[int, ...]:
    """Return what must be alike where the extension is loaded: the version, in a build without a GIL."""
    return sys.version_info[:2] if "t" in sys.abiflags else ()


def _arm(folder: str) -> None:
    """Arm this process; raises whatever it likes: where it cannot be done, it is not."""
    import _imp
    from _frozen_importlib import ModuleSpec
    from _frozen_importlib_external import ExtensionFileLoader

    with open(f"{folder}/{DATA}", "rb") as file:  # noqa: PTH123 - pathlib is not loaded yet
        data = marshal.load(file)  # noqa: S302 - in a folder of this user's alone
    if data["abi"] != find_abi():
        raise ImportError(data["library"])
    name = "pytest_gencore.capture._native"
    loader = ExtensionFileLoader(name, data["library"])
    native = _imp.create_dynamic(ModuleSpec(name, loader, origin=data["library"]))
    _imp.exec_dynamic(native)
    plan = native.prepare(*data["plan"])
    crash, dump = (
        None if arguments is None else native.prepare_standby(plan, *arguments)
        for arguments in data["standbys"]
    )
    native.set_last_test(_read_test(*data["started"]))
    adopt_trace(native)
    native.set_crash_standby(crash)
    native.set_child_standbys(crash, dump)
    native.watch_crashes()
    if data["signal"]:
        native.arm_spawned(data["answers"], data["signal"])


def _read_test(path: str, head: int, slot: int) -> str:
    """Return the test that runs, in JSON, from a list with a head and slots of these sizes."""
    with open(path, "rb") as file:  # noqa: PTH123
        file.seek(head - 1)
        newer = file.read(1)
        if newer not in (b"0", b"1"):
            return "null"  # none has begun
        file.seek(head + slot * int(newer))
        name = file.read(slot).partition(b"\n")[0].partition(b" ")[2].decode()
    return name if name.endswith('"') else "null"


def _give_way(folder: str) -> None:
    """Import the ``sitecustomize`` that would have been found without us.

    Raises ModuleNotFoundError if there is none, as Python expects it.
    """
    sys.path[:] = [entry for entry in sys.path if entry != folder]
    sys.path_importer_cache.pop(folder, None)
    del sys.modules[NAME]
    __import__(NAME)


def _start() -> None:
    folder = os.path.dirname(__file__)  # noqa: PTH120
    try:
        _arm(folder)
    except Exception as error:  # noqa: BLE001 - nobody has asked this program for anything
        del error
    _give_way(folder)


if __name__ == NAME:
    _start()
