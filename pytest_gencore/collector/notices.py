"""Sentences about what an archive lacks."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from pytest_gencore.collector.source.procfs import read_mappings

if TYPE_CHECKING:
    from pytest_gencore.collector.core.core_stream import CoreStream
    from pytest_gencore.collector.files.libraries import Library
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot


_DEVICES_NAMED: Final = 3


def find_notices(handover: Handover, snapshot: Snapshot, mappings: list[Mapping], method: str) -> list[str]:
    """Return what of the process is not in the core, or not as it was; for the manifest."""
    notices = []
    if handover.context.request.threads == "calling":
        notices.append("only the capturing thread was asked for: the others are memory without registers")
    elif not handover.stop_signal:
        notices.append("the other threads were not stopped: their registers are not known")
    ours = os.fsencode(f"/{handover.context.run.run_folder}/")
    shared = sum(mapping.shared and mapping.writable and ours not in mapping.path for mapping in mappings)
    if shared:
        notices.append(
            f"shared writable mappings that were read after the fork, and may have changed since: {shared}"
        )
    if not handover.context.request.is_mini:  # which lacks most of the memory on purpose
        notices += _not_copied(handover.pid, mappings)
    error = snapshot.status.filter_error
    if error and method == "kernel":
        notices.append(
            f"coredump_filter could not be set ({os.strerror(error)}): the kernel's own was in force"
        )
    if snapshot.status.oom_error:
        notices.append(f"oom_score_adj could not be set: {os.strerror(snapshot.status.oom_error)}")
    return notices


def find_shown_notices(handover: Handover, libraries: list[Library], core: CoreStream | None) -> list[str]:
    """Return what whoever reads the summary should know; the manifest has the details."""
    shown = list(core.notices) if core is not None and core.truncated else []
    unreached = sum(not thread.reached for thread in handover.threads)
    if unreached:
        shown.append(f"registers of {unreached} of {len(handover.threads)} threads are not known")
    left_out = sum(library.source is None and not library.is_unwanted for library in libraries)
    if left_out:
        shown.append(f"libraries that could not be included: {left_out}")
    return shown


def _not_copied(pid: int, mappings: list[Mapping]) -> list[str]:
    """Say what of the live process is not in the core: of devices, MADV_WIPEONFORK and MADV_DONTFORK."""
    wiped = sum(mapping.size for mapping in mappings if "wf" in mapping.flags)
    notices = [f"{wiped} bytes are zeros in the core: MADV_WIPEONFORK"] if wiped else []
    missing: list[Mapping] = []
    with contextlib.suppress(OSError):  # it has ended
        live = read_mappings(pid, with_sizes=False)
        known = {mapping.start for mapping in mappings}
        if not all(mapping.start in known for mapping in live):
            missing = [
                mapping
                for mapping in read_mappings(pid, with_sizes=True)
                if "dc" in mapping.flags and mapping.start not in known
            ]
    notices += _of_devices([*mappings, *missing])
    size = sum(mapping.size for mapping in missing if not mapping.is_device)
    return [*notices, *([f"{size} bytes are not in the core: MADV_DONTFORK"] if size else [])]


def _of_devices(mappings: list[Mapping]) -> list[str]:
    """Say how much memory of devices there is, and of which: those of a GPU are many."""
    devices = [mapping for mapping in mappings if mapping.is_device]
    if not devices:
        return []
    names = list(dict.fromkeys(mapping.path.decode(errors="backslashreplace") for mapping in devices))
    more = f" and {len(names) - _DEVICES_NAMED} more" if len(names) > _DEVICES_NAMED else ""
    size = sum(mapping.size for mapping in devices)
    return [f"{size} bytes of devices are not in the core: {', '.join(names[:_DEVICES_NAMED])}{more}"]
