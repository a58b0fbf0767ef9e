"""``gencore diagnose``: why a test did not go on, for people or as JSON; the core is not read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pytest_gencore.cli.documents import read_documents
from pytest_gencore.cli.options import ArchiveFile, examples
from pytest_gencore.cli.sealed import identity_option
from pytest_gencore.document.encode import encode_document
from pytest_gencore.document.words import Names, describe_frame, describe_thread, short_frames
from pytest_gencore.texts import describe_event, escape_unprintable, name_subject

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_gencore.archive.opening import ArchivePlace
    from pytest_gencore.archive.stacks_file import Frame
    from pytest_gencore.document.model import Document

_FRAMES: Final = 6


@click.command(
    epilog=examples(
        "gencore diagnose core_20261121.225921.9520.001.tar.gz",
        "gencore diagnose --json gencore-artifacts/*.tar.gz | jq -r .verdict.text",
    )
)
@click.argument("archives", nargs=-1, required=True, type=ArchiveFile(), metavar="ARCHIVE...")
@identity_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document for each ARCHIVE, a line each."
)
def diagnose(archives: tuple[ArchivePlace, ...], *, as_json: bool) -> None:
    """Say why the test of each ARCHIVE did not go on: the verdict, who waits for what, the stacks.

    Only what was written at the time of the capture is read, not the core. Exit status 1 if an archive cannot
    be read; standard error says why, and the others are told.
    """
    failed = False
    for number, (_, document) in enumerate(read_documents(archives)):
        if document is None:
            failed = True
        elif as_json:
            click.echo(encode_document(document))
        else:
            if number:
                click.echo()
            for line in _lines(document):
                click.echo(escape_unprintable(line, keep="\t"))
    if failed:
        raise SystemExit(1)


def _lines(document: Document) -> Iterator[str]:
    test = document.test
    subject = name_subject(test.nodeid, test.place, "no test")
    is_child = document.process.child_of is not None
    yield document.archive.path
    if document.verdict is not None:
        yield document.verdict.text
    event = describe_event(document.trigger.kind, subject, is_child=is_child)
    yield f"{event}, process {document.process.pid}"
    if document.archive.sealed:
        yield "the archive is sealed: --identity FILE, the private key of a recipient, tells the rest"
    yield from document.last_output
    yield from document.evidence
    if document.failure_frames:
        yield ""
        yield f"{document.trigger.exception or 'The failure'} was raised:"
        yield from _describe_frames(document.failure_frames, test.rootdir)
    names = Names(document.threads, document.tasks)
    for thread in document.threads:
        if thread.frames:
            yield ""
            yield describe_thread(thread, names)
            yield from _describe_frames(thread.frames, test.rootdir)
    unknown = sum(thread.frames is None for thread in document.threads)
    if unknown:
        yield ""
        hint = "; gencore stacks may read them from the core" if document.archive.core else ""
        yield f"threads whose frames are not known: {unknown}{hint}"


def _describe_frames(frames: Sequence[Frame], rootdir: str) -> Iterator[str]:
    shown = short_frames(frames, _FRAMES)
    if len(shown) < len(frames):
        yield f"  ... {len(frames) - len(shown)} of {len(frames)} frames left out"
    for frame in shown:
        yield f"  {describe_frame(frame, rootdir)}"
        if frame.source:
            yield f"    {frame.source}"
