"""How pystack's text is arranged."""

from __future__ import annotations

import json

from made_archives import new_manifest

from pytest_gencore.archive import parse_manifest
from pytest_gencore.cli.pystack_text import arrange_threads

TEXT = """
Core file information:
state: R zombie: True niceness: 0

Traceback for thread 12 [] (most recent call last):
    (Python) File "/a.py", line 1, in helper
      Locals:
        text: "one
Traceback for thread 99 of a value"

Traceback for thread 11 [Has the GIL] (most recent call last):
    (Python) File "/a.py", line 2, in test_a
"""
STACKS = """\
Thread MainThread, native id 11, ran the test, most recent call last:
  File "/a.py", line 2, in test_a
Thread a (b), native id 12, most recent call last:
"""
ARRANGED = """\
Traceback for thread 11 (MainThread, ran the test) [Has the GIL] (most recent call last):
    (Python) File "/a.py", line 2, in test_a

Traceback for thread 12 (a (b)) (most recent call last):
    (Python) File "/a.py", line 1, in helper
      Locals:
        text: "one
Traceback for thread 99 of a value"
"""


def arrange(text: str, stacks: str | None) -> str:
    manifest = new_manifest()
    thread = {"name": "python", "native_registers": True, "reason": None}
    manifest["threads"] = [{"tid": 11, **thread}, {"tid": 12, **thread}]
    return arrange_threads(text, parse_manifest(json.dumps(manifest).encode()), stacks)


def test_order_and_titles() -> None:
    assert arrange(TEXT, STACKS) == ARRANGED


def test_without_stacks_txt() -> None:
    assert "\nTraceback for thread 12 (most recent call last):\n" in arrange(TEXT, None)


def test_a_text_without_threads_stays() -> None:
    assert arrange("something else\n", STACKS) == "something else\n"
