"""The children of tests, watched like the process that runs them: see capture/spawned.py and ADR 0026."""

from __future__ import annotations

import contextlib
import marshal
import os
import shutil
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gencore.capture import spawned
from pytest_gencore.run.files import CHILDREN
from pytest_gencore.run.folder import remove_tree, run_folder_name
from pytest_gencore.run.started import StartedTests

if TYPE_CHECKING:
    from pytest_gencore.capture import CaptureEngine
    from pytest_gencore.plugin.prepared import PreparedCaptures
    from pytest_gencore.plugin.settings import Settings

_VARIABLE = "PYTHONPATH"
_MARSHAL_VERSION = 2
"""Every Python reads it."""


class WatchedChildren:
    """The list of started tests, which children read, too, and what arms them."""

    def __init__(
        self,
        engine: CaptureEngine,
        settings: Settings,
        prepared: PreparedCaptures,
        *,
        run_id: str,
        worker_id: str | None,
    ) -> None:
        """Begin the list, and arm children that start from now on, unless they are not to be watched.

        Where the run's folder cannot be made, there is neither: captures will say why.
        """
        self._native: Any = engine.native
        self._started: StartedTests | None = None
        self._switch: Path | None = None
        self._before = os.environ.get(_VARIABLE)
        self._owner = os.getpid()
        folder = settings.dir / run_folder_name(run_id)
        with contextlib.suppress(OSError):
            self._started = StartedTests(folder, worker_id)
            self._native.list_tests(self._started.descriptor)
        if settings.children == "none":
            return
        crash = prepared.child(settings, "crash")
        dump = prepared.child(settings, "child") if settings.children == "dump" else None
        self._native.set_child_standbys(crash.standby, None if dump is None else dump.standby)
        if self._started is None or os.pathsep in str(folder):
            return
        data = engine.describe_children(
            [crash.request, None if dump is None else dump.request],
            signal=self._native.forked_signal(),
            started=self._started.path,
        )
        with contextlib.suppress(OSError):
            self._switch_on(folder / CHILDREN.named(os.getpid()), data)

    def close(self) -> None:
        """Arm no more children, and remove the list; a child by fork leaves its parent's alone."""
        if os.getpid() != self._owner:
            return
        self._native.list_tests(-1)
        self._native.set_child_standbys(None, None)
        if self._switch is not None:
            self._switch_off(str(self._switch))
            with contextlib.suppress(OSError):
                remove_tree(str(self._switch))
        if self._started is not None:
            self._started.close()

    def _switch_on(self, folder: Path, data: dict[str, object]) -> None:
        """Let each Python that starts with our environment find ``sitecustomize`` here; raises OSError."""
        folder.mkdir(0o700)
        self._switch = folder
        start = folder / f"{spawned.NAME}.py"
        shutil.copy2(spawned.__file__, start)  # with its time, which the compiled one knows
        compiled = Path(cache_from_source(start))
        with contextlib.suppress(OSError):  # else each child compiles it, if it may not write here
            compiled.parent.mkdir(0o700)
            shutil.copyfile(cache_from_source(spawned.__file__), compiled)
        data["abi"] = spawned.find_abi()
        (folder / spawned.DATA).write_bytes(marshal.dumps(data, _MARSHAL_VERSION))
        others = f"{os.pathsep}{self._before}" if self._before else ""  # an empty entry would be one, too
        os.environ[_VARIABLE] = f"{folder}{others}"

    def _switch_off(self, folder: str) -> None:
        """Take only what is ours out of the variable: tests may have changed it."""
        entries = os.environ.get(_VARIABLE, "").split(os.pathsep)
        if folder not in entries:
            return
        entries.remove(folder)
        if entries or self._before is not None:
            os.environ[_VARIABLE] = os.pathsep.join(entries)
        else:
            del os.environ[_VARIABLE]
