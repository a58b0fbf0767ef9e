"""Tell a CI system of captures: as soon as something is known of them, and again at their end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from pytest_gencore.ci import lines, page
from pytest_gencore.ci.memory import open_memory
from pytest_gencore.run.pinned import create_private
from pytest_gencore.unpatched import NO_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pytest_gencore.ci.captures import Capture
    from pytest_gencore.ci.memory import Memory
    from pytest_gencore.ci.systems import Target

SUMMARY_LIMIT: Final = 1 << 20
"""Bytes of a step's summary, whoever wrote it, and of an annotation: larger ones are refused."""
_AFTER_US: Final = 768 << 10
"""Bytes of GitHub's that it has at most after us: others write there, too."""
_CELL_SPARE: Final = 320
"""Bytes that the cell of an archive may grow by."""
_AGENT_SECONDS: Final = 10.0
_EARLY_SECONDS: Final = 3.0
"""Of an agent while an archive waits to be written: a cancelled job has not much more."""


class RunPlace(NamedTuple):
    """Where the captures of a run are."""

    folder: Path | None
    """The run's folder, by whichever path it can be used; None if there is none."""
    name: str
    """Its name."""
    directory: Path
    """The artifact directory."""

    @property
    def id(self) -> str:
        """A name that no other run has."""
        return f"gencore-{self.name.rpartition('-')[2]}"


class News(NamedTuple):
    """What is to be told now."""

    all: Sequence[Capture]
    new: Sequence[Capture]
    """Those that nobody has told of."""
    ended: Sequence[Capture]
    """Those whose archives are finished, or given up, since they were told of."""
    environ: Mapping[str, str]


class Telling(NamedTuple):
    """What the caller has to do."""

    lines: list[str]
    """To be written into the log, each at the start of a line."""
    problem: str = ""
    """Why something was not told, by whichever process; on one line."""


def tell(
    run: RunPlace,
    target: Target,
    captures: Sequence[Capture],
    *,
    may_go: Collection[str] = (),
    environ: Mapping[str, str],
    waits: bool = True,
) -> Telling:
    """Tell what is news; the first error of the run becomes the problem.

    ``captures`` are all that can be told of in this run, but those that ``may_go``, by name, are told by
    others first. ``environ`` is that of the job. Without ``waits`` nothing is told while another process
    does.
    """
    try:
        with open_memory(run.folder, waits=waits) as memory:
            if memory is None:
                return Telling([])
            captures = [entry for entry in captures if entry.name in memory.told or entry.name not in may_go]
            new = [capture for capture in captures if capture.name not in memory.told]
            ended = [capture for capture in captures if capture.is_final and capture.name not in memory.ended]
            if not new and not ended:
                return Telling([], memory.problem)
            memory.told += [capture.name for capture in new]
            memory.ended += [capture.name for capture in ended]
            told = _WRITERS[target.system](run, target, News(captures, new, ended, environ), memory)
            memory.problem = memory.problem or told.problem
            return Telling(told.lines, memory.problem)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return Telling([], f"ci: {target.system} is not told of captures: {what}")


def _tell_github(_run: RunPlace, target: Target, news: News, memory: Memory) -> Telling:
    told = []
    for capture in news.new:
        memory.notices += 1
        if memory.notices < lines.NOTICES:
            told.append(lines.make_notice(lines.describe_line(capture, target.base)))
        elif memory.notices == lines.NOTICES:
            told.append(lines.make_notice("there are more captures: see the summary of the step, or the log"))
    if not target.place:
        return Telling(told)
    try:
        problem = _append_summary(Path(target.place), target.base, news.new, memory)
        _complete_cells(Path(target.place), target.base, news.ended, memory)
    except OSError as error:
        problem = f"ci: {target.place} could not be written: {error.strerror}"
    return Telling(told, problem)


