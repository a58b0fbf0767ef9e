"""The members of an archive for people and programs, whatever else is in it; and what writes them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, BinaryIO

from pytest_gencore.archive.stacks_file import STACKS_NAME, encode_stacks
from pytest_gencore.archive.writer import ArchiveWriter, FileWriter
from pytest_gencore.collector.source.environment import format_environment
from pytest_gencore.collector.stacks.last_words import MEMBER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gencore.collector.redaction import Redaction
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.stacks.capture_stacks import Stacks


def list_texts(handover: Handover, stacks: Stacks, redaction: Redaction) -> Iterator[tuple[str, str]]:
    """Yield the members for people, name and text, but for the manifest; secrets are still in them."""
    yield "stacks.txt", stacks.format_full() + format_environment(redaction.environment)
    yield STACKS_NAME, encode_stacks(stacks.make_file(), redaction.clean)
    yield "diagnosis.json", json.dumps(redaction.clean(stacks.diagnosis.to_json()), indent=1) + "\n"
    failure = handover.context.request.failure_text
    if failure is not None:
        yield "failure.txt", failure.rstrip("\n") + "\n"
    output = stacks.words.format_output()
    if output:
        yield MEMBER, output


def open_writer(handover: Handover, file: BinaryIO, on_progress: Callable[[int], None] | None) -> FileWriter:
    """Return what writes the archive into a file: in clear, or for recipients."""
    mtime, recipients = handover.started_ns // 1_000_000_000, handover.context.run.recipients
    if not recipients:
        return ArchiveWriter(file, handover.name, mtime, on_progress=on_progress)
    from pytest_gencore.age import parse_recipient  # few captures need it
    from pytest_gencore.archive.sealed_writer import SealedWriter

    keys = [parse_recipient(text) for text in recipients]
    return SealedWriter(file, handover.name, mtime, keys, on_progress=on_progress)
