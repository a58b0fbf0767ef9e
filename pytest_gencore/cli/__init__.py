"""The command line ``gencore``: what to do with archives, on any machine; one module a subcommand.

Imports neither pytest nor the extension. See docs/reference/cli.md.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit: 0 if all went well, 1 if it did not, 2 for wrong usage."""
    try:
        import click as _click  # noqa: F401 - asked for here, so that its absence is told apart from bugs
    except ImportError:
        sys.stderr.write("gencore needs click: pip install 'pytest-gencore[cli]'\n")
        sys.exit(2)
    from pytest_gencore.cli.program import run

    run()
