"""``gencore list``: which archives there are."""

from __future__ import annotations

import concurrent.futures
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from pytest_gencore.archive import read_archive
from pytest_gencore.cli.artifacts import DEFAULT_DIRECTORY, find_archives, find_collectors
from pytest_gencore.cli.options import Directory, examples
from pytest_gencore.cli.output import echo_json, note
from pytest_gencore.errors import GencoreError
from pytest_gencore.run.started import find_lost_runs
from pytest_gencore.texts import escape_unprintable, name_subject
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.archive import Archive, Manifest
    from pytest_gencore.archive.opening import ArchivePlace
    from pytest_gencore.document.alike import Diagnosis

_READERS, _TOGETHER = 2, 16
"""So many threads read so many archives of a store each: one parses while the other one waits."""
_COLOURS: Final = {"failure": "yellow", "timeout": "magenta", "request": "cyan"}
"""Of triggers; others are red."""


@click.command(
    "list",
    epilog=examples(
        "gencore list",
        "gencore list build/gencore-artifacts --json | jq -r '.[].nodeid'",
        "gencore list s3://BUCKET/FOLDER",
    ),
)
@click.argument("directory", default=DEFAULT_DIRECTORY, type=Directory())
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def list_archives(directory: Path | str, *, as_json: bool) -> None:
    """List the archives in DIRECTORY (default: gencore-artifacts), oldest first.

    DIRECTORY may be the URL of a store: of its archives the beginning is read. Those with the same trigger,
    verdict and stack have the same number, and are counted at the end. Cores are not read. Archives that are
    still being written are named on standard error. Exit status 1 if an archive cannot be read; it is listed
    with the reason.
    """
    if isinstance(directory, str):
        found, is_all = _look_in_store(directory)
        nothing = f"no archives in {directory}" if is_all else "no archives in what can be read"
        _show(found, nothing, as_json=as_json)
    else:
        is_all = True
        under_way = list(_find_under_way(directory))  # before the archives: one that ends is not missed
        files = [file.path for file in find_archives(directory)]
        found = [_look(path, alone=len(files) == 1) for path in files]
        _show(found, f"no archives in {directory}", as_json=as_json)
        listed = {looked.row["path"] for looked in found}
        for path, line in under_way:
            if path not in listed:
                note(line)
        for lost in find_lost_runs(directory):
            note(str(lost))
    if not is_all or any("error" in looked.row for looked in found):
        raise SystemExit(1)


class _Looked(NamedTuple):
    """What is listed of one archive."""

    row: dict[str, Any]
    diagnosis: tuple[Diagnosis, str] | None
    """What it may have in common with others, and a title."""


def _look(place: ArchivePlace, *, alone: bool) -> _Looked:
    """Read what is listed of an archive; ``alone``: there is no other one that it could be like."""
    row: dict[str, Any] = {"path": str(place)}
    try:
        row["size"] = place.stat().st_size if isinstance(place, Path) else place.size
        if alone:
            return _Looked(row | _describe(read_archive(place).manifest), None)
        from pytest_gencore.document.encode import BRIEF

        archive = read_archive(place, ahead=BRIEF)
        row |= _describe(archive.manifest)
        return _Looked(row, _diagnose(archive))
    except (GencoreError, OSError) as error:
        return _Looked({"size": 0, **row, "error": str(error)}, None)


def _look_in_store(url: str) -> tuple[list[_Looked], bool]:
    """Look at the archives of a store, few at a time; say whether all of it could be looked into.

    Ctrl-C and other signals end the program here: Python would wait for threads that wait for the store.
    """
    from pytest_gencore.cli.stores import find_stored, tell_closed  # few lists need it

    def look(start: int) -> list[_Looked]:
        archives = store.read_heads(files[start : start + _TOGETHER])
        return [_look(archive, alone=len(files) == 1) for archive in archives]

    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        try:
            store, listing = find_stored(url)
            files = listing.files
            found = [looked for some in pool.map(look, range(0, len(files), _TOGETHER)) for looked in some]
            tell_closed(listing)
            return found, not listing.closed
        except (KeyboardInterrupt, SystemExit) as error:
            click.echo("Aborted!", err=True)
            os._exit(int(error.code or 0) if isinstance(error, SystemExit) else 128 + signal.SIGINT)


