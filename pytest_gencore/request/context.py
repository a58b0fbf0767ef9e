"""What a collector is told: JSON that the captured process writes and the collector reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_gencore.request.model import CaptureRequest
from pytest_gencore.texts import NOWHERE, Folders

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_gencore.contents import Environment

COLLECTOR_MODULE: Final = "pytest_gencore.collector.main"
"""What a collector runs, as its command line says."""
PORTABLE_MODULE: Final = "pytest_gencore.collector.portable"
"""What the helper runs that writes texts where the extension is not built."""
_encode = json.JSONEncoder(ensure_ascii=True).encode
_quote = json.encoder.encode_basestring_ascii
"""Made beforehand: a test may have patched ``json``."""
NO_TEST: Final = "null"
"""Where the name of a test stands otherwise, see ``encode_place``."""


class ThreadStack(NamedTuple):
    """A Python thread as the captured process itself saw it."""

    ident: int
    """``threading.get_ident()``."""
    name: str | None
    native_id: int | None
    """The kernel's thread id; None for threads that ``threading`` did not start."""
    frames: list[tuple[str, int, str]]
    """File, line and qualified name, innermost first."""


class SessionContext(NamedTuple):
    """The pytest session around the captures, for captures outside of one the defaults."""

    is_local: bool = False
    """Whether no controller survives this process: it is the only one of the session, or the controller."""
    is_controller: bool = False
    """Whether it is the controller of pytest-xdist: the tests run in its workers."""
    folders: Folders = NOWHERE
    junit_path: str | None = None
    """Where pytest would write its junit file, absolute; None if it writes none, or another process does."""
    junit_base: str | None = None
    """What the consumer of that file takes paths to be relative to; None for absolute ones."""
    has_clear_text: bool = True
    """Whether the log and a text beside each archive show what was found."""
    ci: Sequence[str] = ()
    """The CI system to be told, as the fields of ``ci.systems.Target``; empty: none."""
    is_brief: bool = False
    """Whether the log has only the beginning of what was found: nobody asked pytest for more with ``-v``."""
    has_colour: bool = False
    """Whether pytest shows colours."""
    environment: Environment = "names"
    """What of the environment the manifest and the texts show; secret values never."""
    page_command: Sequence[str] = ()
    """The beginning of the command line that makes a page for the browser; empty: none is made."""
    store: str = ""
    """The URL of the store to which archives are uploaded; empty: none."""
    upload_command: Sequence[str] = ()
    """The beginning of the command line that uploads."""


class Redaction(NamedTuple):
    """Which environment variables have secret values, besides those whose names say so."""

    more: tuple[str, ...] = ()
    """Globs of their names."""
    kept: tuple[str, ...] = ()
    """Globs of the names of variables whose values are none, whatever they look like."""


BY_NAMES: Final = Redaction()
"""What is overwritten where nothing else is said."""


class Protection(NamedTuple):
    """What keeps secrets from those who should not read them."""

    redaction: Redaction | None = BY_NAMES
    """What is overwritten; None: nothing."""
    recipients: tuple[str, ...] = ()
    """Public keys for which archives are sealed; empty: they are not."""


class GivenSecrets(NamedTuple):
    """Secret values that are not, or not any more, in the environment of the captured process."""

    values: Mapping[str, Sequence[str]] = {}
    """By the name of a variable, or of the hook; undecodable bytes as by ``surrogateescape``."""
    problem: str = ""
    """Why there may be more of them; empty if all is well."""


NO_SECRETS: Final = GivenSecrets()
USUAL_PROTECTION: Final = Protection()


class RunContext(NamedTuple):
    """What is the same for every capture of a run."""

    directory: Path
    """The artifact directory, absolute."""
    run_folder: str
    """Name of the run's hidden folder in it."""
    max_bytes: int
    """Of the finished archives of the run together; 0: no bound."""
    executable: str
    """The interpreter, without links."""
    python_implementation: str
    python_version: str
    machine: str
    """``uname -m``."""
    kernel: str
    version: str
    """Of pytest-gencore."""
    pystack: str | None
    """Path of the program; None if it is not installed."""
    session: SessionContext
    redaction: Redaction | None = BY_NAMES
    """As in ``Protection``."""
    recipients: tuple[str, ...] = ()
    """Likewise."""


