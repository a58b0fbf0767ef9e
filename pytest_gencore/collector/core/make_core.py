"""Make the core, by the one method or the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gencore.collector.core.core_source import CoreSource
    from pytest_gencore.collector.core.core_stream import CoreStream
    from pytest_gencore.collector.source.handover import Handover


def make_core(method: str, handover: Handover, source: CoreSource, check: Callable[[], None]) -> CoreStream:
    """Make the core by method ``kernel`` or ``memory``.

    With ``kernel`` this returns when the kernel has written it; ``check`` is called a few times a second
    meanwhile, and what it raises ends that. Raises ArchiveError if there can be no core by this method.
    """
    if method == "kernel":
        from pytest_gencore.collector.core.kernel_method import dump_core  # few captures need it

        return source.clean(dump_core(handover, source.snapshot, source.notes, check))
    if handover.context.request.is_mini:
        from pytest_gencore.collector.core.live_pages import find_live_pages  # likewise

        return source.build_mini(
            find_live_pages(source.snapshot, source.machine, source.memory, handover.threads)
        )
    return source.build_core(handover.core_filter)
