"""Workers on other hosts: which they are, and what both sides need to know before the first test runs."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from pytest_gencore.hosts.host import Host
    from pytest_gencore.plugin.results import Results
    from pytest_gencore.plugin.settings import Settings
    from pytest_gencore.run.opening import AnyRun

_ANSWER_SECONDS = 30.0


class Answer(NamedTuple):
    """What a worker's process says of itself."""

    system: list[Any]
    """The kernel's boot, what the process sees of mounts and processes, and its root directory."""
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
        """Take notice of what a report of another host's worker names."""
        node: Any = getattr(report, "node", None)
        host = node and self._of_workers.get(node.gateway.id)
        if not host:
            return
        from pytest_gencore.run.outcome import Outcome

        for attachment in getattr(report, "gencore", ()):
            host.expect(
                Outcome(
                    archive=Path(attachment["path"]),
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
            if not is_one_at_a_time(node.gateway.spec):
                host.open()

    def find_host(self, node: Any) -> str:
        """Return what people call the host of a worker, empty for this one."""
        host = self._of_workers.get(node.gateway.id)
        return "" if host is None else f"{host.name}, in {host.directory}"

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
        via = f"id={node.gateway.spec.via}"
        proxies = [proxy for proxy in self._config.getoption("px", []) if via in proxy.split("//")]
        specs = [*proxies, spec]
        host = self._hosts[key] = Host(name, specs, paths, self._settings.dir, self._make_budget())
        directory = os.path.join(answer.directory, self._settings.dir.name)  # noqa: PTH118 - of another system
        host.plan(directory, "", is_armed=self._is_armed)
        if self._is_armed and not is_one_at_a_time(node.gateway.spec):
            with self._token() as token:
                host.open(token)
                if not host.wait_until_open():
                    return host
        birth = parse_start_ticks(answer.stat.encode()) if answer.stat else 0
        host.plan(directory, name_run(answer.pid, birth), is_armed=self._is_armed)
        return host

    @contextlib.contextmanager
    def _token(self) -> Iterator[str]:
        """Leave a file in the artifact directory: who finds it there has the same one."""
        path = self._settings.dir / f".gencore-home-{os.urandom(6).hex()}"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError:
            yield ""
            return
        yield path.name
        with contextlib.suppress(OSError):
            path.unlink()

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


def is_one_at_a_time(spec: Any) -> bool:
    """Whether a host serves one connection at a time, as the server of execnet's sockets does."""
    return bool(spec.socket)


def name_host(spec: Any) -> str:
    """Return what people call the host of a worker."""
    ssh = spec.ssh or spec.vagrant_ssh
    return ssh.split()[-1] if ssh else str(spec.socket or strip(spec))


def strip(spec: Any) -> str:
    """Return the spec of a gateway to the same host that is no worker."""
    mine = ("id=", "execmodel=", "chdir=")
    return "//".join(part for part in str(spec).split("//") if not part.startswith(mine))
