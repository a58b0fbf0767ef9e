"""``gencore prune``: remove archives that are too many, too old or too large, and what killed runs left."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_gencore.cli.artifacts import (
    ArtifactFile,
    find_archives,
    find_unfinished,
    find_unneeded,
)
from pytest_gencore.cli.options import examples
from pytest_gencore.cli.output import echo_json, note
from pytest_gencore.cli.values import parse_duration, parse_size
from pytest_gencore.run.files import page_beside, remove_text, text_beside
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command(
    epilog=examples(
        "gencore prune gencore-artifacts --keep 10",
        "gencore prune gencore-artifacts --older-than 14d --max-size 20GiB --dry-run",
        "gencore prune gencore-artifacts --unfinished",
    )
)
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--keep", type=click.IntRange(min=0), help="Keep this many, the newest.")
@click.option("--older-than", type=parse_duration, metavar="TIME", help="Remove what is older: 12h, 7d, 2w.")
@click.option(
    "--max-size",
    type=parse_size,
    metavar="SIZE",
    help="Remove the oldest until all together are no larger: 4GiB.",
)
@click.option(
    "--unfinished",
    is_flag=True,
    help="Remove .partial files, texts without an archive, and hidden folders that no process here uses.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print the paths removed and kept.")
@click.pass_context
def prune(
    context: click.Context,
    directory: Path,
    *,
    keep: int | None,
    older_than: float | None,
    max_size: int | None,
    unfinished: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove archives from DIRECTORY, and the texts and pages beside them: what any of the given rules says.

    Only regular files named core_DATE.TIME.PID.SEQ.tar.gz, .txt or .html in that very directory are touched;
    age is that of the name. An archive of libraries, libraries_*.tar.gz, goes when no archive needs it any
    more, and is not counted. With --unfinished also what killed runs left, and texts without an archive. Exit
    status 1 if something cannot be removed.
    """
    if keep is None and older_than is None and max_size is None and not unfinished:
        raise click.UsageError("give --keep, --older-than, --max-size or --unfinished", context)
    files = find_archives(directory)
    doomed = [file.path for file in _select(files, keep=keep, older_than=older_than, max_size=max_size)]
    doomed += find_unneeded(directory, [file for file in files if file.path not in doomed])
    doomed += find_unfinished(directory) if unfinished else []
    sizes = {file.path: f"  {format_size(file.size)}" for file in files}
    removed = []
    for path in doomed:
        reason = "" if dry_run else _remove(path)
        if reason:
            note(f"cannot remove {path}: {reason}")
            continue
        removed.append(path)
        if path in sizes and not dry_run:
            remove_text(text_beside(path))
            remove_text(page_beside(path))
        if not as_json:
            verb = "would remove" if dry_run else "removed"
            click.echo(escape_unprintable(f"{verb} {path}{sizes.get(path, '')}"))
    if as_json:
        kept = [str(file.path) for file in files if file.path not in removed]
        echo_json({"removed": [str(path) for path in removed], "kept": kept, "dry_run": dry_run})
    if removed != doomed:
        raise SystemExit(1)


def _remove(path: Path) -> str:
    """Remove a file or folder; return why that failed, empty if it did not."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _select(
    files: list[ArtifactFile], *, keep: int | None, older_than: float | None, max_size: int | None
) -> Iterator[ArtifactFile]:
    total = 0
    now = time.time()
    for number, file in enumerate(reversed(files)):
        total += file.size
        is_surplus = keep is not None and number >= keep
        is_old = older_than is not None and now - file.created > older_than
        if is_surplus or is_old or (max_size is not None and total > max_size):
            yield file
