"""Keys, and sealed archives read by the reference tools."""

from __future__ import annotations

import subprocess
import tarfile
from typing import TYPE_CHECKING

from pytest_gencore.age import load_pyrage

if TYPE_CHECKING:
    from pathlib import Path

MEMBER = "sealed.tar.gz.age"


def make_key(folder: Path, name: str = "key") -> str:
    """Write a private key of age into a file; return its public key."""
    identity = load_pyrage().x25519.Identity.generate()
    (folder / name).write_text(f"# made for a test\n{identity}\n")
    return str(identity.to_public())


def make_ssh_key(folder: Path, name: str = "key", passphrase: str = "") -> str:
    """Let ssh-keygen make a key; return the public one."""
    path = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-C", "of a test", "-N", passphrase, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path.with_name(f"{name}.pub").read_text().strip()


def open_with_age(archive: Path, key: Path, folder: Path) -> Path:
    """Unpack with tar and age; return the top folder of the inner archive."""
    name = archive.name.removesuffix(".tar.gz")
    outer, inner = folder / "outer", folder / "inner"
    for path in (outer, inner):
        path.mkdir()
    subprocess.run(["tar", "xzf", archive, "-C", outer], check=True)
    assert {path.name for path in (outer / name).iterdir()} == {"gencore.json", MEMBER}
    plain = folder / "inner.tar.gz"
    with plain.open("wb") as file:
        subprocess.run(["age", "-d", "-i", key, outer / name / MEMBER], check=True, stdout=file)
    subprocess.run(["tar", "xzf", plain, "-C", inner], check=True)
    return inner / name


def member_names(archive: Path) -> list[str]:
    """Return what everybody sees of an archive, without the top folder."""
    with tarfile.open(archive) as tar:
        return [name.partition("/")[2] for name in tar.getnames() if "/" in name]
