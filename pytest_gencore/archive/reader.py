"""Open an archive: its manifest at once, its texts and files when they are asked for."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_gencore.archive.opening import open_archive
from pytest_gencore.archive.unpacker import unpack
from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pytest_gencore.archive.manifest import Manifest
    from pytest_gencore.archive.opened import OpenArchive
    from pytest_gencore.archive.opening import ArchivePlace, Remote

TEXT_LIMIT: Final = 4 << 20
"""Bytes of a text that are read; the rest is left out with a line that says so."""
_CORE_NAME: Final = "core"
_BEFORE_CORE_LIMIT: Final = 256 << 20


class MemberText(NamedTuple):
    """The beginning of a member."""

    data: bytes
    size: int
    """Bytes of all of it."""

    def decode(self) -> str:
        """Return it as text, with a line that says what is left out; not UTF-8 becomes U+FFFD."""
        text = self.data.decode("utf-8", "replace")
        if self.size > len(self.data):
            text += f"\n[{self.size - len(self.data)} bytes more are in the archive]\n"
        return text


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive whose manifest is known and valid; the rest of the file may still turn out to be damaged."""

    path: Path
    """Of one that is not a file of this machine only the name."""
    size: int
    """Bytes of the file."""
    manifest: Manifest
    keys: tuple[Any, ...] = field(default=(), repr=False)
    """Private keys that it is read with; none if it is not sealed, or only its short manifest is known."""
    remote: Remote | None = None
    """Where it is if it is not a file of this machine."""
    ahead: Mapping[str, MemberText | None] = field(default_factory=dict, repr=False)
    """Texts that were read with the manifest; None where there is none of that name."""

    @property
    def place(self) -> ArchivePlace:
        """Where it is; its text is a path or a URL."""
        return self.remote or self.path

    def stacks(self) -> str | None:
        """Return ``stacks.txt``, None if the archive has none.

        The text is as untrusted as the archive: it can hold control characters. Raises ArchiveError.
        """
        return self.read_text("stacks.txt")

    def failure(self) -> str | None:
        """Return ``failure.txt`` as ``stacks`` returns its text; None if the trigger was no failure."""
        return self.read_text("failure.txt")

    def output(self) -> str | None:
        """Return ``output.txt`` likewise; None if no output before a hang or crash is known."""
        return self.read_text("output.txt")

    def diagnosis(self) -> list[str]:
        """Return the lines of ``diagnosis.json``: the verdict, then the evidence; none if there are none.

        They are as untrusted as the archive. Raises ArchiveError.
        """
        try:
            document = json.loads(self.read_text("diagnosis.json") or "null")
        except (ValueError, RecursionError):
            return []
        if not isinstance(document, dict):
            return []
        verdict, lines = document.get("verdict"), document.get("lines")
        head = verdict.get("text") if isinstance(verdict, dict) else None
        texts = [head, *(lines if isinstance(lines, list) else [])]
        return [text for text in texts if isinstance(text, str)]

    def read_text(self, name: str) -> str | None:
        """Return a text that comes before the core, None if there is none; raises ArchiveError.

        At most ``TEXT_LIMIT`` bytes are read; bytes that are not UTF-8 become U+FFFD.
        """
        text = self.read_members({name}).get(name)
        return None if text is None else text.decode()

    def read_members(self, names: Collection[str]) -> dict[str, MemberText]:
        """Return those of some members that are there, of what comes before the core; raises ArchiveError.

        At most ``TEXT_LIMIT`` bytes are read of each.
        """
        if self.ahead.keys() >= set(names):
            return {name: text for name in names if (text := self.ahead[name]) is not None}
        with open_archive(self.place, self.keys) as opened:
            return _read_members(opened, names)

    def unpack(self, directory: Path, progress: Callable[[int, int], None] | None = None) -> Path:
        """Unpack everything into a new private folder of the archive's name in ``directory``; return it.

        ``progress`` is called with bytes written and bytes expected. Raises ArchiveError; then the folder is
        not there.
        """
        return unpack(self.place, directory, progress, keys=self.keys)


def read_archive(
    path: str | os.PathLike[str] | Remote, *, identities: Sequence[Path] = (), ahead: Collection[str] = ()
) -> Archive:
    """Read the manifest of an archive, and no more than that of the file.

    ``identities`` are files with private keys, of age or SSH, that open it if it is sealed; without any, what
    can be read of a sealed archive is a short manifest. ``ahead`` are names of texts that will be asked for:
    they are read at once if the archive is not sealed.

    Raises ArchiveError if the file is not an archive, is damaged, or was made by a later version; OSError if
    it cannot be opened.
    """
    place = Path(path) if isinstance(path, str | os.PathLike) else path
    with open_archive(place) as opened:
        texts = _read_ahead(opened, ahead)
        if isinstance(place, Path):
            archive = Archive(place, place.stat().st_size, opened.manifest, ahead=texts)
        else:
            archive = Archive(Path(place.name), place.size, opened.manifest, remote=place, ahead=texts)
    if archive.manifest.sealed is None or not identities:
        return archive
    from pytest_gencore.age import read_identities  # few archives need it

    keys = tuple(read_identities(identities))  # once: a file may be a pipe
    with open_archive(place, keys) as opened:
        return replace(archive, manifest=opened.manifest, keys=keys)


def _read_ahead(opened: OpenArchive, names: Collection[str]) -> dict[str, MemberText | None]:
    if not names or opened.manifest.sealed is not None:
        return {}
    try:
        found = _read_members(opened, names)
    except ArchiveError:  # whoever asks for them is told
        return {}
    return {name: found.get(name) for name in names}


def _read_members(opened: OpenArchive, names: Collection[str]) -> dict[str, MemberText]:
    found: dict[str, MemberText] = {}
    seen = 0
    for member in opened.members:
        inner = opened.inner_name(member)
        seen += member.stored_size
        if inner == _CORE_NAME or seen > _BEFORE_CORE_LIMIT:
            break
        if inner in names and inner not in found and member.kind == "file" and member.extents is None:
            data = opened.tar.read_exactly(min(member.size, TEXT_LIMIT))
            found[inner] = MemberText(data, member.size)
            if len(found) == len(names):
                break
    return found
