"""Sockets: their addresses and state from the hand-over, and the socket at the other end."""

from __future__ import annotations

import ipaddress
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pytest_gencore.collector.diagnosis.system.records import known
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

_TCP_STATES: Final = {
    1: "connected",
    2: "connecting: no answer yet",
    3: "being connected",
    4: "closed by this side, which waits for the other one",
    5: "closed by this side, which waits for the other one",
    6: "closed",
    7: "not connected",
    8: "closed by the other side",
    9: "closed by both sides",
    10: "listening",
    11: "closed by both sides",
}
"""``enum`` of <netinet/tcp.h>, TCP_ESTABLISHED and on."""
_ESTABLISHED: Final = 1
_TABLE_LIMIT: Final = 2 << 20
"""Bytes of ``/proc/net/tcp``: some ten thousand sockets."""
_UNIX, _INET, _INET6 = 1, 2, 10
_TCP, _UDP = 6, 17
"""Of <sys/socket.h> and <netinet/in.h>: few captures need the module."""
_FAMILIES: Final[dict[int, str]] = {_INET: "IPv4", _INET6: "IPv6"}
_NETLINK_HEADER: Final = struct.Struct("=IHHII")
_UNIX_REQUEST: Final = struct.Struct("=BBHIIIii")
_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST: Final = 1
_SHOW_PEER: Final = 4
_UNIX_ANSWER_SIZE: Final = 16
_UNIX_DIAG_PEER: Final = 2

Address = tuple[str, int]
"""IP address and port."""


class SocketFacts(NamedTuple):
    """A socket of the captured process, at the moment of the capture."""

    kind: str
    """``TCP``, ``UDP``, ``unix`` or the numbers of family and type."""
    is_ip: bool
    local: str
    peer: str
    """Addresses as people write them; empty without one."""
    local_address: Address | None
    peer_address: Address | None
    is_listening: bool
    tcp_state: int | None
    sent_ago: float | None
    received_ago: float | None
    """Seconds since data came, or since the connection was made."""
    received_bytes: int | None
    peer_pid: int | None
    """Of a unix socket: who connected, listened, or made the pair."""

    @property
    def is_connected(self) -> bool:
        """Whether it has another end."""
        return bool(self.peer) or (self.kind == "unix" and not self.is_listening)

    def describe(self, at_peer: str) -> list[str]:
        """Return the parts of a line; ``at_peer`` is a name for the process at the other address."""
        to = f"{self.peer} ({at_peer})" if at_peer and self.peer else self.peer
        addresses = " -> ".join(part for part in (self.local, to) if part)
        parts = [f"{self.kind if self.is_ip else f'{self.kind} socket'} {addresses}".rstrip()]
        if self.tcp_state is not None:
            parts.append(_TCP_STATES.get(self.tcp_state, f"state {self.tcp_state}"))
        elif self.is_listening:
            parts.append("listening")
        if self.tcp_state == _ESTABLISHED and self.received_ago is not None:
            ago = format_duration(self.received_ago)
            nothing = self.received_bytes == 0
            parts.append(
                f"nothing received since it was made {ago} ago" if nothing else f"nothing received for {ago}"
            )
        return parts

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        state = _TCP_STATES.get(self.tcp_state) if self.tcp_state is not None else None
        return {
            "kind": self.kind,
            "local": escape_unprintable(self.local),
            "peer": escape_unprintable(self.peer),
            "is_listening": self.is_listening,
            "state": state,
            "sent_ago_s": self.sent_ago,
            "received_ago_s": self.received_ago,
            "received_bytes": self.received_bytes,
            "peer_pid": self.peer_pid,
        }


def parse_socket(record: dict[str, Any]) -> SocketFacts:
    """Make it of a ``SOCKET`` record."""
    family, kind = record["family"], record["type"]
    local = record["local"][: record["local_size"]]
    peer = record["peer"][: record["peer_size"]]
    is_ip = family in (_INET, _INET6)
    is_listening = record["is_listening"] == 1
    names = ("last_sent_ms", "last_received_ms", "received_bytes")
    sent_ms, received_ms, received = [None if is_listening else known(record[name]) for name in names]
    return SocketFacts(
        kind=_kind_of(family, kind, record["protocol"]),
        is_ip=is_ip,
        local=_text_of(family, local),
        peer=_text_of(family, peer),
        local_address=_ip_address(local) if is_ip else None,
        peer_address=_ip_address(peer) if is_ip else None,
        is_listening=is_listening,
        tcp_state=known(record["tcp_state"]),
        sent_ago=None if sent_ms is None else sent_ms / 1000,
        received_ago=None if received_ms is None else received_ms / 1000,
        received_bytes=received,
        peer_pid=known(record["peer_pid"]),
    )


