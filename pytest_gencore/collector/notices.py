"""Sentences about what an archive lacks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_gencore.collector.source.procfs import read_mappings

if TYPE_CHECKING:
    from pytest_gencore.collector.core.core_stream import CoreStream
    from pytest_gencore.collector.files.libraries import Library
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.procfs import Mapping
    from pytest_gencore.collector.source.snapshot import Snapshot


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
    """Say what of the live process fork leaves out: MADV_WIPEONFORK and MADV_DONTFORK."""
    wiped = sum(mapping.size for mapping in mappings if "wf" in mapping.flags)
    notices = [f"{wiped} bytes are zeros in the core: MADV_WIPEONFORK"] if wiped else []
    try:
        live = read_mappings(pid, with_sizes=False)
        known = {mapping.start for mapping in mappings}
        if all(mapping.start in known for mapping in live):
            return notices
        left_out = [mapping for mapping in read_mappings(pid, with_sizes=True) if "dc" in mapping.flags]
    except OSError:
        return notices  # it has ended
    size = sum(mapping.size for mapping in left_out if mapping.start not in known)
    return [*notices, *([f"{size} bytes are not in the core: MADV_DONTFORK"] if size else [])]
