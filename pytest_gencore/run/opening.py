"""The captures of a run, whoever makes them: the C extension and its collectors, or what stands in for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pytest_gencore.installed import has_extension

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_gencore.run.folder import Refusals
    from pytest_gencore.run.outcome import Outcome


class AnyRun(Protocol):
    """What both kinds offer: see ``Run``."""

    def outcomes(self) -> list[Outcome]: ...  # noqa: D102
    def find_problem(self) -> str: ...  # noqa: D102
    def wait(  # noqa: D102
        self, *, progress: Callable[[list[Outcome]], None] | None = None, timeout: float | None = None
    ) -> list[Outcome]: ...
    def wait_for(self, name: str) -> Outcome: ...  # noqa: D102
    def drop(self, name: str) -> None: ...  # noqa: D102
    def tell_failure(self, name: str, text: str) -> None: ...  # noqa: D102
    def end_reports(self) -> None: ...  # noqa: D102
    def acknowledge(self, name: str) -> None: ...  # noqa: D102
    def refusals(self) -> Refusals: ...  # noqa: D102
    def cancel(self) -> list[Outcome]: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


def load_run() -> Callable[[Path, str], AnyRun]:
    """Import what a run needs here, and return it: later a test may have patched "open"."""
    if not has_extension():
        from pytest_gencore.run.portable import PortableRun

        return PortableRun
    from pytest_gencore.run.run import Run

    return Run


def open_run(directory: Path, run_id: str) -> AnyRun:
    """Return the run of this id; creates nothing, ``directory`` is absolute."""
    return load_run()(directory, run_id)
