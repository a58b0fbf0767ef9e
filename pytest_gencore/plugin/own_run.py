"""The run of this session: where its captures are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_gencore.plugin.hosts import Hosts
    from pytest_gencore.run.opening import AnyRun


class OwnRun:
    """The captures of this host, and of the others on which workers run."""

    def __init__(self, directory: Path, get_run_id: Callable[[], str], hosts: Hosts | None = None) -> None:
        """Make nothing; ``hosts`` are those that pytest-xdist has, None without it."""
        self._directory = directory
        self._get_run_id = get_run_id
        self._hosts = hosts

    def open(self) -> AnyRun:
        """Return it; raises what the id of a run raises."""
        from pytest_gencore.run.opening import open_run

        run = open_run(self._directory, self._get_run_id())
        return run if self._hosts is None else self._hosts.join(run)

    def has_captures(self) -> bool:
        """Return whether there are captures, also those that no report has named."""
        from pytest_gencore.run.folder import has_captures, run_folder_name

        if has_captures(self._directory / run_folder_name(self._get_run_id())):
            return True
        return self._hosts is not None and self._hosts.have_captures()
