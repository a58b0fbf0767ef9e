"""Make the page: every text of an archive goes through jinja2's escaping; see ``_finalize``.

The page allows itself one style and one script, by their hashes: Content Security Policy Level 3,
https://www.w3.org/TR/CSP3/.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from pytest_gencore.page.view import make_view
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_gencore.document.model import Document


def make_page(documents: Sequence[Document]) -> str:
    """Return the page of some captures, one or more."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        finalize=_finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = _read("page.css"), _read("page.js")
    return environment.get_template("page.html.jinja").render(
        captures=[make_view(document, number) for number, document in enumerate(documents, 1)],
        style=Markup(style),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - likewise
        style_hash=_hash(style),
        script_hash=_hash(script),
        version=__version__,
    )


def _finalize(value: Any) -> Any:
    """Show what is not printable as an escape: terminal control, marks that change the direction of text."""
    return escape_unprintable(value, keep="\n\t") if type(value) is str else value


def _read(name: str) -> str:
    return (files("pytest_gencore.page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
