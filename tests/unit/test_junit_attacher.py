"""What the junit file says of tests that pytest tells nothing of."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from pytest_gencore.junit.attacher import Archives, Cancelled, attach_to_junit

if TYPE_CHECKING:
    from pathlib import Path

ARCHIVE = "core_20260102.030405.1.001.tar.gz"
URL = f"s3://bucket/run/{ARCHIVE}"


def test_a_cancelled_test_has_the_url_of_its_archive(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_text('<testsuites><testsuite tests="0" errors="0" /></testsuites>')
    (tmp_path / ARCHIVE).write_bytes(b"")
    cancelled = Cancelled("test_a", "test_hang", "cancelled", "a text", tmp_path / ARCHIVE)
    archives = Archives(
        {ARCHIVE: tmp_path / ARCHIVE}, frozenset(), cancelled=[cancelled], urls={ARCHIVE: URL}
    )

    assert attach_to_junit(path, archives, {}) == []

    (case,) = ET.parse(path).iter("testcase")
    found = [(entry.get("name"), entry.get("value")) for entry in case.iter("property")]
    assert found == [("gencore", str(tmp_path / ARCHIVE)), ("gencore_url", URL)]
