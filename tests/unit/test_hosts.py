"""What comes from another host: whole or not at all, within the limit, and only what was asked for."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any

import pytest
from sent_files import DATA, DIGEST, LIBRARIES, NAME, make_outcome

from pytest_gencore.errors import ArchiveError
from pytest_gencore.hosts import landing, wire
from pytest_gencore.hosts.arrivals import Arrivals
from pytest_gencore.hosts.budget import Budget
from pytest_gencore.hosts.landing import Landing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[True, False], ids=["without a name", "with a name"])
def _naming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write as on Linux, and as elsewhere."""
    monkeypatch.setattr(landing, "_IS_LINUX", request.param)


@pytest.mark.usefixtures("_naming")
def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / NAME
    file = Landing(path, len(DATA))
    file.add(DATA[:1000])
    file.add(DATA[1000:])
    assert not path.exists()
    file.finish(DIGEST)
    file.close()
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.usefixtures("_naming")
@pytest.mark.parametrize(
    ("size", "digest", "problem"),
    [
        (len(DATA) + 1, DIGEST, f"{len(DATA)} bytes of {len(DATA) + 1}"),
        (len(DATA) - 1, DIGEST, f"{len(DATA)} bytes of {len(DATA) - 1}"),
        (len(DATA), "0" * 64, "the digests differ"),
    ],
    ids=["short", "long", "changed"],
)
def test_what_is_not_what_was_sent_leaves_nothing(
    tmp_path: Path, size: int, digest: str, problem: str
) -> None:
    file = Landing(tmp_path / NAME, size)
    with pytest.raises(ArchiveError, match=problem):
        receive(file, digest)
    file.close()
    assert list(tmp_path.iterdir()) == []


def receive(file: Landing, digest: str) -> None:
    file.add(DATA)
    file.finish(digest)


@pytest.mark.usefixtures("_naming")
def test_no_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("another one")
    file = Landing(tmp_path / NAME, len(DATA))
    with pytest.raises(ArchiveError, match="exists already"):
        receive(file, DIGEST)
    file.close()
    assert (tmp_path / NAME).read_text() == "another one"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def _small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("_small_files")
def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    landed: list[str] = []
    arrivals = Arrivals(tmp_path, Budget(0, lambda: 0), str, landed.append)
    assert arrivals.expect(NAME, len(DATA))
    send(arrivals)
    assert (arrivals.all[NAME].state, arrivals.all[NAME].reason) == ("failed", "File too large")
    assert (landed, list(tmp_path.iterdir())) == ([], [])


def send(arrivals: Arrivals, name: str = NAME) -> None:
    arrivals.begin(name, len(DATA))
    arrivals.add(DATA)
    arrivals.end(DIGEST)


def test_the_size_of_all_archives(tmp_path: Path) -> None:
    landed: list[str] = []
    arrivals = Arrivals(tmp_path, Budget(len(DATA) + 10, lambda: 5), str, landed.append)
    assert arrivals.expect(NAME, len(DATA))
    assert not arrivals.expect(NAME, len(DATA)), "once"
    send(arrivals, LIBRARIES)
    send(arrivals)
    assert not arrivals.expect("core_2.tar.gz", 1000)
    assert landed == [NAME]
    assert "would be larger than" in arrivals.all["core_2.tar.gz"].reason
    (note,) = arrivals.all[NAME].notes
    assert f"{LIBRARIES} did not come: the archives of this run" in note
    assert arrivals.all["core_2.tar.gz"].notes == [note], "it refers to them, too"


def test_what_is_refused_meanwhile_ends_nothing_else(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path, Budget(len(DATA) + 10, lambda: 0), str, lambda _: None)
    arrivals.expect(NAME, len(DATA))
    arrivals.begin(NAME, len(DATA))
    arrivals.expect("core_2.tar.gz", 1000)
    arrivals.miss("core_3.tar.gz", "it is gone", is_there=False)
    arrivals.add(DATA)
    arrivals.end(DIGEST)
    assert {name: arrival.state for name, arrival in arrivals.all.items()} == {
        NAME: "landed",
        "core_2.tar.gz": "failed",
    }


@pytest.mark.parametrize("name", [NAME, NAME.replace(".tar.gz", ".html"), NAME.replace(".tar.gz", ".txt")])
def test_what_nobody_has_asked_for_is_not_written(tmp_path: Path, name: str) -> None:
    arrivals = Arrivals(tmp_path / "home", Budget(0, lambda: 0), str, lambda _: None)
    send(arrivals, name)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_has_the_size_that_was_said(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path / "home", Budget(0, lambda: 0), str, lambda _: None)
    arrivals.expect(NAME, 10)
    send(arrivals)
    assert arrivals.all[NAME].reason == f"it has {len(DATA)} bytes, and not 10"
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_nobody_knew_counts(tmp_path: Path) -> None:
    budget = Budget(len(DATA) + 10, lambda: 0)
    arrivals = Arrivals(tmp_path, budget, str, lambda _: None)
    arrivals.expect(NAME, 0)
    send(arrivals)
    assert arrivals.all[NAME].state == "landed"
    assert budget.take(11)


def test_two_hosts_have_archives_of_one_name(tmp_path: Path) -> None:
    """Their processes may have equal ids: what lies beside an archive has its name."""
    budget = Budget(0, lambda: 0)
    text = NAME.replace(".tar.gz", ".txt")
    for _ in range(2):
        here = budget.choose_name(NAME)
        arrivals = Arrivals(tmp_path, budget, {NAME: here}.__getitem__, lambda _: None)
        arrivals.expect(NAME, len(DATA))
        send(arrivals, text)
        send(arrivals)
        assert (arrivals.all[NAME].state, arrivals.all[NAME].notes) == ("landed", [])
    second = NAME.replace(".001.", ".1001.")
    assert {path.name for path in tmp_path.iterdir()} == {
        NAME,
        text,
        second,
        second.replace(".tar.gz", ".txt"),
    }


@pytest.mark.parametrize("name", ["../core_x.tar.gz", "core_/x.tar.gz", ".bashrc", "core_x.tar.gz\n", "", 5])
def test_names_that_are_none(tmp_path: Path, name: Any) -> None:
    arrivals = Arrivals(tmp_path / "home", Budget(0, lambda: 0), str, lambda _: None)
    send(arrivals, name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r".*"):
        wire.decode({"archive": name}, tmp_path)


def test_an_outcome_passes(tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    outcome = make_outcome(there, answer="two\nlines", signal=11)
    assert wire.decode(wire.encode(outcome), here) == outcome._replace(archive=here / NAME)
    assert wire.encode(outcome._replace(nodeid="\udcff"))["nodeid"] == "\\udcff", (
        "execnet sends no surrogates"
    )
    hostile = wire.encode(outcome._replace(reason="\x1b[2J"))
    assert "\x1b" not in wire.decode(hostile, here).reason
