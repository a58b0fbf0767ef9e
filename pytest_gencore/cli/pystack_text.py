"""What pystack prints of a core, arranged: the capturing thread, then the others, by name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pytest_gencore.archive import Manifest

_BLOCK: Final = re.compile(r"^(?=Traceback for thread (\d+) )", re.MULTILINE)
_TITLE: Final = re.compile(r"^Thread (.+), native id (\d+)((?:, .+)?), most recent call last:$", re.MULTILINE)
"""Of ``stacks.txt``."""


def arrange_threads(text: str, manifest: Manifest, stacks: str | None) -> str:
    """Return the threads in the manifest's order, with the titles that ``stacks``, stacks.txt, gives them.

    pystack's own lines about the core are left out: what is right of them is in the manifest.
    """
    order = {thread.tid: number for number, thread in enumerate(manifest.threads)}
    titles = {int(tid): f"{name}{rest}" for name, tid, rest in _TITLE.findall(stacks or "")}
    blocks: list[tuple[int, str]] = []
    _, *parts = _BLOCK.split(text)
    for tid, part in zip(map(int, parts[::2]), parts[1::2], strict=True):
        block = f"{part.rstrip()}\n"
        if tid in order:
            begin = f"Traceback for thread {tid} "
            title = f"({titles[tid]}) " if tid in titles else ""
            blocks.append((order[tid], f"{begin}{title}{block.removeprefix(begin).removeprefix('[] ')}"))
        elif blocks:  # a value with such a line
            number, before = blocks.pop()
            blocks.append((number, before + block))
    if not blocks:
        return text
    return "\n".join(block for _, block in sorted(blocks, key=lambda item: item[0]))
