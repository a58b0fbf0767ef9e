"""Install a wheel where there is nothing but Debian and its Python, and run the example: for ``.ci/wheels``.

As a program: ``bare_root.py FOLDER WHEEL``. The root file system stays in the folder, and is used again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from every_python import NEEDED, Python
from other_root import make_root

COMPILERS = ("cc", "gcc", "clang", "tcc", "nasm", "make")
EXAMPLE = "tests/install/test_every_python.py::TestEveryPython::test_stacks[failure-stacks]"


def main() -> None:
    """Fail if anything of it does."""
    folder, wheel = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    root = make_root(folder / "bare", "trixie", "python3,python3-venv")
    python = Python("python3", "Debian trixie", "/opt/wheel", root)
    found = [name for name in COMPILERS if python.see(f"/usr/bin/{name}").exists()]
    assert not found, found
    python.install(wheel, *NEEDED)
    print(python.run("/opt/wheel/env/bin/gencore", "check"))
    results = python.test(EXAMPLE)
    sys.exit(not results or not all(results.values()))


if __name__ == "__main__":
    main()