class CaptureContext(NamedTuple):
    """Everything about one capture that is known before its snapshot is taken."""

    run: RunContext
    request: CaptureRequest
    by_handler: bool
    """Whether a signal handler captures, or a thread of ours: phase and attempt are the hand-over's."""
    exits: bool
    """Whether the captured process waits for its collector and ends then."""
    stacks: list[ThreadStack]
    """Of all Python threads, the capturing one first; empty if a signal handler captures."""
    claim: str | None
    """Name of the file in the run's folder that keeps others from capturing the same test."""
    secrets: GivenSecrets = NO_SECRETS


class ContextWriter:
    """Encodes contexts of one run, without a call that a test could have patched.

    Each text ends where ``encode_place`` must follow; the extension adds that and the claim.
    """

    def __init__(self, run: RunContext) -> None:
        self._run = _encode(_describe_run(run))

    def encode(self, request: CaptureRequest, *, stacks: list[ThreadStack], secrets: GivenSecrets) -> bytes:
        """Return the text of a capture that is made now."""
        return self._encode(request, secrets, by_handler=False, exits=False, stacks=stacks)

    def prepare(self, request: CaptureRequest, *, exits: bool, secrets: GivenSecrets) -> bytes:
        """Return the text of a capture that a signal handler may make."""
        return self._encode(request, secrets, by_handler=True, exits=exits, stacks=[])

    def _encode(
        self,
        request: CaptureRequest,
        secrets: GivenSecrets,
        *,
        by_handler: bool,
        exits: bool,
        stacks: list[ThreadStack],
    ) -> bytes:
        fields = {"by_handler": by_handler, "exits": exits, "stacks": stacks, "secrets": secrets}
        parts = (f'"run": {self._run}', f'"request": {_encode(request._asdict())}')
        own = _encode(fields)[1:-1]
        return f'{{{", ".join((*parts, own))}, "at": '.encode()


def encode_place(nodeid: str | None, place: str = "") -> str:
    """Return which test it is, None: no test, and where in or outside of it; made for each test.

    What has the same text has the same claim.
    """
    name = NO_TEST if nodeid is None else _quote(nodeid)
    return f"[{name}, {_quote(place)}]" if place else name


def decode_context(text: bytes) -> CaptureContext:
    """Return what ``ContextWriter`` has encoded, with what the extension added."""
    data: dict[str, Any] = json.loads(text)
    run: dict[str, Any] = data["run"]
    directory = Path(os.fsdecode(run["directory"].encode("latin-1")))
    session = SessionContext(**{**run["session"], "folders": Folders(*run["session"]["folders"])})
    request: dict[str, Any] = data["request"]
    at: str | list[Any] | None = data["at"]
    nodeid, place = at if isinstance(at, list) else (at, "")
    frames = tuple(
        (str(file), int(line), str(function)) for file, line, function in request["failure_frames"]
    )
    globs = run["redaction"]
    redaction = globs and Redaction(more=tuple(globs["more"]), kept=tuple(globs["kept"]))
    converted = {
        "directory": directory,
        "session": session,
        "redaction": redaction,
        "recipients": tuple(run["recipients"]),
    }
    return CaptureContext(
        run=RunContext(**{**run, **converted}),
        request=CaptureRequest(**{**request, "failure_frames": frames, "nodeid": nodeid, "place": place}),
        by_handler=data["by_handler"],
        exits=data["exits"],
        stacks=[ThreadStack(*stack) for stack in data["stacks"]],
        claim=data["claim"],
        secrets=GivenSecrets(*data["secrets"]),
    )


def _describe_run(run: RunContext) -> dict[str, object]:
    redaction = run.redaction
    return {
        **run._asdict(),
        "directory": os.fsencode(run.directory).decode("latin-1"),  # whatever the locale of either side is
        "session": run.session._asdict(),
        "redaction": None if redaction is None else redaction._asdict(),
    }
