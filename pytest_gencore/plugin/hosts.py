"""Workers on other hosts: which they are, and what both sides need to know before the first test runs."""

from __future__ import annotations

import getopt
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from pytest_gencore.hosts.host import Host
    from pytest_gencore.plugin.results import Results
    from pytest_gencore.plugin.settings import Settings
    from pytest_gencore.run.opening import AnyRun

_ANSWER_SECONDS = 30.0
_SSH_OPTIONS = "1246AaCfGgKkMNnqsTtVvXxYyB:b:c:D:E:e:F:I:i:J:L:l:m:O:o:P:p:Q:R:S:W:w:"
"""See ssh(1); a colon stands behind those with a value."""


class Answer(NamedTuple):
    """What a worker's process says of itself."""

    system: list[Any]
    """The kernel's boot, what the process sees of mounts and processes, its root directory, its user."""
    has_plugin: bool
    directory: str
    """Its working directory."""
    pid: int
    stat: str
    """Of proc(5); empty where there is none."""


class Hosts:
    """Those of a controller; it imports nothing for workers on its own."""

    def __init__(
        self,
        config: pytest.Config,
        settings: Settings,
        *,
        get_run_id: Callable[[], str],
        get_results: Callable[[], Results],
    ) -> None:
        """Connect to nothing."""
        self._get_run_id = get_run_id
        self._config = config
        self._settings = settings
        self._get_results = get_results
        self._hosts: dict[str, Host] = {}
        """By what makes them: spec without the worker's id, and working directory."""
        self._of_workers: dict[str, Host] = {}
        self._budget: Any = None

    def place(self, node: Any) -> dict[str, Any] | None:
        """Return what a worker on another host is told besides, nothing for one here; None: no capture."""
        spec = node.gateway.spec
        if spec.popen and not (spec.via or spec.python):
            return {}
        paths = sys.path if spec.popen else []
        answer = ask(node.gateway, paths)
        if is_here(spec, answer):
            return {}
        name = name_host(spec)
        if not answer.has_plugin:
            if self._settings.on_fail:
                self._get_results().add_note(
                    f"worker {node.gateway.id} could not capture: no pytest-gencore on {name}"
                )
            return None
        host = self._find(node, name, answer, [*paths, answer.directory])
        self._of_workers[node.gateway.id] = host
        return {
            "directory": host.directory,
            "run_id": host.run_id,
            "home": str(self._settings.dir),
            "host": host.name,
            "has_stderr": False,
        }

    def expect(self, report: pytest.TestReport) -> None:
        """Take notice of the archives that a report of another host names, and let it name them as here."""
        node: Any = getattr(report, "node", None)
        host = node and self._of_workers.get(node.gateway.id)
        if not host:
            return
        from pytest_gencore.hosts.wire import is_name
        from pytest_gencore.plugin.attach import find_archives, rename_archive
        from pytest_gencore.run.outcome import Outcome

        for path in map(Path, find_archives(report)):
            if not is_name(path.name):  # a property of somebody else
                continue
            there = host.name_there(path.name)  # a report of ours has the name here
            rename_archive(report, str(path), str(path.with_name(host.name_here(there))))
        for attachment in getattr(report, "gencore", ()):
            path = Path(attachment["path"])
            host.expect(
                Outcome(
                    archive=path.with_name(host.name_there(path.name)),
                    state="working",
                    reason="",
                    nodeid=report.nodeid,
                    phase=attachment["phase"],
                    worker_id=node.gateway.id,
                    trigger=attachment["trigger"],
                    method=attachment["method"],
                    size_bytes=0,
                    bytes_done=0,
                    bytes_total=0,
                )
            )
            if not any(map(is_of_sockets, host.specs)):
                host.open()

    def find_host(self, node: Any) -> str:
        """Return what people call the host of a worker, empty for this one."""
        host = self._of_workers.get(node.gateway.id)
        if host is None:
            return ""
        problem = host.find_lost_connection()
        return f"{host.name}, in {host.directory}" + (
            f", where nobody could look: {problem}" if problem else ""
        )

    def join(self, run: AnyRun) -> AnyRun:
        """Return the run of all hosts."""
        if not self._hosts:
            return run
        from pytest_gencore.hosts.run import RunOfHosts

        return RunOfHosts(run, list(self._hosts.values()))

    def have_captures(self) -> bool:
        """Return whether anything was captured on another host; asked when the workers have ended."""
        for host in self._hosts.values():
            host.begin_wait()
        return any(host.wait_until_open() or host.look() for host in self._hosts.values())

    @property
    def _is_armed(self) -> bool:
        settings = self._settings
        wishes = (settings.timeout, settings.session_timeout, settings.capture_memory)
        return settings.on_fail or any(wish is not None for wish in wishes)

    def _find(self, node: Any, name: str, answer: Answer, paths: list[str]) -> Host:
        """Return the host of a worker; connect to it if it is new."""
        from pytest_gencore.hosts.host import Host
        from pytest_gencore.machine.process import parse_start_ticks
        from pytest_gencore.run.folder import name_run

        spec = strip(node.gateway.spec)
        key = f"{spec} in {answer.directory}"
        if key in self._hosts:
            return self._hosts[key]
        specs = [*find_way(self._config.getoption("px", []), node.gateway.spec.via), spec]
        is_one_at_a_time = any(map(is_of_sockets, specs))
        host = self._hosts[key] = Host(name, specs, paths, self._settings.dir, self._make_budget())
        directory = os.path.join(answer.directory, self._settings.dir.name)  # noqa: PTH118 - of another system
        host.plan(directory, "", is_armed=self._is_armed)
        if self._is_armed and not is_one_at_a_time:
            host.open()
            if not host.wait_until_open():
                return host
        birth = parse_start_ticks(answer.stat.encode()) if answer.stat else 0
        host.plan(directory, name_run(answer.pid, birth), is_armed=self._is_armed)
        return host

    def _make_budget(self) -> Any:
        from pytest_gencore.hosts.budget import Budget

        self._budget = self._budget or Budget(self._settings.max_size, self._find_local_size)
        return self._budget

    def _find_local_size(self) -> int:
        from pytest_gencore.run.opening import open_run

        outcomes = open_run(self._settings.dir, self._get_run_id()).outcomes()
        return sum(outcome.size_bytes for outcome in outcomes)


