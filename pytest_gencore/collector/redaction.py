"""Secret values of the captured process, and how what is written of it is freed from them."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import functools
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pytest_gencore.archive.manifest import RedactionFacts
from pytest_gencore.collector.source.environment import read_environment, show_environment
from pytest_gencore.collector.source.mapped_memory import PagedMemory
from pytest_gencore.collector.source.procfs import read_mappings
from pytest_gencore.redaction.redactor import Redactor
from pytest_gencore.redaction.secrets import HOOK, LEAST_BYTES, Secrets, find_secrets, is_secret_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.archive.manifest import Manifest
    from pytest_gencore.collector.core.core_stream import CoreStream
    from pytest_gencore.collector.source.handover import Handover
    from pytest_gencore.collector.source.snapshot import Snapshot
    from pytest_gencore.request.context import CaptureContext

T = TypeVar("T")
_KEPT_FIELDS: Final = frozenset({"name", "libraries", "executable", "open_with", "redaction", "document"})
"""Of the manifest: paths are those of members and of files that a debugger looks for."""


class Redaction:
    """What is known of secrets in one capture; before ``look`` there are none."""

    def __init__(self) -> None:
        self.redactor = Redactor()
        self._secrets = Secrets({}, ())
        self._is_on = False
        self.environment: tuple[str, ...] = ()
        """What is shown of it; secrets are still in it."""
        self._rooms = threading.local()
        self.notices: list[str] = []

    def look(self, handover: Handover, snapshot: Snapshot) -> None:
        """Find the values, and what is shown of the environment; not what is not wanted."""
        context = handover.context
        redaction, shown = context.run.redaction, context.run.session.environment
        if redaction is None and shown == "none":
            return
        variables: list[tuple[str, str]] = []
        with contextlib.suppress(OSError):
            mappings = read_mappings(snapshot.pid, with_sizes=False)
            memory = PagedMemory(snapshot, mappings)
            variables = list(read_environment(snapshot.pid, memory, mappings, context.run.executable))
        self.look_at(context, variables)

    def look_at(self, context: CaptureContext, variables: Sequence[tuple[str, str]]) -> None:
        """Find them in these variables of the environment."""
        redaction, shown = context.run.redaction, context.run.session.environment
        more, kept = (redaction.more, redaction.kept) if redaction else ((), ())
        is_secret = functools.partial(is_secret_name, more=more, kept=kept)
        self.environment = show_environment(variables, shown, is_secret=is_secret)
        if redaction is None:
            return
        self._is_on = True
        self._secrets = find_secrets(variables, context.secrets.values, more=more, kept=kept)
        self.redactor = Redactor(value for values in self._secrets.values.values() for value in values)
        if context.secrets.problem:
            self.notices.append(f"there may be more secrets: {context.secrets.problem}")
        if self._secrets.too_short:
            names = ", ".join(self._secrets.too_short)
            self.notices.append(f"values of less than {LEAST_BYTES} bytes were not looked for: {names}")

    def clean_text(self, text: str) -> str:
        """Return a text for people without the values."""
        return self.redactor.clean_text(text)

    def clean_core(self, core: CoreStream) -> CoreStream:
        """Return a core without them; also where two blocks meet."""
        if not self.redactor:
            return core
        redactor, reach = self.redactor, self.redactor.reach
        begins = [offset for offset, _ in core.extents]

        def read(offset: int, buffer: memoryview) -> None:
            extent, size = core.extents[bisect.bisect(begins, offset) - 1]
            start, end = max(extent, offset - reach), min(extent + size, offset + len(buffer) + reach)
            data = self._get_room(end - start)
            with memoryview(data) as view:
                core.read(start, view[: end - start])
            at = offset - start
            redactor.overwrite(data, end - start, at, at + len(buffer))
            with memoryview(data) as view:
                buffer[:] = view[at : at + len(buffer)]

        return dataclasses.replace(core, read=read)

    def _get_room(self, size: int) -> bytearray:
        """Return the calling thread's bytearray: fresh memory would cost more than to look at it."""
        room: bytearray | None = getattr(self._rooms, "room", None)
        if room is None or len(room) < size:
            room = self._rooms.room = bytearray(size)
        return room

    def clean_manifest(self, manifest: Manifest) -> Manifest:
        """Return the manifest without them, and with what was done."""
        changes: dict[str, Any] = {"redaction": self._describe()}
        if self.redactor:
            for field in dataclasses.fields(manifest):
                if field.name not in _KEPT_FIELDS:
                    changes[field.name] = self._clean(getattr(manifest, field.name), set())
        return dataclasses.replace(manifest, **changes)

    def clean(self, value: T) -> T:
        """Return a value for JSON with all its texts cleaned, before escapes make something else of them."""
        cleaned: T = self._clean(value, set()) if self.redactor else value
        return cleaned

    def _clean(self, value: Any, plain: set[str]) -> Any:
        """Return a value with its texts cleaned; ``plain`` has those without secrets, for they come again."""
        if isinstance(value, str):
            if value in plain:
                return value
            cleaned = self.redactor.clean_text(value)
            if cleaned == value:
                plain.add(value)
            return cleaned
        if isinstance(value, tuple | list):
            entries = [self._clean(entry, plain) for entry in value]
            return tuple(entries) if isinstance(value, tuple) else entries
        if isinstance(value, dict):
            return {name: self._clean(entry, plain) for name, entry in value.items()}
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return value
        fields = {
            field.name: self._clean(getattr(value, field.name), plain) for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **fields)

    def _describe(self) -> RedactionFacts | None:
        if not self._is_on:
            return None
        values = self._secrets.values
        return RedactionFacts(
            variables=tuple(sorted(values.keys() - {HOOK})),
            others=len(values.get(HOOK, ())),
            places=self.redactor.places,
            too_short=self._secrets.too_short,
        )
