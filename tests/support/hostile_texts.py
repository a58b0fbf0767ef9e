"""Texts that a browser, a terminal or a template could take for more than texts."""

from __future__ import annotations

HOSTILE = (
    "<script>document.title = 'gotcha'</script>",
    "</style></script><img src=x onerror=\"document.title = 'gotcha'\">",
    "\x1b[31mred\x1b[0m",
    "first\nsecond",
    "\u202egnp.exe",
    "\"' onload='document.title=1' {{ 7 * 7 }} {% raw %}",
    "</pre></details></title></svg>",
    "\ud800 \x00 &amp; &lt;",
)
MARKER = "-".join(HOSTILE)