def _show(found: list[_Looked], nothing: str, *, as_json: bool) -> None:
    """Print a list; ``nothing`` stands for an empty one."""
    groups = _number_groups(found)
    rows = [looked.row for looked in found]
    if as_json:
        echo_json(rows)
    elif not rows:
        click.echo(escape_unprintable(nothing))
    else:
        _print_table([_make_cells(row) for row in rows])
        for number, (count, about) in enumerate(groups, start=1):
            click.echo(escape_unprintable(f"[{number}] {count} of {len(rows)}: the same stack: {about}"))


def _number_groups(looked: list[_Looked]) -> list[tuple[int, str]]:
    """Set ``group`` of each row, None for one that is like no other; return count and title of each group."""
    found: dict[Diagnosis, list[dict[str, Any]]] = {}
    titles: dict[Diagnosis, str] = {}
    for row, diagnosis in looked:
        if "error" not in row:
            row["group"] = None
        if diagnosis is not None:
            found.setdefault(diagnosis[0], []).append(row)
            titles.setdefault(*diagnosis)
    groups = [(titles[key], rows) for key, rows in found.items() if len(rows) > 1]
    for number, (_, rows) in enumerate(groups, start=1):
        for row in rows:
            row["group"] = number
    return [(len(rows), title) for title, rows in groups]


def _diagnose(archive: Archive) -> tuple[Diagnosis, str] | None:
    """Return what the archive may have in common with others, and a title; None if that is not known."""
    from pytest_gencore.document.alike import find_diagnosis
    from pytest_gencore.document.encode import make_document

    try:
        document = make_document(archive, is_brief=True)
    except (GencoreError, OSError):
        return None
    diagnosis = find_diagnosis(document)
    if diagnosis is None:
        return None
    verdict = document.verdict
    return diagnosis, verdict.text if verdict else f"{document.trigger.kind} at {diagnosis.stack[-1]}"


def _describe(manifest: Manifest) -> dict[str, Any]:
    return {
        "created": manifest.created,
        "trigger": manifest.trigger.kind,
        "nodeid": manifest.nodeid,
        "phase": manifest.phase,
        "place": manifest.place,
        "worker_id": manifest.worker_id,
        "pid": manifest.pid,
        "child_of": manifest.child_of,
        "threads": len(manifest.threads),
        "type": manifest.type,
        "method": manifest.method,
        "complete": manifest.complete,
        "truncated": manifest.core is not None and manifest.core.truncated,
    }


def _find_under_way(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the archives that collectors work on, each with what is known of it; "" where nobody can know."""
    from pytest_gencore.run.state import read_state

    found = find_collectors(directory)
    for file in found.at_work:
        archive = str(directory / f"{file.stem}.tar.gz")
        state = read_state(file)
        about = (
            (state.trigger or "", _name(state.nodeid, state.place, state.phase, state.captured_pid))
            if state
            else ()
        )
        yield archive, "  ".join(filter(None, (f"still being written: {archive}", *about)))
    for reason in found.closed:
        yield "", f"whether captures are finished is not known: {reason}"


def _name(nodeid: str | None, place: str, phase: str | None, pid: int) -> str:
    what = name_subject(nodeid, place, f"process {pid}" if pid else "")
    return f"{what} ({phase})" if phase else what


def _make_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """Return what stands in the columns: path, size, trigger, and the rest."""
    path, size = escape_unprintable(row["path"]), format_size(row["size"])
    if "error" in row:
        return path, size, "", click.style(escape_unprintable(f"CANNOT BE READ: {row['error']}"), fg="red")
    what = _name(row["nodeid"], row["place"], row["phase"], row["pid"])
    if row["child_of"] is not None:
        what = f"a child of {what}"
    marks = [] if row["complete"] else ["not finished"]
    marks += ["truncated"] if row["truncated"] else []
    marks += [f"[{row['group']}]"] if row["group"] else []
    return path, size, row["trigger"], escape_unprintable("  ".join([what, *marks]))


def _print_table(rows: list[tuple[str, ...]]) -> None:
    """Print aligned columns; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for path, size, trigger, rest in rows:
        shown = click.style(trigger.ljust(widths[2]), fg=_COLOURS.get(trigger, "red"))
        click.echo(f"{path.ljust(widths[0])}  {size.rjust(widths[1])}  {shown}  {rest}")