def _kind_of(family: int, kind: int, protocol: int) -> str:
    if family in (_INET, _INET6) and protocol in (_TCP, _UDP):
        return "TCP" if protocol == _TCP else "UDP"
    if family == _UNIX:
        return "unix"
    return f"{_FAMILIES.get(family, f'family {family}')} type {kind}"


def _text_of(family: int, address: bytes) -> str:
    if family == _UNIX:
        return _unix_path(address)
    found = _ip_address(address)
    if found is None:
        return ""
    return f"[{found[0]}]:{found[1]}" if ":" in found[0] else f"{found[0]}:{found[1]}"


def _unix_path(address: bytes) -> str:
    path = address[2:]
    if path.startswith(b"\0"):  # abstract: its length is that of the address
        return "@" + os.fsdecode(path[1:])
    return os.fsdecode(path.partition(b"\0")[0])


def _ip_address(address: bytes) -> Address | None:
    """Return address and port; an IPv4 address in IPv6 is itself."""
    if len(address) < 8:
        return None
    family, port = struct.unpack_from("<H", address)[0], struct.unpack_from(">H", address, 2)[0]
    if family == _INET:
        return str(ipaddress.IPv4Address(address[4:8])), port
    if family == _INET6 and len(address) >= 24:
        return _plain(ipaddress.IPv6Address(address[8:24])), port
    return None


def _plain(address: ipaddress.IPv6Address) -> str:
    return str(address.ipv4_mapped or address)


# ---- the other end -------------------------------------------------------------------------------------


def read_tcp_inodes(wanted: Iterable[tuple[Address, Address]]) -> dict[tuple[Address, Address], int]:
    """Return the inodes of the sockets with these local and peer addresses, as far as this host has them."""
    pairs = set(wanted)
    found: dict[tuple[Address, Address], int] = {}
    for name in ("tcp", "tcp6") if pairs else ():
        for line in _read_table(f"/proc/self/net/{name}"):
            fields = line.split()
            if len(fields) < 10 or fields[9] == b"0":
                continue  # without an inode nobody has it open
            pair = (_table_address(fields[1]), _table_address(fields[2]))
            if pair in pairs:
                found[pair] = int(fields[9])
    return found


def _read_table(path: str) -> list[bytes]:
    try:
        with Path(path).open("rb") as file:
            return file.read(_TABLE_LIMIT).splitlines()[1:]
    except OSError:
        return []


def _table_address(text: bytes) -> Address:
    """Parse ``0100007F:1538``: words in the byte order of the machine, and a port."""
    words, _, port = text.partition(b":")
    raw = b"".join(int(words[at : at + 8], 16).to_bytes(4, "little") for at in range(0, len(words), 8))
    address = str(ipaddress.IPv4Address(raw)) if len(raw) == 4 else _plain(ipaddress.IPv6Address(raw))
    return address, int(port, 16)


def read_unix_peers(inodes: Iterable[int]) -> dict[int, int]:
    """Return the inode at the other end of each connected unix socket; see sock_diag(7)."""
    peers: dict[int, int] = {}
    wanted = list(inodes)
    if not wanted:
        return peers
    try:
        import socket

        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as asked:
            asked.settimeout(0.1)
            for inode in wanted:
                body = _UNIX_REQUEST.pack(_UNIX, 0, 0, 0xFFFFFFFF, inode & 0xFFFFFFFF, _SHOW_PEER, -1, -1)
                size = _NETLINK_HEADER.size + len(body)
                asked.send(_NETLINK_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST, 0, 0) + body)
                peer = _parse_peer(asked.recv(8192))
                if peer:
                    peers[inode] = peer
    except (OSError, struct.error):
        pass  # a sandbox without it
    return peers


def _parse_peer(answer: bytes) -> int:
    """Return the inode in an answer, 0 if it has none."""
    if _NETLINK_HEADER.unpack_from(answer)[1] != _SOCK_DIAG_BY_FAMILY:
        return 0
    at = _NETLINK_HEADER.size + _UNIX_ANSWER_SIZE
    while at + 4 <= len(answer):
        size, kind = struct.unpack_from("=HH", answer, at)
        if kind == _UNIX_DIAG_PEER and size >= 8:
            return int(struct.unpack_from("=I", answer, at + 4)[0])
        at += max(4, (size + 3) & ~3)
    return 0
