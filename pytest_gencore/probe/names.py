"""Names of resources: the variable, the attribute or the module's global that refers to each."""

from __future__ import annotations

import gc
import types
from typing import TYPE_CHECKING, Any

from pytest_gencore.probe.facts import check_time, is_project, say
from pytest_gencore.probe.reading import fields_of, module_name, type_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

    from pytest_gencore.probe.tasks import Tasks
    from pytest_gencore.probe.threads import Threads

    Found = dict[int, tuple[int, str, str, str]]
    """By the thing's id: a rank, the lowest is the best; kind, name, and what that is of."""

_WANTED_LIMIT = 500
_FRAMES_LIMIT = 2000
_ITEMS_LIMIT = 1000
_REFERRERS_LIMIT = 20_000
_AT_ONCE = 50
"""Things that one pass over the heap looks for: it compares each reference with all of them."""
_DICTS_EACH = 3
"""Dicts whose owners are looked for, for each thing: one name is enough."""
_LIBRARY = (
    "threading",
    "queue",
    "asyncio",
    "concurrent",
    "multiprocessing",
    "_frozen_importlib",
    "importlib",
)


def tell_names(threads: Threads, tasks: Tasks) -> None:
    """Say the best name of each resource that was noted: a global before an attribute before a local."""
    wanted = dict(list(threads.things.items())[:_WANTED_LIMIT])
    if not wanted:
        return
    frames = [*_frames(threads.stacks.values()), *_frames(tasks.chains.values())][:_FRAMES_LIMIT]
    found: Found = {}
    for frame in frames:
        check_time()
        _look_in(frame.f_globals, wanted, found, 0, "global", str(frame.f_globals.get("__name__")))
        _look_in(frame.f_locals, wanted, found, 2, "local", frame.f_code.co_name)
    _say_names(found, found)  # before the search that may take too long
    rest = [number for number in wanted if found.get(number, (9,))[0]]
    for start in range(0, len(rest), _AT_ONCE):
        check_time()
        part = rest[start : start + _AT_ONCE]
        before = {number: found.get(number) for number in part}
        _look_behind({number: wanted[number] for number in part}, found)
        _say_names(found, [number for number in part if found.get(number) != before[number]])


def _say_names(found: Found, numbers: Iterable[int]) -> None:
    for number in numbers:
        _, kind, name, owner = found[number]
        say("name", id=number, name=name, kind=kind, of=owner)


def _frames(stacks: Iterable[list[FrameType]]) -> Iterator[FrameType]:
    for stack in stacks:
        yield from (frame for frame in stack if is_project(frame))


def _look_in(
    names: Any,
    wanted: dict[int, Any],
    found: Found,
    rank: int,
    kind: str,
    owner: str,
) -> None:
    """Take the names of wanted things, and of those in lists and dicts of a variable."""
    for name, value in list(names.items()):
        if type(name) is not str or name.startswith("@"):  # pytest's rewritten assertions
            continue
        if id(value) in wanted:
            _keep(found, id(value), rank, kind, name, owner)
        elif type(value) in (list, tuple) and len(value) <= _ITEMS_LIMIT:
            for number, item in enumerate(value):
                if id(item) in wanted:
                    _keep(found, id(item), rank + 1, kind, f"{name}[{number}]", owner)
        elif type(value) is dict and len(value) <= _ITEMS_LIMIT and not name.startswith("__"):
            for key, item in list(value.items()):
                if id(item) in wanted and type(key) in (str, int):
                    _keep(found, id(item), rank + 1, kind, f"{name}[{key!r}]", owner)


def _keep(found: Found, number: int, rank: int, kind: str, name: str, owner: str) -> None:
    if number not in found or found[number][0] > rank:
        found[number] = (rank, kind, name, owner)


def _look_behind(wanted: dict[int, Any], found: Found) -> None:
    """Take attributes: in one pass over the heap, and a second one for dicts that belong to instances.

    Never ``gc.get_objects``: it would change every reference count, and so copy every page of the heap.
    """
    dicts: list[dict[Any, Any]] = []
    referrers = gc.get_referrers(*wanted.values())[:_REFERRERS_LIMIT]
    for owner in referrers:
        if type(owner) is dict:
            if "__name__" in owner and "__builtins__" in owner:
                _look_in(owner, wanted, found, 0, "global", str(owner["__name__"]))
            else:
                dicts.append(owner)
        elif module_name(owner) != "builtins":
            _look_at_instance(owner, fields_of(owner) or _slots_of(owner), wanted, found)
    by_id = _choose(dicts, referrers, wanted)
    if by_id:
        check_time()
        for owner in gc.get_referrers(*by_id.values())[:_REFERRERS_LIMIT]:
            if module_name(owner) != "builtins":
                names = by_id.get(id(fields_of(owner)))
                if names is not None:
                    _look_at_instance(owner, names, wanted, found)


def _choose(
    dicts: list[dict[Any, Any]], referrers: list[Any], wanted: dict[int, Any]
) -> dict[int, dict[Any, Any]]:
    """Return, by id, a few dicts for each thing; none of those that were made for ``f_locals``."""
    locals_of_frames = {id(owner.f_locals) for owner in referrers if type(owner) is types.FrameType}
    counts = dict.fromkeys(wanted, 0)
    chosen = {}
    for names in dicts:
        # Not the probe's own dicts, whose keys are numbers: attributes have texts.
        inside = [
            id(value) for name, value in list(names.items()) if type(name) is str and id(value) in counts
        ]
        if id(names) not in locals_of_frames and any(counts[number] < _DICTS_EACH for number in inside):
            chosen[id(names)] = names
            for number in inside:
                counts[number] += 1
    return chosen


def _look_at_instance(owner: object, names: dict[str, Any], wanted: dict[int, Any], found: Found) -> None:
    module = module_name(owner)
    if module.partition(".")[0] in _LIBRARY:
        return  # such a name says nothing
    for name, value in list(names.items()):
        if id(value) in wanted and type(name) is str:
            _keep(found, id(value), 1, "attribute", f"{type_name(owner)}.{name}", module)


def _slots_of(thing: object) -> dict[str, Any]:
    found = {}
    for cls in type(thing).__mro__:
        for name, member in cls.__dict__.items():
            if type(member) is types.MemberDescriptorType and type(name) is str:
                try:
                    found[name] = member.__get__(thing)
                except Exception:  # noqa: S112 - a slot that is empty
                    continue
    return found
