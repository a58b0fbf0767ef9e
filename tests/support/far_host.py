"""Another host: its own network, processes and view of the file system, and an sshd that answers there."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kernel import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "far"
_PORT = 2222
_NEAR_ADDRESS, FAR_ADDRESS = "10.77.0.1", "10.77.0.2"
_ALONE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True, slots=True)
class FarHost:
    """A host that is there while the context lasts, and a network that has it as ``far``."""

    folder: Path
    """Its home directory, which can be seen here."""
    config: Path
    """Of ssh."""
    prefix: tuple[str, ...]
    """Begins a command that shall reach it."""
    process: int
    """The first process there."""

    @property
    def spec(self) -> str:
        """What ``--tx`` needs."""
        return f"ssh={NAME}//ssh_config={self.config}//python={sys.executable}"

    @property
    def enter(self) -> tuple[str, ...]:
        """Begins a command that shall run there."""
        enter = ("nsenter", f"--target={self.process}", "--net", "--mount", "--pid", f"--wd={self.folder}")
        return (*enter, "setpriv", "--pdeathsig=KILL")  # nsenter's child ends with it

    def run(self, *command: str) -> str:
        """Run a command there; return what it writes."""
        return subprocess.run([*self.enter, *command], check=True, capture_output=True, text=True).stdout

    def wait_for_port(self, port: int) -> None:
        """Wait until a server listens there."""
        sockets = Path(f"/proc/{self.process}/net/tcp")
        listening = f":{port:04X} 00000000:0000 0A"
        wait_until(lambda: listening in sockets.read_text(), f"port {port} is open")


@contextlib.contextmanager
def far_host(folder: Path, hidden: Path) -> Iterator[FarHost]:
    """Give a host that has ``folder`` for its files and does not see what is in ``hidden``."""
    home = folder / "home"
    home.mkdir(parents=True)
    for name in ("host", "user"):
        path = str(folder / name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    command = f'cd {home} && exec sh -c "$SSH_ORIGINAL_COMMAND"'
    (folder / "sshd").write_text(
        f"Port {_PORT}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nStrictModes no\n"
        f"UsePAM no\nPidFile none\nPermitRootLogin yes\nForceCommand {command}\n"
    )
    (folder / "ssh").write_text(
        f"Host {NAME}\nHostName {FAR_ADDRESS}\nPort {_PORT}\nUser root\nIdentityFile {folder}/user\n"
        "UserKnownHostsFile /dev/null\nStrictHostKeyChecking no\nLogLevel ERROR\n"
    )
    setup = (
        f"mount -t tmpfs none /run && mkdir /run/sshd && mount -t tmpfs none {hidden} && ip link set lo up &&"
        f" exec /usr/sbin/sshd -D -e -f {folder}/sshd"
    )
    network = ("unshare", "--net", "--fork", "--kill-child", "sleep", "infinity")
    with _start(*network) as near, _start(*_ALONE, "sh", "-c", setup) as far:
        _connect(near, far)
        host = FarHost(home, folder / "ssh", ("nsenter", f"--net=/proc/{near}/ns/net"), far)
        host.wait_for_port(_PORT)
        yield host


@contextlib.contextmanager
def _start(*command: str) -> Iterator[int]:
    """Give the child of ``unshare``, the first process of the namespaces, when it has its own."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            wait_until(lambda: children.read_text() != "", "unshare has its child")
            yield int(children.read_text())
        finally:
            process.kill()


def _connect(near: int, far: int) -> None:
    def ip(process: int, *arguments: str) -> None:
        enter = ("nsenter", f"--net=/proc/{process}/ns/net", "ip")
        subprocess.run([*enter, *arguments], check=True)

    ip(near, "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(far))
    for process, device, address in ((near, "near", _NEAR_ADDRESS), (far, "far", FAR_ADDRESS)):
        ip(process, "addr", "add", f"{address}/24", "dev", device)
        ip(process, "link", "set", device, "up")
    ip(near, "link", "set", "lo", "up")


@functools.cache
def can_be_another_host() -> bool:
    """Whether this machine can have one."""
    if os.geteuid() != 0 or not os.access("/usr/sbin/sshd", os.X_OK):
        return False
    probe = ["unshare", "--net", "ip", "link", "add", "near", "type", "veth", "peer", "name", "far"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0
