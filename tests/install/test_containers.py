"""What captures do under the restrictions of containers, and that ``gencore check`` tells the truth of it.

Those that need more than a command of this machine are rows of ``.ci/containers``.
"""

from __future__ import annotations

import errno
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import container_cell
import pytest
from capabilities import needs
from kernel import settings_lock
from wheels import clean_environment

BUBBLEWRAP = "bwrap --ro-bind / / --dev /dev --unshare-all --die-with-parent"
HIDE_PROCESSES = 'mount -t proc -o hidepid=2 proc /proc && exec unshare --user "$@"'
NO_PROC = 'mount -t tmpfs none /proc && exec "$@"'
NO_DESCRIPTORS = (
    "import os, sys; sys.path.append({support!r}); from subjects import refuse_calls; "
    "refuse_calls({{'pidfd_open': {error}}}); os.execv(sys.argv[1], sys.argv[1:])"
)
LOOK_IN_PROC = "no capture is possible: this process cannot be seen in /proc: "
NO_PIDFD = "no capture is possible: the kernel or a seccomp filter has no pidfd_open: "


def run_cell(folder: Path, prefix: list[str], **environment: str) -> dict[str, Any]:
    """Return what the program in ``tests/support`` finds out where ``prefix`` puts it."""
    command = [*prefix, sys.executable, container_cell.__file__, str(folder)]
    own = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "pytest_gencore.plugin"}
    kinds = container_cell.STATUS
    with settings_lock(exclusive=False):
        done = subprocess.run(
            [*command, *kinds],
            env={**clean_environment(), **own, **environment},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    assert {kind: facts[kind]["status"] for kind in kinds if kind != "hang"} == {"failure": 1, "crash": -11}
    return facts


@pytest.mark.slow
@needs("root")
@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param(
            f"{BUBBLEWRAP} --proc /proc --bind FOLDER FOLDER", marks=needs("bubblewrap"), id="bubblewrap"
        ),
        pytest.param(f"unshare --mount sh -c {shlex.quote(HIDE_PROCESSES)} sh", id="hidepid, no user"),
    ],
)
def test_captures_work(tmp_path: Path, prefix: str) -> None:
    """With bubblewrap nothing but one folder can be written; with ``--user`` nobody has a name or a right."""
    facts = run_cell(tmp_path, shlex.split(prefix.replace("FOLDER", str(tmp_path))), TMPDIR=str(tmp_path))

    assert [facts[kind]["threads"] for kind in container_cell.STATUS] == [[1]] * 3, facts
    assert facts["hang"]["status"] == 1
    assert facts["check"]["can_capture"]
    assert "problem" not in {finding["state"] for finding in facts["check"]["findings"]}


def without_descriptors(error: int) -> str:
    program = NO_DESCRIPTORS.format(support=str(Path(container_cell.__file__).parent), error=error)
    return f"{sys.executable} -c {shlex.quote(program)}"


@pytest.mark.slow
@needs("root")
@pytest.mark.parametrize(
    ("prefix", "reason", "finding"),
    [
        pytest.param(f"unshare --mount sh -c {shlex.quote(NO_PROC)} sh", LOOK_IN_PROC, "proc", id="no proc"),
        pytest.param(without_descriptors(errno.ENOSYS), NO_PIDFD, "kernel", id="no pidfd_open"),
    ],
)
def test_captures_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str, reason: str, finding: str
) -> None:
    """Before any test runs, with one reason; the tests end as without the plugin."""
    monkeypatch.setattr(container_cell, "STATUS", {"failure": 1, "crash": -11})
    facts = run_cell(tmp_path, shlex.split(prefix))

    for kind in container_cell.STATUS:
        assert facts[kind]["threads"] == []
        assert facts[kind]["said"].startswith(reason), facts[kind]
    problems = [entry["name"] for entry in facts["check"]["findings"] if entry["state"] == "problem"]
    assert problems == [finding]
    assert facts["check"]["can_capture"] is False
