"""``gencore show``: what an archive is, without unpacking its core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pytest_gencore.cli.options import archive_argument, examples
from pytest_gencore.cli.output import echo_json, echo_text, list_said
from pytest_gencore.cli.sealed import identity_option, read_given
from pytest_gencore.document.words import describe_trigger
from pytest_gencore.texts import escape_unprintable, name_subject
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gencore.archive import (
        Archive,
        CoreFacts,
        Manifest,
        RedactionFacts,
        SealedFacts,
        Thread,
        Timings,
    )
    from pytest_gencore.archive.opening import ArchivePlace

_THREADS_SHOWN = 40


@click.command(
    epilog=examples(
        "gencore show core_20261121.225921.9520.001.tar.gz",
        "gencore show --failure core_20261121.225921.9520.001.tar.gz",
        "gencore show --json core_20261121.225921.9520.001.tar.gz | jq .manifest.notices",
    )
)
@archive_argument
@identity_option
@click.option("--failure", is_flag=True, help="Print the failure as pytest printed it, with locals.")
@click.option(
    "--output", is_flag=True, help="Print what the test had printed last before it hung or crashed."
)
@click.option("--json", "as_json", is_flag=True, help="Print the manifest and the size of the file.")
def show(archive: ArchivePlace, *, failure: bool, output: bool, as_json: bool) -> None:
    """Show what ARCHIVE is: which test, when, why, threads, sizes, what is missing.

    Only the manifest is read, so this is fast whatever the size. Exit status 1 if the file is no archive, is
    damaged, or with --failure or --output holds none.
    """
    opened = read_given(archive)
    if failure:
        text = opened.failure()
        if text is None:
            raise click.ClickException("the archive holds no failure: it was made for something else")
        echo_text(text)
    elif output:
        text = opened.output()
        if text is None:
            raise click.ClickException("the archive holds no output: none was known when it was made")
        echo_text(text)
    elif as_json:
        path, size = str(opened.place), opened.size
        echo_json({"path": path, "size": size, "manifest": opened.manifest.document})
    else:
        for label, value in _lines(opened):
            line = escape_unprintable(f"{label:<10} {value}".rstrip())
            click.secho(line, fg="red" if label == "verdict" else None, bold=label == "verdict")


def _lines(archive: Archive) -> Iterator[tuple[str, str]]:
    manifest = archive.manifest
    yield "archive", f"{archive.path.name}, {format_size(archive.size)}"
    if not manifest.complete:
        yield "", "NOT FINISHED: its collector is at work, or was ended while it wrote this file"
    yield "test", _test(manifest)
    yield "trigger", describe_trigger(manifest.trigger)
    if manifest.diagnosis is not None and manifest.diagnosis.verdict:
        yield "verdict", manifest.diagnosis.verdict
    for text in list_said(manifest):
        yield "", text
    yield "created", manifest.created
    versions = manifest.versions
    python = f"{versions.python.implementation} {versions.python.version}"
    parent = f", child of process {manifest.child_of}" if manifest.child_of else ""
    yield "process", f"{manifest.pid}{parent}, {python}, {versions.kernel} {versions.machine}"
    yield "type", manifest.type
    yield "core", _core(manifest.core)
    if manifest.executable is not None:
        yield "executable", manifest.executable
        yield "method", f"{manifest.method}: {manifest.method_reason}"
        yield "libraries", _libraries(manifest)
    timings = manifest.timings
    if timings.pause_ms is not None and timings.collect_s is not None:
        yield "timings", f"{_pause(timings, timings.pause_ms)}, archive {timings.collect_s:.1f} s"
    if manifest.sealed is not None:
        yield "sealed", _sealed(manifest.sealed, is_open=bool(archive.keys))
    yield from _threads(manifest.threads)
    yield from _environment(manifest.environment)
    if manifest.redaction is not None:
        yield "secrets", _secrets(manifest.redaction)
    for text in manifest.notices:
        yield "notice", text
    yield "made by", f"pytest-gencore {versions.pytest_gencore}"


def _sealed(sealed: SealedFacts, *, is_open: bool) -> str:
    text = f"for {sealed.recipients} recipient{'s' if sealed.recipients != 1 else ''}"
    return text if is_open else f"{text}: --identity FILE, the private key of one, shows the rest"


def _threads(threads: Sequence[Thread]) -> Iterator[tuple[str, str]]:
    if threads:
        yield "threads", str(len(threads))
    for number, thread in enumerate(threads[:_THREADS_SHOWN]):
        yield "", _thread(thread, is_first=number == 0)
    if len(threads) > _THREADS_SHOWN:
        yield "", f"... and {len(threads) - _THREADS_SHOWN} more: see --json"


def _environment(entries: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    has_values = any("=" in entry for entry in entries)
    shown = entries if has_values else (", ".join(entries),)[: len(entries)]
    for number, text in enumerate(shown):
        yield "" if number else "variables", text


def _pause(timings: Timings, pause_ms: float) -> str:
    if timings.held:
        return f"threads were held until the archive was finished, {pause_ms / 1000:.1f} s"
    return f"threads stood still {pause_ms:.1f} ms"


def _test(manifest: Manifest) -> str:
    subject = name_subject(manifest.nodeid, manifest.place, "none")
    details = [manifest.phase] if manifest.phase else []
    details += [f"attempt {manifest.attempt}"] if manifest.attempt > 1 else []
    details += [manifest.worker_id] if manifest.worker_id else []
    return f"{subject} ({', '.join(details)})" if details else subject


def _core(core: CoreFacts | None) -> str:
    if core is None:
        return "none"
    cut = ", TRUNCATED" if core.truncated else ""
    return f"{format_size(core.size)}, {format_size(core.data_size)} of it without holes{cut}"


def _libraries(manifest: Manifest) -> str:
    left_out = [library for library in manifest.libraries if not library.included]
    size = format_size(sum(library.size for library in manifest.libraries if library.included))
    text = f"{len(manifest.libraries) - len(left_out)}, {size}"
    return f"{text}; {len(left_out)} only named" if left_out else text


def _secrets(redaction: RedactionFacts) -> str:
    others = f" and {redaction.others} more" if redaction.others else ""
    what = f"{len(redaction.variables)} variables{others}"
    return f"overwritten in {redaction.places} places: the values of {what}; others are still there"


def _thread(thread: Thread, *, is_first: bool) -> str:
    text = f"{thread.tid} {thread.name}"
    if is_first:
        text += ", the capturing thread"
    if not thread.native_registers:
        text += f", registers not known: {thread.reason or 'no reason given'}"
    return text
