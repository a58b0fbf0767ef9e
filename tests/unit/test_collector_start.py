"""What a collector imports when it starts: each capture pays for it."""

from __future__ import annotations

import json
import subprocess
import sys

RARELY_NEEDED = {
    "psutil",
    "socket",
    "subprocess",
    "uuid",
    "pytest_gencore.archive.reader",
    "pytest_gencore.capture",
    "pytest_gencore.collector.core.kernel_method",
    "pytest_gencore.collector.stacks.pystack_reader",
    "pytest_gencore.junit",
}


def test_imports_only_what_every_capture_needs() -> None:
    script = "import json, sys, pytest_gencore.collector.main; print(json.dumps([*sys.modules]))"

    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout

    loaded = set(json.loads(output)) - set(sys.builtin_module_names)
    assert loaded & RARELY_NEEDED == set()
