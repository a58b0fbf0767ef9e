"""Sphinx: the documentation as a site. The pages are Markdown and are also read on GitHub.

sphinx-build --fail-on-warning docs build/docs
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_gencore import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "pytest-gencore"
author = "The pytest-gencore developers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["changelog.d/[0-9+]*"]
suppress_warnings = ["misc.highlighting_failure"]  # `[...]` stands for lines that are left out

html_theme = "furo"
html_title = "pytest-gencore"
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = "$ "

myst_heading_anchors = 4  # links to headings as on GitHub; one that leads nowhere is a warning
myst_enable_extensions = ["fieldlist"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"


_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n?)*)", re.MULTILINE)
_PAGE = re.compile(r"\]\(([^):#]+)\.md\)")


def setup(app: Sphinx) -> None:
    """Make the navigation from the lists of index.md, so that they stand in one place."""
    app.connect("source-read", _add_navigation)


def _add_navigation(_app: Sphinx, page: str, source: list[str]) -> None:
    if page != "index":
        return
    for title, body in _SECTION.findall(source[0]):
        caption = title.partition(":")[0]
        pages = "\n".join(_PAGE.findall(body))
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"
