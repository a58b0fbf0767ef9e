"""URLs of stores: what is one, and that a password in it is shown nowhere."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from pytest_gencore.plugin.settings import resolve_settings
from pytest_gencore.plugin.stores import find_upload_command
from pytest_gencore.store.url import EXPECTED, join, kind_of, parse_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a b/c//", "s3://bucket/a b/c"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("az://container/x/", "az://container/x"),
        ("file:///srv/cores/", "file:///srv/cores"),
    ],
)
def test_urls(text: str, url: str) -> None:
    assert parse_url(text) == url
    assert join(url, "run", "core_1.tar.gz") == f"{url}/run/core_1.tar.gz"
    assert kind_of(url) in text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", EXPECTED),
        ("bucket/x", EXPECTED),
        ("s3://", EXPECTED),
        ("file:///", "expected an absolute path: file:///FOLDER"),
        ("memory://x", EXPECTED),
        ("http://host/x", EXPECTED),
        ("s3://bucket/../x", EXPECTED),
        ("s3://bucket//x", EXPECTED),
        ("s3://bucket/x?versionId=1", EXPECTED),
        ("s3://bucket/x\x1b[31m", EXPECTED),
        ("simplecache::s3://bucket", EXPECTED),
        ("file://srv/cores", "expected an absolute path: file:///FOLDER"),
        ("s3://me:hunter2@host/x", "a URL with a user or a password: credentials come from the environment"),
    ],
)
def test_others(text: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - compared below
        parse_url(text)
    assert str(caught.value) == why


def test_usage_errors(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """They name the source, but no password; a package that is missing is one, too."""

    def fail(text: str) -> str:
        config = pytester.parseconfig("-p", "pytest_gencore.plugin", f"--gencore-store={text}")
        with pytest.raises(pytest.UsageError) as caught:
            resolve_settings(config)
        return str(caught.value)

    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    said = fail("s3://me:hunter2@host/x")
    assert said == (
        "gencore: invalid store: a URL with a user or a password: credentials come from the environment "
        "(from command line --gencore-store)"
    )
    find_spec = importlib.util.find_spec
    missing = {"s3fs", "adlfs", "fsspec"}

    def find(name: str, package: str | None = None) -> Any:
        return None if name in missing else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    extra = "pip install 'pytest-gencore[store]'"
    assert fail("s3://b/x") == f"gencore: a store of kind s3 needs fsspec: {extra}"
    missing.remove("fsspec")
    assert fail("s3://b/x") == f"gencore: a store of kind s3 needs s3fs: {extra}"
    assert fail("az://b/x") == "gencore: a store of kind az needs adlfs: pip install adlfs"
    assert find_upload_command("file:///x")
