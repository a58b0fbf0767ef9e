"""Read ``stacks.json`` and ``diagnosis.json`` of an archive that may be anybody's."""

from __future__ import annotations

from typing import Any, Final

from pytest_gencore.archive.diagnosis_file import DiagnosisFile
from pytest_gencore.archive.fields import Fields
from pytest_gencore.archive.json_text import decode_json
from pytest_gencore.archive.stacks_file import STACKS_NAME, STACKS_VERSION, StacksFile
from pytest_gencore.errors import ArchiveError

DIAGNOSIS_NAME: Final = "diagnosis.json"
_PLACE: Final = ("file", "line", "function")
_NODE: Final = ("kind", "id")


def parse_stacks(data: bytes) -> StacksFile:
    """Parse and check ``stacks.json``; raises ArchiveError."""
    fields = Fields(decode_json(data, STACKS_NAME), document=STACKS_NAME)
    version = fields.integer("version")
    if version != STACKS_VERSION:
        message = (
            f"{STACKS_NAME} has version {version}, this version of pytest-gencore reads {STACKS_VERSION}"
        )
        raise ArchiveError(message, help_text="a newer pytest-gencore may read it")
    return fields.read(StacksFile)


def parse_diagnosis(data: bytes) -> DiagnosisFile:
    """Parse and check ``diagnosis.json``; raises ArchiveError."""
    values = Fields(decode_json(data, DIAGNOSIS_NAME), document=DIAGNOSIS_NAME).values
    forked = values.get("forked")
    named = {
        **values,
        "waits": _named(values),
        "forked": [_named(child) if isinstance(child, dict) else child for child in forked]
        if isinstance(forked, list)
        else [],
    }
    return Fields(named, document=DIAGNOSIS_NAME).read(DiagnosisFile)


def _named(process: dict[str, Any]) -> dict[str, Any]:
    """Give the parts of places and nodes, which are lists in the file, their names."""
    named = dict(process)
    for group in ("threads", "tasks"):
        if isinstance(named.get(group), list):
            named[group] = [_named_waiter(entry) for entry in named[group]]
    if isinstance(named.get("deadlocked"), list):
        named["deadlocked"] = [_zip(_NODE, node) for node in named["deadlocked"]]
    return named


def _named_waiter(waiter: Any) -> Any:
    if not isinstance(waiter, dict):
        return waiter
    named = {**waiter, "place": _zip_place(waiter.get("place"))}
    if isinstance(waiter.get("frames"), list):
        named["frames"] = [_zip_place(frame) for frame in waiter["frames"]]
    wait = waiter.get("wait")
    if isinstance(wait, dict):
        holders, timeout = wait.get("holders"), wait.get("timeout_seconds")
        is_timeout = isinstance(timeout, int | float) and timeout >= 0  # less than 0 is for ever
        named["wait"] = {
            **wait,
            "holders": [_zip(_NODE, holder) for holder in holders] if isinstance(holders, list) else holders,
            "timeout_seconds": timeout if is_timeout else None,
        }
    return named


def _zip_place(value: Any) -> Any:
    place = _zip(_PLACE, value)
    line = place.get("line") if isinstance(place, dict) else None
    return {**place, "line": None} if isinstance(line, int) and line < 0 else place


def _zip(names: tuple[str, ...], value: Any) -> Any:
    is_list = isinstance(value, list) and len(value) == len(names)
    return dict(zip(names, value, strict=True)) if is_list else value
