"""Who holds a native lock: by the number that the lock itself has."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from pytest_gencore.collector.diagnosis.system.calls import SystemCall
    from pytest_gencore.collector.source.mapped_memory import MappedMemory

_MUTEX: Final = struct.Struct("<IIiIi")
"""``__lock``, ``__count``, ``__owner``, ``__nusers``, ``__kind`` of glibc's ``struct __pthread_mutex_s``."""
_LOCKED: Final = (1, 2)
"""Locked without and with threads that wait: ``lowlevellock.h`` of glibc."""
_KIND_LIMIT: Final = 0x400
"""All flags of ``__kind`` are below: robust, priority inheritance and protection, shared, elision."""
_USERS_LIMIT: Final = 1 << 22
"""There are no more threads: PID_MAX_LIMIT of Linux."""
_WORD: Final = struct.Struct("<I")
_TID_MASK: Final = 0x3FFFFFFF
"""FUTEX_TID_MASK: what the kernel keeps of the owner in a futex with priority inheritance."""


def find_mutex_owner(memory: MappedMemory, address: int, tids: Collection[int]) -> int | None:
    """Return the thread that probably holds a mutex of glibc at the address.

    By the layout only: another lock could lie there. But a value that is no thread of the process is not
    taken for an owner.
    """
    values = memory.unpack(_MUTEX, address)
    if values is None:
        return None
    lock, _, owner, users, kind = values
    is_locked = lock in _LOCKED or lock & _TID_MASK == owner  # robust ones, and those that inherit priority
    is_plausible = is_locked and 1 <= users < _USERS_LIMIT and 0 <= kind < _KIND_LIMIT
    return owner if is_plausible and owner in tids else None


def find_owner(memory: MappedMemory, call: SystemCall, tids: Collection[int]) -> tuple[int, bool] | None:
    """Return the thread that holds what a call waits for, and whether that is sure; None if not known."""
    if call.address is None:
        return None
    if call.is_priority_lock:
        word = memory.unpack(_WORD, call.address)
        owner = word[0] & _TID_MASK if word is not None else 0
        return (owner, True) if owner in tids else None
    owner_by_layout = find_mutex_owner(memory, call.address, tids)
    return None if owner_by_layout is None else (owner_by_layout, False)
