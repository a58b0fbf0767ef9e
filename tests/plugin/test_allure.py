"""The report of allure-pytest has the stacks of each captured test."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from sample_runs import SAMPLE

from pytest_gencore.run.files import page_beside

if TYPE_CHECKING:
    from pathlib import Path

    from sample_runs import FindArchives, RunGencore

WITH_ALLURE = ("-p", "allure_pytest", "--alluredir=allure")


def read_texts(folder: Path) -> dict[str, list[str]]:
    """Return what is attached by us, by the names of tests."""
    results = [json.loads(path.read_text()) for path in folder.glob("*-result.json")]
    return {
        result["name"]: [
            (folder / entry["source"]).read_text()
            for entry in result.get("attachments", ())
            if (entry["name"], entry["type"]) == ("gencore", "text/plain")
        ]
        for result in results
    }


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [[], ["-n2"]], ids=["local", "xdist"])
def test_stacks_are_attached(
    pytester: pytest.Pytester, run_gencore: RunGencore, find_archives: FindArchives, workers: list[str]
) -> None:
    pytester.makepyfile(test_a=SAMPLE)

    run_gencore("--gencore-on-fail", *WITH_ALLURE, *workers)

    texts = read_texts(pytester.path / "allure")
    assert texts.pop("test_ok") == []
    archives = find_archives()
    assert set(texts) == {"test_bad", "test_worse"}
    for name, (text,) in texts.items():
        assert text.startswith(
            f"core archive: gencore-artifacts/{archives[f'test_a.py::{name} call'].name}\n"
        )
        assert f", in {name}\n" in text
    assert not list((pytester.path / "allure").glob("*.gencore"))


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
def test_reason_is_attached(pytester: pytest.Pytester, run_gencore: RunGencore, workers: list[str]) -> None:
    pytester.makepyfile(test_a="def test_x(): assert 0")

    run_gencore("--gencore-on-fail", "--gencore-max-size=1MB", *WITH_ALLURE, *workers)

    ((text,),) = read_texts(pytester.path / "allure").values()
    assert text.startswith("no core archive: the archives of this run would be larger than 1.0 MB: ")
    assert ", in test_x\n" in text, "the stacks are kept"


@pytest.mark.slow
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["local", "xdist"])
def test_page_is_attached(pytester: pytest.Pytester, run_gencore: RunGencore, workers: list[str]) -> None:
    pytester.makepyfile(test_a="def test_x(): assert 0")

    run_gencore("--gencore-on-fail", "--gencore-type=text", "-ogencore_html=true", *WITH_ALLURE, *workers)

    (archive,) = (pytester.path / "gencore-artifacts").glob("*.tar.gz")
    (page,) = (pytester.path / "allure").glob("*-attachment.html")
    assert page.read_bytes() == page_beside(archive).read_bytes()
    (result,) = (pytester.path / "allure").glob("*-result.json")
    attached = [(entry["name"], entry["type"]) for entry in json.loads(result.read_text())["attachments"]]
    assert attached == [("gencore", "text/plain"), ("gencore page", "text/html")]


@pytest.mark.slow
def test_allure_that_fails_is_told(pytester: pytest.Pytester, run_gencore: RunGencore) -> None:
    pytester.makepyfile(test_a="def test_x(): assert 0")
    pytester.makeconftest(
        """
        def pytest_runtest_setup(item):
            def fail(*arguments):
                raise ValueError("no room")
            item.config.pluginmanager.get_plugin("allure_listener").attach_data = fail
        """
    )

    result = run_gencore("--gencore-on-fail", *WITH_ALLURE)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["core archive: *", "not attached to allure's report: unexpected ValueError: no room", "1 captured"]
    )
