"""On the other host, in a process of its own: waits for the captures there, and sends what they came to.

The run there is that of this process: as long as the controller is connected its captures are waited for, and
without a controller their collectors clean up by themselves. The processes of the tests know nothing of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.hosts.wire import PIECE, encode, is_name, make_plain
from pytest_gencore.run.files import page_beside, remove_text, text_beside
from pytest_gencore.run.folder import new_run_id, run_folder_name
from pytest_gencore.run.library_index import LibraryIndex
from pytest_gencore.run.opening import open_run
from pytest_gencore.run.pinned import open_regular, pinned

if TYPE_CHECKING:
    from collections.abc import Iterator

TICK_SECONDS: Final = 0.5


class Agent:
    """Answers one controller, until it is gone."""

    def __init__(self, channel: Any, directory: Path, run_id: str) -> None:
        """``channel`` is one of execnet."""
        self._channel = channel
        self._directory = directory
        self._folder = directory / run_folder_name(run_id)
        self._run = open_run(directory, run_id)
        self._pieces: list[Iterator[tuple[Any, ...]]] = []
        """Of the files that are wanted, in order."""
        self._told: object = None
        self._libraries: set[str] = set()
        """Archives of libraries that were sent; captures to come need them there, too."""
        self._landed: set[str] = set()
        """Those of them that are at home."""
        self._known: set[str] = set()
        """Names of the archives of captures, wherever they are."""

    def serve(self) -> None:
        """Return when the controller is content or gone, or nothing can be done for it: it is told why."""
        last: tuple[str, ...] = ("closed",)
        try:
            with contextlib.suppress(EOFError):
                self._answer()
        except OSError as error:
            last = refuse(error)
        self._close()
        with contextlib.suppress(OSError):
            self._channel.send(last)

    def _answer(self) -> None:
        """Return when the controller is content; raises EOFError when it is gone, and OSError."""
        looks_at = 0.0
        while True:
            with contextlib.suppress(self._channel.TimeoutError):
                word, *arguments = self._channel.receive(timeout=0 if self._pieces else TICK_SECONDS)
                if word == "close":
                    break
                self._obey(word, *arguments)
            if time.monotonic() >= looks_at:
                looks_at = time.monotonic() + TICK_SECONDS
                self._tell_news()
            self._send_piece()

    def _obey(self, word: str, argument: Any = None) -> None:
        if word == "look":
            self._tell(argument, self._look())
        elif word == "send" and is_name(argument):
            self._known.add(argument)
            self._pieces.append(self._read_capture(self._directory / argument))
        elif word == "landed" and is_name(argument):
            self._remove(argument)
        elif word == "seen":
            self._run.acknowledge(argument)
        elif word == "end":
            self._run.end_reports()
        elif word == "cancel":
            self._run.cancel()

    def _tell_news(self) -> None:
        news = self._look()
        if news != self._told:
            self._tell(0, news)

    def _look(self) -> tuple[Any, ...]:
        outcomes = list(map(encode, self._run.outcomes()))
        self._known.update(outcome["archive"] for outcome in outcomes)
        return outcomes, self._run.find_problem(), tuple(self._run.refusals())

    def _tell(self, number: int, news: tuple[Any, ...]) -> None:
        self._told = news
        self._channel.send(("seen", number, *news))

    def _send_piece(self) -> None:
        if self._pieces:
            message = next(self._pieces[0], None)
            if message is None:
                del self._pieces[0]
            else:
                self._channel.send(message)

    def _read_capture(self, archive: Path) -> Iterator[tuple[Any, ...]]:
        """Yield the files of a capture, the archive last: when it is there, so are the others."""
        for path in (text_beside(archive), page_beside(archive)):
            if path.exists():
                yield from read_file(path)
        for name in sorted(self._find_libraries() - self._libraries):
            self._libraries.add(name)
            yield from read_file(self._directory / name)
        yield from read_file(archive)

    def _find_libraries(self) -> set[str]:
        with pinned(self._folder) as folder:
            return set() if folder is None else set(LibraryIndex(folder).find(self._directory).values())

    def _remove(self, name: str) -> None:
        if name in self._libraries:
            self._landed.add(name)
        else:
            remove_text(self._directory / name)

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._run.close()
        stay = any((self._directory / name).exists() for name in self._known)
        if not stay:  # those that do need their libraries
            for name in self._landed:
                remove_text(self._directory / name)
        with contextlib.suppress(OSError):
            self._directory.rmdir()  # if nothing had to stay


def read_file(path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield the messages of one file."""
    digest = hashlib.sha256()
    try:
        with os.fdopen(open_regular(path), "rb", buffering=0) as file:
            yield "file", path.name, os.fstat(file.fileno()).st_size
            while piece := file.read(PIECE):
                digest.update(piece)
                yield "piece", piece
    except OSError as error:
        yield "unread", path.name, error.strerror or str(error), not isinstance(error, FileNotFoundError)
        return
    yield "end", digest.hexdigest()


def serve(channel: Any) -> None:
    """Take the first word of a controller of this version, and serve it."""
    _, directory, fallback, token, run_id = channel.receive()
    places = [fallback] if run_id else [directory, fallback]  # a run that is known is in that of the tests
    shared = next((place for place in places if token and is_home(place, token)), None)
    place = Path(shared or fallback)
    run_id = run_id or new_run_id()
    channel.send(("hello", run_id, make_plain(str(place)), shared is not None))
    try:
        agent = Agent(channel, place, run_id)
    except OSError as error:
        channel.send(refuse(error))
    else:
        agent.serve()


def refuse(error: OSError) -> tuple[str, ...]:
    """Return the last word of an agent that cannot go on."""
    return "refused", make_plain(str(error))


def is_home(directory: str, token: str) -> bool:
    """Whether this directory is that of the controller, which has left a file there, and ours as well."""
    # Not as a method: it raises where a folder above may not be searched, before Python 3.14.
    return os.path.exists(os.path.join(directory, token)) and os.access(directory, os.W_OK | os.X_OK)  # noqa: PTH110, PTH118
