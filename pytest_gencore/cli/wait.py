"""``gencore wait``: until no collector is at work."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from pytest_gencore.cli.artifacts import DEFAULT_DIRECTORY, find_collectors
from pytest_gencore.cli.options import examples
from pytest_gencore.cli.output import echo_json, note
from pytest_gencore.cli.values import parse_duration
from pytest_gencore.units import format_duration

_POLL_SECONDS: Final = 0.1
"""Locks give no event; a collector takes seconds."""


@click.command(epilog=examples("gencore wait", "gencore wait build/gencore-artifacts --timeout 5m"))
@click.argument("directory", default=DEFAULT_DIRECTORY, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--timeout",
    type=parse_duration,
    metavar="TIME",
    help="Give up after this time: 90, 90s, 5m.  [default: never]",
)
@click.option("--json", "as_json", is_flag=True, help='Print {"working": N, "unknown": N, "waited_s": S}.')
def wait(directory: Path, timeout: float | None, *, as_json: bool) -> None:
    """Wait until no collector is at work in DIRECTORY (default: gencore-artifacts).

    For CI steps that upload archives when the test run itself was killed: collectors go on without it. On the
    same machine only. A directory that does not exist has none. Exit status 1 if the time is over and one is
    still at work, or if the captures of another user cannot be seen.
    """
    started = time.monotonic()
    found = find_collectors(directory)
    count = len(found.at_work)
    if count:
        note(f"{count} {'captures are' if count > 1 else 'capture is'} still being collected")
    while count and (timeout is None or time.monotonic() - started < timeout):
        time.sleep(_POLL_SECONDS)
        found = find_collectors(directory)
        count = len(found.at_work)
    if as_json:
        waited = round(time.monotonic() - started, 3)
        echo_json({"working": count, "unknown": len(found.closed), "waited_s": waited})
    if count:
        note(f"{count} not finished after {format_duration(timeout or 0)}")
    for reason in found.closed:
        note(f"whether captures are finished is not known: {reason}")
    if count or found.closed:
        raise SystemExit(1)
