"""Who makes the pages of a run."""

from __future__ import annotations

from pytest_gencore.plugin.isolated import find_isolated_command


def find_page_command() -> tuple[str, ...]:
    """Return the beginning of a command line of ``gencore``; UsageError if a package is missing."""

    def say_missing(name: str) -> str:
        return f"gencore: --gencore-html needs {name}: pip install 'pytest-gencore[html]'"

    return find_isolated_command("cli", ("click", "jinja2", "markupsafe"), say_missing)
