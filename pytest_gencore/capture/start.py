"""What a collector is started with, and what is the same for all captures of a run."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gencore.errors import UnavailableError
from pytest_gencore.installed import has_extension
from pytest_gencore.request.context import COLLECTOR_MODULE, PORTABLE_MODULE, RunContext
from pytest_gencore.run.folder import run_folder_name
from pytest_gencore.version import __version__

if TYPE_CHECKING:
    from pytest_gencore.request.context import Protection, SessionContext

_START = "import gc; gc.disable(); import sys; sys.path += sys.argv[1:]; from {module} import main; main()"
"""The collector's program: without site-packages' start-up code, whatever way the package was found.

It ends before garbage in cycles could matter, so it does not look for it.
"""

_IGNORE_INTERRUPTS = (
    "import signal; [signal.signal(getattr(signal, name), signal.SIG_IGN) "
    "for name in ('SIGINT', 'SIGHUP') if hasattr(signal, name)]; "
)
"""What the helper does first: Ctrl-C comes to all processes of a terminal, and it has archives to finish."""


def load_extension() -> Any:
    """Return the extension, or what stands in for it where it was not built; raises ``UnavailableError``."""
    if not has_extension():
        from pytest_gencore.portable.native import NATIVE

        return NATIVE
    try:
        from pytest_gencore.capture import _native
    except ImportError as error:
        message = f"the extension pytest_gencore.capture._native cannot be loaded: {error}"
        raise UnavailableError(message, help_text="in a checkout run: pip install --editable .") from error
    return _native


def may_have_cores(*, seals: bool) -> bool:
    """Whether cores are made where the extension is not built; ``seals``: archives are sealed."""
    from pytest_gencore.systems import has_cores

    return has_cores(seals=seals)


def collector_command(*, seals: bool = False) -> list[str]:
    """Return the command of a collector: this interpreter, isolated, with just the paths it needs.

    ``seals``: it encrypts.
    """
    by_effective_ids = os.access in os.supports_effective_ids  # as execve(2) asks
    if not sys.executable or not os.access(sys.executable, os.X_OK, effective_ids=by_effective_ids):
        message = f"the Python interpreter cannot be started again: sys.executable is {sys.executable!r}"
        raise UnavailableError(message)
    program = (
        _START.format(module=COLLECTOR_MODULE)
        if has_extension()
        else _IGNORE_INTERRUPTS + _START.format(module=PORTABLE_MODULE)
    )
    return [sys.executable, "-I", "-S", "-c", program, *_find_paths("isal", *(("pyrage",) if seals else ()))]


@functools.lru_cache
def _find_paths(*modules: str) -> list[str]:
    """Return the folders from which our package and modules are imported, of those that are installed."""
    paths = [str(Path(__file__).resolve().parents[2])]
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            paths.append(str(Path(spec.origin).resolve().parents[1]))
    return list(dict.fromkeys(paths))


def describe_run(
    directory: Path,
    run_id: str,
    *,
    max_bytes: int,
    session: SessionContext,
    protection: Protection,
) -> RunContext:
    """Return what is the same for every capture of a run."""
    uname = platform.uname()
    return RunContext(
        directory=directory,
        run_folder=run_folder_name(run_id),
        max_bytes=max_bytes,
        executable=os.path.realpath(sys.executable),
        python_implementation=platform.python_implementation(),
        python_version=platform.python_version(),
        machine=uname.machine,
        kernel=f"{uname.system} {uname.release}",
        version=__version__,
        pystack=_find_pystack(),
        session=session,
        redaction=protection.redaction,
        recipients=protection.recipients,
    )


def _find_pystack() -> str | None:
    """Return where pystack is installed beside this interpreter, None if it is not."""
    path = shutil.which(
        "pystack", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    return path if path and importlib.util.find_spec("pystack") is not None else None
