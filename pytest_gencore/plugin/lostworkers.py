"""Workers of pytest-xdist whose process has ended while somebody keeps its end of the pipe open.

The controller learns of a worker's end by the end of what it reads. A child that the worker has forked holds
that pipe, too: if it hangs, the end never comes, and the run waits for ever. The process of the worker tells.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from pytest_gencore.machine.oom import Sample, describe_kill, take_sample

TICK_SECONDS = 1.0


class LostWorkers:
    """Reports workers that are gone to pytest-xdist; as far as the private parts that it needs are known."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._gone: list[Any] = []
        """Found once; what they had written gets one more tick to be read."""
        self._samples: dict[int, list[Sample]] = {}
        """The last two of each process that lives: the last one may come in the middle of its end."""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, node: Any) -> None:
        """Watch the process of a worker; those on other hosts have none here."""
        if find_process(node) is None:
            return
        self._nodes.append(node)
        self._samples[find_process(node).pid] = [take_sample(find_process(node).pid)]
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="gencore-lost-workers", daemon=True)
            self._thread.start()

    def describe_kill(self, node: Any) -> str:
        """Return why a worker died of SIGKILL, and what speaks for it; empty if it was not watched."""
        process = find_process(node)
        samples = self._samples.get(process.pid) if process is not None else None
        if not samples:
            return ""
        first, last = samples[0], samples[-1]
        own = first.own if first.own == last.own else ""  # it was moved to another cgroup
        return describe_kill(process.pid, Sample(first.kills, last.used_bytes, own))

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(TICK_SECONDS):
            with contextlib.suppress(Exception):  # the run goes on as it would without us
                self._look()

    def _look(self) -> None:
        for node in self._gone:
            if not node._down:
                node._down = True
                node.notify_inproc("errordown", node=node, error="the process has ended")
        for pid, samples in self._samples.items():
            sample = take_sample(pid)
            if sample.used_bytes:
                samples[:] = [samples[-1], sample]
        self._gone = [node for node in self._nodes if find_process(node).poll() is not None]
        self._nodes = [node for node in self._nodes if node not in self._gone]


def find_process(node: Any) -> Any:
    """Return the Popen of a worker on this machine, None if it cannot be known: execnet has no better way.

    What leads to a worker on another host is a process, too: it tells nothing of that one.
    """
    if not node.gateway.spec.popen or "host" in node.workerinput.get("gencore", {}):
        return None
    return getattr(getattr(node.gateway, "_io", None), "popen", None)
