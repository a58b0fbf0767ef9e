"""``gencore list``: which archives there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_gencore.archive import read_archive
from pytest_gencore.cli.artifacts import DEFAULT_DIRECTORY, find_archives
from pytest_gencore.cli.options import examples
from pytest_gencore.cli.output import echo_json
from pytest_gencore.errors import GencoreError
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from pytest_gencore.archive import Manifest


@click.command(
    "list",
    epilog=examples("gencore list", "gencore list build/gencore-artifacts --json | jq -r '.[].nodeid'"),
)
@click.argument("directory", default=DEFAULT_DIRECTORY, type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects.")
def list_archives(directory: Path, *, as_json: bool) -> None:
    """List the archives in DIRECTORY (default: gencore-artifacts), oldest first.

    Only manifests are read. Exit status 1 if an archive cannot be read; it is listed with the reason.
    """
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
    if damaged:
        raise SystemExit(1)


def _describe(manifest: Manifest) -> dict[str, Any]:
    return {
        "created": manifest.created,
        "trigger": manifest.trigger.kind,
        "nodeid": manifest.nodeid,
        "phase": manifest.phase,
        "worker_id": manifest.worker_id,
        "pid": manifest.pid,
        "threads": len(manifest.threads),
        "method": manifest.method,
        "complete": manifest.complete,
        "truncated": manifest.core.truncated,
    }


def _format(row: dict[str, Any]) -> str:
    if "error" in row:
        return escape_unprintable(
            f"{row['path']}  {format_size(row['size'])}  CANNOT BE READ: {row['error']}"
        )
    what = row["nodeid"] or f"process {row['pid']}"
    if row["phase"]:
        what += f" ({row['phase']})"
    marks = [] if row["complete"] else ["not finished"]
    marks += ["truncated"] if row["truncated"] else []
    parts = (row["path"], format_size(row["size"]), row["trigger"], what, *marks)
    return escape_unprintable("  ".join(parts))
