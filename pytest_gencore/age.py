"""Encrypt and decrypt as age does, with pyrage: https://age-encryption.org/v1.

Streams go through a pipe and a thread: pyrage (1.2 to 1.4) reads from one object and writes to another until
all is done. What such an object raises would come back as text; it is kept and raised itself.
"""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from pytest_gencore.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

_HELP: Final = "pip install 'pytest-gencore[seal]'"
_HEADER_END: Final = b"\n--- "
_HEADER_LIMIT: Final = 256 << 10
_KEY_FILE_LIMIT: Final = 64 << 10
_PIECE: Final = 64 << 10
_BUFFER: Final = 256 << 10
"""Bytes; pyrage asks for 8 KiB each time."""
_ABORT_SECONDS: Final = 10.0


def load_pyrage() -> Any:
    """Return the module; raises ArchiveError if it is not installed."""
    try:
        import pyrage  # its submodules are attributes; importing them fails if it is imported again
    except ImportError as error:
        raise ArchiveError("sealed archives need pyrage", help_text=_HELP) from error
    return pyrage


def parse_recipient(text: str) -> Any:
    """Return the recipient that a line such as ``age1...`` or ``ssh-ed25519 ...`` names.

    Raises ValueError, and ArchiveError without pyrage.
    """
    pyrage = load_pyrage()
    kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise ValueError("not a public key of age (age1...) or of SSH (ssh-ed25519, ssh-rsa)") from error


def read_identities(paths: Iterable[Path]) -> list[Any]:
    """Return the private keys in files: of age, a line each, or of SSH without a passphrase.

    Raises ArchiveError that names the file.
    """
    pyrage = load_pyrage()
    identities = []
    for path in paths:
        try:
            with path.open("rb") as file:
                data = file.read(_KEY_FILE_LIMIT + 1)
        except OSError as error:
            message = f"{path} cannot be read: {error.strerror}"
            raise ArchiveError(message) from error
        if len(data) > _KEY_FILE_LIMIT:
            message = f"{path} is too large for a file of private keys"
            raise ArchiveError(message)
        try:
            if data.lstrip().startswith(b"-----BEGIN"):
                identities.append(pyrage.ssh.Identity.from_buffer(data))
                continue
            found = [
                pyrage.x25519.Identity.from_str(line.strip())
                for line in data.decode().splitlines()
                if line.strip() and not line.startswith("#")
            ]
        except (pyrage.IdentityError, ValueError) as error:
            message = f"{path} is not a private key of age, or of SSH without a passphrase: {error}"
            raise ArchiveError(message) from error
        if not found:
            message = f"{path} holds no private key"
            raise ArchiveError(message)
        identities += found
    return identities


def encrypt(data: bytes, recipients: Sequence[Any]) -> bytes:
    """Return data encrypted for each of them."""
    encrypted: bytes = load_pyrage().encrypt(data, recipients)
    return encrypted


def decrypt(data: bytes, identities: Sequence[Any]) -> bytes:
    """Return what ``encrypt`` has encrypted; raises ArchiveError."""
    target = io.BytesIO()
    _decrypt(_Source(io.BytesIO(data).read), target, identities)
    return target.getvalue()


class Encryption:
    """Encrypts what is written to ``descriptor``, until that is closed by ``finish`` or ``abort``."""

    def __init__(self, write: Callable[[bytes], object], recipients: Sequence[Any]) -> None:
        """Prepare to pass the encrypted pieces to ``write``, in a thread."""
        self._pyrage = load_pyrage()
        self._source, self.descriptor = os.pipe()
        self._target = _Target(write)
        self._recipients = recipients
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._encrypt, name="gencore-seal", daemon=True)
        self._is_started = self._is_closed = False

    def start(self) -> None:
        """Begin; raises ArchiveError if no thread can be started."""
        try:
            self._thread.start()
        except RuntimeError as error:  # the limit on processes, or on memory
            message = "no thread can be started that encrypts"
            raise ArchiveError(message, help_text="raise the limit on processes: ulimit -u") from error
        self._is_started = True

    def finish(self) -> None:
        """Encrypt the rest; raises what ``write`` raised."""
        self._close()
        self._thread.join()
        self.raise_error()

    def abort(self) -> None:
        """End without caring for the rest; a thread that hangs in a write is left behind."""
        self._close()
        if self._is_started:
            self._thread.join(_ABORT_SECONDS)
        else:
            os.close(self._source)

    def raise_error(self) -> None:
        """Raise what has ended the encryption early, if anything has."""
        if self._error is not None:
            raise self._error

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            os.close(self.descriptor)

    def _encrypt(self) -> None:
        with os.fdopen(self._source, "rb", buffering=_BUFFER) as source:
            try:
                self._pyrage.encrypt_io(source, self._target, self._recipients)
            except Exception as error:  # noqa: BLE001 - raised again by ``raise_error``
                self._error = self._target.error or error


class Decryption:
    """A stream of what is decrypted in a thread."""

    def __init__(self, read: Callable[[int], bytes | memoryview], identities: Sequence[Any]) -> None:
        """``read`` gives at most so many encrypted bytes, none at the end."""
        self._source = _Source(read)
        self._identities = identities
        self._error: BaseException | None = None
        self._output, self._target = os.pipe()
        self._thread = threading.Thread(target=self._run, name="gencore-unseal", daemon=True)
        self._thread.start()

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end. Raises ArchiveError if that is not the true end."""
        data = os.read(self._output, size)
        if not data:
            self._thread.join()
            if self._error is not None:
                raise self._error
        return data

    def close(self) -> None:
        """End, whether or not everything was read."""
        os.close(self._output)
        self._thread.join()

    def _run(self) -> None:
        with os.fdopen(self._target, "wb", buffering=0) as target:
            try:
                _decrypt(self._source, target, self._identities)
            except BrokenPipeError:
                pass  # nobody reads any more
            except Exception as error:  # noqa: BLE001 - raised again by ``read``
                self._error = error


class _Target:
    """Where pyrage writes."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self.error: Exception | None = None

    def write(self, data: bytes) -> int:
        try:
            self._write(data)
        except Exception as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """There is nothing to do."""


class _Source:
    """Where pyrage reads; the header that it must hold in memory is bounded."""

    def __init__(self, read: Callable[[int], bytes | memoryview]) -> None:
        self._read = read
        self._ahead = b""
        self._is_behind_header = False
        self.error: Exception | None = None

    def read(self, size: int) -> bytes:
        try:
            if not self._is_behind_header:
                self._read_header()
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data or bytes(self._read(size))
        except Exception as error:
            self.error = error
            raise

    def _read_header(self) -> None:
        self._is_behind_header = True
        while _HEADER_END not in self._ahead:
            piece = self._read(_PIECE)
            self._ahead += piece
            if not piece or len(self._ahead) > _HEADER_LIMIT:
                raise ArchiveError("the archive is corrupt: its sealed part does not begin as age's files do")


def _decrypt(source: _Source, target: Any, identities: Sequence[Any]) -> None:
    pyrage = load_pyrage()
    try:
        pyrage.decrypt_io(source, target, identities)
    except BrokenPipeError:
        raise
    except (pyrage.DecryptError, OSError) as error:
        if source.error is not None:
            raise source.error from None
        if "No matching keys" in str(error):
            raise ArchiveError("it is sealed for other keys than those that were given") from error
        message = f"the archive is corrupt: its sealed part cannot be decrypted: {error}"
        raise ArchiveError(message) from error
