"""``gencore list``: which archives there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_gencore.archive import read_archive
from pytest_gencore.cli.artifacts import DEFAULT_DIRECTORY, find_archives, find_collectors
from pytest_gencore.cli.options import examples
from pytest_gencore.cli.output import echo_json, note
from pytest_gencore.errors import GencoreError
from pytest_gencore.run.started import find_lost_runs
from pytest_gencore.texts import escape_unprintable, name_subject
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.archive import Manifest


@click.command(
    "list",
    epilog=examples("gencore list", "gencore list build/gencore-artifacts --json | jq -r '.[].nodeid'"),
)
@click.argument("directory", default=DEFAULT_DIRECTORY, type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def list_archives(directory: Path, *, as_json: bool) -> None:
    """List the archives in DIRECTORY (default: gencore-artifacts), oldest first.

    Only manifests are read. Those that are still being written are named on standard error. Exit status 1 if
    an archive cannot be read; it is listed with the reason.
    """
    under_way = list(_find_under_way(directory))  # before the archives: one that gets finished is not missed
    rows: list[dict[str, Any]] = []
    damaged = False
    for file in find_archives(directory):
        row: dict[str, Any] = {"path": str(file.path), "size": file.size}
        try:
            row |= _describe(read_archive(file.path).manifest)
        except (GencoreError, OSError) as error:
            row["error"] = str(error)
            damaged = True
        rows.append(row)
    if as_json:
        echo_json(rows)
    elif not rows:
        click.echo(f"no archives in {escape_unprintable(str(directory))}")
    else:
        for row in rows:
            click.echo(_format(row))
    listed = {row["path"] for row in rows}
    for path, line in under_way:
        if path not in listed:
            note(line)
    for lost in find_lost_runs(directory):
        note(str(lost))
    if damaged:
        raise SystemExit(1)


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


def _format(row: dict[str, Any]) -> str:
    if "error" in row:
        return escape_unprintable(
            f"{row['path']}  {format_size(row['size'])}  CANNOT BE READ: {row['error']}"
        )
    what = _name(row["nodeid"], row["place"], row["phase"], row["pid"])
    if row["child_of"] is not None:
        what = f"a child of {what}"
    marks = [] if row["complete"] else ["not finished"]
    marks += ["truncated"] if row["truncated"] else []
    parts = (row["path"], format_size(row["size"]), row["trigger"], what, *marks)
    return escape_unprintable("  ".join(parts))
