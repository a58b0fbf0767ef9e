"""An artifact directory that others can write to: captures work, and the summary says it once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gencore_archives import find_left

if TYPE_CHECKING:
    from sample_runs import RunGencore

NOTE = "others can replace the archives in"


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize(("mode", "notes"), [(0o777, 1), (0o1777, 0), (0o755, 0)])
def test_warning(pytester: pytest.Pytester, run_gencore: RunGencore, mode: int, notes: int) -> None:
    pytester.makepyfile("def test_a(): assert 0\ndef test_b(): assert 0")
    directory = pytester.mkdir("shared cores")
    directory.chmod(mode)

    result = run_gencore("--gencore-on-fail", "--gencore-filter=0x11", f"--gencore-dir={directory}")

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["2 captured", "open one: gencore debug 'shared cores/core_*.tar.gz'"])
    lines = [line for line in result.outlines if NOTE in line]
    told = f"{NOTE} {directory}: everybody can write to it, and it has no sticky bit"
    assert lines == [told] * notes
    assert len(find_left(directory)) == 2
