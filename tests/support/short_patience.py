"""For subjects, and as a pytest plugin: nothing here or in collectors waits long for what stands still."""

from __future__ import annotations

import os
from typing import Final

from pytest_gencore.capture import start
from pytest_gencore.machine.patience import Patience

SECONDS: Final = float(os.environ.get("SHORT_PATIENCE", "2"))
_IMPORT: Final = "from {module} import main"
_SHORTEN: Final = (
    f"from pytest_gencore.machine.patience import Patience; Patience.__init__.__defaults__ = ({SECONDS},); "
)

Patience.__init__.__defaults__ = (SECONDS,)
assert _IMPORT in start._START
start._START = start._START.replace(_IMPORT, _SHORTEN + _IMPORT)
