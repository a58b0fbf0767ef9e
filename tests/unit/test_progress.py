"""What is said while pytest waits for collectors: writing an archive is one thing, uploading it another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_gencore.plugin.progress import describe_interrupt, describe_progress
from pytest_gencore.run.outcome import Outcome, make_outcome
from pytest_gencore.run.state import CaptureState

WRITING = CaptureState(bytes_done=1 << 20, bytes_total=4 << 20)
WAITING = CaptureState(state="done", result="b.tar.gz", goes_on=True, is_uploading=True)
UPLOADING = CaptureState(
    state="done", result="b.tar.gz", goes_on=True, is_uploading=True, bytes_done=1 << 20, bytes_total=2 << 20
)
MAKING_A_PAGE = CaptureState(state="done", result="b.tar.gz", goes_on=True)
DONE = CaptureState(state="done", result="c.tar.gz")
KILLED = CaptureState(state="done", result="c.tar.gz", is_uploading=True)
HEAD = "gencore: interrupted: archives finished: "


def outcomes_of(*states: CaptureState) -> list[Outcome]:
    return [make_outcome(Path("/x"), Path("/run/a.json"), state) for state in states]


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ([WRITING, DONE], "writing core archives, 1 of 2 finished, 25 % of 4.0 MiB read: a.tar.gz"),
        (
            [WRITING, UPLOADING],
            "writing core archives, 1 of 2 finished, 25 % of 4.0 MiB read, 1 being uploaded: a.tar.gz",
        ),
        ([UPLOADING, DONE], "uploading core archives, 1 of 2 finished, 50 % of 2.0 MiB sent: b.tar.gz"),
        ([UPLOADING, WAITING], "uploading core archives, 0 of 2 finished, 50 % of 2.0 MiB sent"),
        ([WAITING], "uploading core archives, 0 of 1 finished: b.tar.gz"),
        ([MAKING_A_PAGE], "writing core archives, 0 of 1 finished: b.tar.gz"),
    ],
)
def test_progress(states: list[Any], text: str) -> None:
    assert describe_progress(outcomes_of(*states)) == f"gencore: {text}"


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ([WRITING, DONE], "1, still being written: 1; press Ctrl-C again to give up the latter"),
        (
            [WRITING, UPLOADING, DONE, KILLED],
            "3, still being written: 1, being uploaded: 1; press Ctrl-C again to give up the last two",
        ),
    ],
)
def test_interrupt(states: list[Any], text: str) -> None:
    assert describe_interrupt(outcomes_of(*states)) == HEAD + text