def _append_summary(path: Path, base: str, captures: Sequence[Capture], memory: Memory) -> str:
    """Append a table in one write: what others have written stays. Return why it was left out."""
    if not captures:
        return ""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_WAIT, 0o644)
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return f"ci: {path} is not a regular file"
        room = _AFTER_US - status.st_size
        cells = {capture.name: _reserve(page.make_cell(capture, base)) for capture in captures}
        head = "\n" + (page.HEADING if not memory.cells else "")
        text = head + page.make_table([page.make_row(capture, cells[capture.name]) for capture in captures])
        for capture in captures:
            details = page.make_details(capture)
            if len(text.encode()) + len(details.encode()) < room:
                text += details
        data = f"{text}\n".encode()
        if len(data) > room:
            return f"ci: no room for more captures in {path}: GitHub takes 1 MiB"
        file.write(data)
        start = os.lseek(descriptor, 0, os.SEEK_CUR) - len(data)
    for name, cell in cells.items():
        memory.cells[name] = (start + data.index(cell.encode()), cell)
    return ""


def _reserve(cell: str) -> str:
    return cell + " " * _CELL_SPARE


def _complete_cells(path: Path, base: str, captures: Sequence[Capture], memory: Memory) -> None:
    """Write what is known at the end over our own bytes, if they still are where they were."""
    with contextlib.ExitStack() as stack:
        file = None
        for capture in captures:
            at, before = memory.cells.get(capture.name, (0, ""))
            shorter = dataclasses.replace(capture, reason="")
            cells = [page.make_cell(entry, base) for entry in (capture, shorter)]
            cells.append(page.make_cell(dataclasses.replace(shorter, url=""), base))
            after = next((cell for cell in cells if len(cell.encode()) <= len(before.encode())), cells[-1])
            room = len(before.encode()) - len(after.encode())
            if before.rstrip() == after or room < 0:
                continue
            if file is None:
                file = stack.enter_context(path.open("r+b", buffering=0))
            if os.pread(file.fileno(), len(before.encode()), at) == before.encode():
                os.pwrite(file.fileno(), after.encode() + b" " * room, at)


def _tell_azure(run: RunPlace, target: Target, news: News, _memory: Memory) -> Telling:
    """Give the agent a file: of one that has the same name it shows the last."""
    folder = Path(target.place) if target.place else run.directory
    path = folder / f"{run.id}.md"
    new = folder / f"{path.name}.new"
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with os.fdopen(create_private(new), "wb") as file:
        os.fchmod(file.fileno(), 0o644)  # the agent may be another user, outside of a container
        file.write(page.make_page(news.all, target.base, SUMMARY_LIMIT).encode())
    new.replace(path)
    uploads = [lines.make_azure_upload(file) for file in _find_files(news.ended)]
    return Telling([lines.make_azure_summary(path), *uploads])


def _tell_buildkite(run: RunPlace, target: Target, news: News, memory: Memory) -> Telling:
    """Annotate the build; the annotation of the same context is replaced."""
    if memory.problem:
        return Telling([])
    if not target.place:
        return Telling([], "ci: no annotation: buildkite-agent is not on PATH")
    is_early = not all(capture.is_final for capture in news.all)
    command = [target.place, "annotate", "--style", "warning", "--context", run.id]
    text = page.make_page(news.all, target.base, SUMMARY_LIMIT)
    try:
        ended = subprocess.run(
            command,
            input=text.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=news.environ,
            timeout=_EARLY_SECONDS if is_early else _AGENT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        if is_early:
            return Telling([])  # at the end all is told again
        return Telling([], f"ci: no annotation: buildkite-agent took longer than {_AGENT_SECONDS:g} s")
    if ended.returncode:
        return Telling([], f"ci: no annotation: buildkite-agent ended with status {ended.returncode}")
    return Telling([])


def _tell_teamcity(_run: RunPlace, target: Target, news: News, _memory: Memory) -> Telling:
    told = [line for capture in news.new for line in lines.make_teamcity_block(capture, target.base)]
    told += [lines.make_teamcity_note(f"uploaded: {entry.url}") for entry in news.ended if entry.url]
    told += filter(None, map(lines.make_teamcity_upload, _find_files(news.ended)))
    return Telling(told)


_WRITERS: Final[dict[str, Callable[[RunPlace, Target, News, Memory], Telling]]] = {
    "github": _tell_github,
    "azure": _tell_azure,
    "buildkite": _tell_buildkite,
    "teamcity": _tell_teamcity,
}


def _find_files(captures: Sequence[Capture]) -> list[Path]:
    """Return the finished archives, and what is beside them; without an archive only that."""
    return [
        path
        for capture in captures
        for path in ([capture.archive] if capture.state == "done" else []) + capture.find_beside()
    ]
