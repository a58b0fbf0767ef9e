"""Damage archives in many ways."""

from __future__ import annotations

import copy
import gzip
import json
import random
from typing import TYPE_CHECKING, Any

from made_archives import NAME, new_manifest

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 512
NAMES = (
    "../evil",
    "/tmp/evil",
    f"{NAME}/../../evil",
    f"{NAME}/core",
    f"{NAME}/\x1b]0;x\x07",
    "",
    "." * 90,
    NAME,
)
NUMBERS = (
    b"0",
    b"1",
    b"777",
    b"77777777777",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"\x80" + bytes(10) + b"\x09",
)
NUMBERS_OF_MAPS = (b"0", b"1", b"2000001", b"1999999", b"-5", b"9" * 18, b"9" * 400, b"x", b"4096")
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1 << 62,
    1 << 70,
    1.5,
    1e308,
    "",
    "/../x",
    "\x1b[2J",
    "\u202e",
    [],
    [[]],
    {},
    "x" * 5000,
)
KINDS = b"0125346LKSgxX\0"
HEADER_FIELDS = ((124, 12), (136, 12), (100, 8), (148, 8))


class Fuzzer:
    """Makes damaged archives out of one that is right."""

    def __init__(self, original: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.packed = original.read_bytes()
        self.tar = gzip.decompress(self.packed)
        self.headers = [
            start
            for start in range(0, len(self.tar), BLOCK)
            if self.tar[start + 257 : start + 262] == b"ustar"
        ]

    def make(self) -> tuple[str, bytes]:
        """Return the kind of damage, and the file."""
        kinds = (
            self.flip,
            self.truncate,
            self.splice,
            self.change_header,
            self.change_header,
            self.change_pax,
            self.change_map,
            self.move_members,
            self.change_manifest,
            self.change_manifest,
            self.flip_inside,
        )
        kind = self.random.choice(kinds)
        return kind.__name__, kind()

    def flip(self) -> bytes:
        data = bytearray(self.packed)
        for _ in range(self.random.choice((1, 1, 2, 8, 64))):
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        return bytes(data)

    def flip_inside(self) -> bytes:
        data = bytearray(self.tar)
        for _ in range(self.random.choice((1, 2, 8))):
            data[self.random.randrange(len(data))] = self.random.randrange(256)
        return self.pack(bytes(data))

    def truncate(self) -> bytes:
        which = self.random.random()
        if which < 0.5:
            return self.packed[: self.random.randrange(len(self.packed))]
        cut = self.tar[: self.random.randrange(len(self.tar))]
        return self.pack(cut if which < 0.75 else cut[: len(cut) // BLOCK * BLOCK])

    def splice(self) -> bytes:
        data = self.packed if self.random.random() < 0.3 else self.tar
        start, end, at = sorted(self.random.randrange(len(data)) for _ in range(3))
        piece = data[start:end] * self.random.choice((0, 1, 2, 20))
        result = data[:at] + piece + data[at:]
        return result if data is self.packed else self.pack(result)

    def change_header(self) -> bytes:
        data = bytearray(self.tar)
        for _ in range(self.random.choice((1, 1, 2))):
            start = self.random.choice(self.headers)
            what = self.random.randrange(4)
            if what == 0:
                self.put(data, start, 100, self.random.choice(NAMES).encode())
            elif what == 1:
                offset, width = self.random.choice(HEADER_FIELDS)
                self.put(data, start + offset, width, self.random.choice(NUMBERS))
            elif what == 2:
                data[start + 156] = self.random.choice(KINDS)
            else:
                self.put(data, start + 157, 100, self.random.choice(NAMES).encode())
            fix_checksum(data, start)
        return self.pack(bytes(data))

    def change_pax(self) -> bytes:
        """Put a pax header of any records before a member."""
        keys = (
            "path",
            "size",
            "linkpath",
            "GNU.sparse.name",
            "GNU.sparse.realsize",
            "GNU.sparse.major",
            "mtime",
            "x",
        )
        records = b""
        for key in self.random.sample(keys, self.random.randrange(1, 5)):
            value = self.random.choice((*NAMES, "0", "1", "-1", "9" * 30, "1e9", "\udcff", "65536"))
            body = f" {key}={value}\n".encode("utf-8", "surrogateescape")
            length = len(body) + len(str(len(body) + 2))
            records += str(length + self.random.choice((0, 0, 0, 1, -3))).encode() + body
        header = bytearray(self.tar[self.headers[0] : self.headers[0] + BLOCK])
        header[156:157] = b"x"
        self.put(header, 124, 12, b"%011o" % len(records))
        fix_checksum(header, 0)
        start = self.random.choice(self.headers)
        block = bytes(header) + records.ljust(-(-len(records) // BLOCK) * BLOCK, b"\0")
        return self.pack(self.tar[:start] + block + self.tar[start:])

    def change_map(self) -> bytes:
        """Change numbers of the core's sparse map."""
        start = self.tar.index(b"\n0\n4096\n") - 1
        lines = self.tar[start : start + BLOCK].rstrip(b"\0").split(b"\n")
        for _ in range(self.random.choice((1, 1, 3))):
            lines[self.random.randrange(len(lines))] = self.random.choice(NUMBERS_OF_MAPS)
        changed = b"\n".join(lines).ljust(BLOCK, b"\0")[:BLOCK]
        return self.pack(self.tar[:start] + changed + self.tar[start + BLOCK :])

    def move_members(self) -> bytes:
        """Leave out, repeat or exchange members."""
        ends = [*self.headers[1:], len(self.tar)]
        members = [self.tar[start:end] for start, end in zip(self.headers, ends, strict=True)]
        keep_first = self.random.random() < 0.8
        rest = members[keep_first:]
        for _ in range(self.random.choice((1, 2))):
            where = self.random.randrange(len(rest))
            what = self.random.randrange(3)
            if what == 0:
                del rest[where]
            elif what == 1:
                rest[where:where] = [rest[where]] * self.random.choice((1, 3))
            else:
                self.random.shuffle(rest)
        return self.pack(b"".join(members[:keep_first] + rest))

    def change_manifest(self) -> bytes:
        """Change any values in the manifest; everything else stays."""
        manifest = new_manifest()
        for _ in range(self.random.choice((1, 1, 2, 5))):
            holder: Any = manifest
            while True:
                keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
                key = self.random.choice(keys)
                inner = holder[key]
                if isinstance(inner, dict | list) and inner and self.random.random() < 0.8:
                    holder = inner
                    continue
                break
            if self.random.random() < 0.2 and isinstance(holder, dict):
                del holder[key]
            else:
                holder[key] = copy.deepcopy(self.random.choice(VALUES))  # one may be put into another
            if not manifest:
                break
        text = json.dumps(manifest).encode()
        size = -(-len(text) // BLOCK) * BLOCK
        data = bytearray(self.tar[:BLOCK])
        self.put(data, 124, 12, b"%011o" % size)
        fix_checksum(data, 0)
        return self.pack(bytes(data) + text.ljust(size) + self.tar[self.headers[1] :])

    def put(self, data: bytearray, start: int, width: int, value: bytes) -> None:
        data[start : start + width] = value[:width].ljust(width, b"\0")

    def pack(self, tar: bytes) -> bytes:
        if self.random.random() < 0.5:
            return gzip.compress(tar, 1)
        middle = self.random.randrange(len(tar) + 1)
        return gzip.compress(tar[:middle], 0) + gzip.compress(tar[middle:], 1)


def fix_checksum(data: bytearray, start: int) -> None:
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + BLOCK])
