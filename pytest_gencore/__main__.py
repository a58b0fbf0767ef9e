"""``python -m pytest_gencore``: the command line ``gencore``."""

from __future__ import annotations

from pytest_gencore.cli import main

if __name__ == "__main__":
    main()
