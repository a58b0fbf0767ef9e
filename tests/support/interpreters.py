"""The CPythons of this machine, one of each version that the project supports.

As a program: ``interpreters.py [3.MINOR]`` prints the path of one, or of the oldest; else it fails.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

MINORS = (10, 11, 12, 13, 14, 15)


@functools.cache
def find_interpreter(minor: int) -> str | None:
    """Return CPython 3.``minor``: this one, one beside it, or one on PATH; None if there is none."""
    if sys.version_info[:2] == (3, minor):
        return sys.executable
    siblings = Path(sys.base_prefix).parent.glob(f"3.{minor}.*/bin/python3.{minor}")
    for candidate in (*sorted(siblings, reverse=True), shutil.which(f"python3.{minor}")):
        if candidate is not None and _is_usable(str(candidate), minor):
            return str(candidate)
    return None


def _is_usable(python: str, minor: int) -> bool:
    """Whether it starts: what is on PATH may be a stub that starts nothing."""
    code = f"import sys; sys.exit(sys.version_info[:2] != (3, {minor}))"
    command = [python, "-I", "-S", "-c", code]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0


if __name__ == "__main__":
    wanted = [int(name.removeprefix("3.")) for name in sys.argv[1:]] or MINORS
    found = next(filter(None, map(find_interpreter, wanted)), None)
    sys.exit(1 if found is None else print(found))