def ask(gateway: Any, paths: list[str]) -> Answer:
    """Ask a worker's process that does nothing yet."""
    from pytest_gencore.hosts import question

    channel = gateway.remote_exec(question)
    channel.send(list(paths))
    answer = Answer(*channel.receive(_ANSWER_SECONDS))
    channel.waitclose(_ANSWER_SECONDS)  # the next program can begin
    return answer


def is_here(spec: Any, answer: Answer) -> bool:
    """Whether a worker finds the same files as we do, and our process; its root alone tells little."""
    from pytest_gencore.hosts.question import describe_system

    boot, *_ = answer.system
    return answer.system == describe_system() and bool(boot or (spec.popen and not spec.via))


def is_of_sockets(spec: str) -> bool:
    """Whether one connection at a time is served there, as the server of execnet's sockets does."""
    return any(part.startswith("socket=") for part in spec.split("//"))


def name_host(spec: Any) -> str:
    """Return what people call the host of a worker."""
    ssh = spec.ssh or spec.vagrant_ssh
    if not ssh:
        return spec.socket if isinstance(spec.socket, str) else strip(spec)
    try:
        _, operands = getopt.gnu_getopt(ssh.split(), _SSH_OPTIONS)
    except getopt.GetoptError:
        operands = []
    return str((operands or ssh.split())[0])


def find_way(proxies: Sequence[str], last: str | None) -> list[str]:
    """Return the specs of the gateways that lead to the one with this id, in order, and its own."""
    way: list[str] = []
    while last:
        spec = next((proxy for proxy in proxies if f"id={last}" in proxy.split("//")), None)
        if spec is None or spec in way:
            break
        way.insert(0, spec)
        last = next((part[4:] for part in spec.split("//") if part.startswith("via=")), None)
    return way


def strip(spec: Any) -> str:
    """Return the spec of a gateway to the same host that is no worker."""
    mine = ("id=", "execmodel=", "chdir=")
    return "//".join(part for part in str(spec).split("//") if not part.startswith(mine))
