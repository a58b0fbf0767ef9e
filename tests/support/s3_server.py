"""An S3 server on loopback that keeps its objects in a folder and checks signatures: ``rclone serve s3``."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING

from capabilities import find_python_program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEY, SECRET = "the-key-id-of-tests", "the-secret-of-tests"
BUCKET = "bucket"
_SECONDS = 30.0
_TICK_SECONDS = 0.02


class S3Server:
    """A server with one bucket; it can be killed and started again, at the same address."""

    def __init__(self, folder: Path) -> None:
        """``folder`` holds its objects as files."""
        self.bucket = folder / BUCKET
        self.bucket.mkdir(parents=True)
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.start()

    @property
    def environment(self) -> Mapping[str, str]:
        """What botocore needs to find it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = find_python_program("rclone")
        assert program is not None
        self._process = subprocess.Popen(
            [
                program,
                "serve",
                "s3",
                f"--addr=127.0.0.1:{self.port}",
                f"--auth-key={KEY},{SECRET}",
                "--config=/dev/null",
                "--etag-hash=",  # else it reads all of an object for each range
                str(self._folder),
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _SECONDS
        while True:
            with socket.socket() as client:
                if not client.connect_ex(("127.0.0.1", self.port)):
                    return
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(_TICK_SECONDS)

    @property
    def pid(self) -> int:
        """The process that serves now."""
        return self._process.pid

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._process.kill()
        self._process.wait()

    def find_objects(self) -> dict[str, int]:
        """Return the sizes of all objects, by their keys; not of parts that it was killed at."""
        files = (path for path in self.bucket.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {str(path.relative_to(self.bucket)): path.stat().st_size for path in files}
