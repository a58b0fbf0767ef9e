"""What is written for CI systems follows their documented grammar, whatever the texts are."""

from __future__ import annotations

from pathlib import Path

import pytest
from ci_grammar import read_azure, read_github, read_page, read_teamcity
from hypothesis import given
from hypothesis import strategies as st

from pytest_gencore.ci import lines, page
from pytest_gencore.ci.captures import Capture
from pytest_gencore.ci.systems import VARIABLES, Target, find_target, parse_ci
from pytest_gencore.texts import escape_unprintable

HOSTILE = (
    "<script>alert(1)</script></pre></details></table>",
    "a|b\\|c `tick` ```",
    "\x1b[31mred\x1b[0m \u202egnp.exe",
    "\n::error::x\r\n\n# heading\n\n- item",
    "##vso[task.complete result=Failed;]x",
    "##teamcity[buildProblem description='x']",
    "%0A%25%AZP25%3B 100 %",
    "'|[]; a=b, c:d",
    "@user #1 https://example.org &amp; &lt;",
    "\udcff \U0001f600 \x00",
)
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40))


def make_capture(text: str, **facts: object) -> Capture:
    usual: dict[str, object] = {
        "test": escape_unprintable(text),
        "trigger": "failure",
        "verdict": escape_unprintable(text),
        "answer": escape_unprintable(f"{text}\n\n{text}", keep="\n"),
        "archive": Path("/a/core_1.tar.gz"),
        "state": "done",
        "size_bytes": 2048,
        "reason": escape_unprintable(text),
    }
    return Capture(**{**usual, **facts})  # type: ignore[arg-type]


@given(TEXTS)
def test_github_commands(text: str) -> None:
    line = lines.make_notice(text)
    assert "\n" not in line
    assert read_github(line) == ("notice", {"title": lines.TITLE}, text)
    assert read_github(f"::notice title={lines.escape_github_property(text)}::") == (
        "notice",
        {"title": text},
        "",
    )


@given(TEXTS)
def test_azure_commands(text: str) -> None:
    path = Path("/a") / text.replace("\0", "")
    assert read_azure(lines.make_azure_summary(path)) == ("task.uploadsummary", {}, str(path))
    name, properties, message = read_azure(lines.make_azure_upload(path))
    assert (name, message) == ("artifact.upload", str(path))
    assert properties == {"containerfolder": "gencore", "artifactname": "gencore"}
    assert read_azure(f"##vso[a.b x={lines.escape_azure_property(text)};]") == ("a.b", {"x": text}, "")


@given(TEXTS)
def test_teamcity_messages(text: str) -> None:
    capture = make_capture(text)
    messages = [read_teamcity(line) for line in lines.make_teamcity_block(capture, "/")]
    assert [name for name, _ in messages] == ["message", "blockOpened", "message", "blockClosed"]
    assert messages[0][1]["status"] == "WARNING"
    assert messages[2][1] == {"text": capture.answer, "status": "NORMAL"}
    assert messages[1] == ("blockOpened", messages[3][1])


def test_teamcity_publishes_only_what_it_can_name() -> None:
    line = lines.make_teamcity_upload(Path("/a/it's [1].tar.gz"))
    assert read_teamcity(line) == ("publishArtifacts", {"": "/a/it's [1].tar.gz => gencore"})
    for name in ("a,b", "a*", "a=>b", "a\nb"):
        assert lines.make_teamcity_upload(Path("/a") / name) == ""


@given(TEXTS)
def test_page(text: str) -> None:
    capture = make_capture(text)
    shown = page.make_page([capture, capture], "/a", 1 << 20)
    texts = read_page(shown)
    cells = texts["td"]
    assert cells[:4] == cells[4:]
    assert cells[0] == cells[1] == capture.test
    assert cells[2] == f"core_1.tar.gz, {capture.describe_archive()}"
    assert cells[3] == "gencore debug core_1.tar.gz"
    blank = [line if line.strip() else " " for line in capture.answer.split("\n")]
    assert texts["pre"] == ["\n".join(blank)] * 2
    assert not any(not (character.isprintable() or character == "\n") for character in shown)


def test_page_has_a_limit() -> None:
    captures = [make_capture("x", answer="long line\n" * 3000) for _ in range(9)]
    text = page.make_page(captures, "/", 100_000)
    assert len(text.encode()) < 100_000
    texts = read_page(text)
    assert len(texts["tr"]) == 10
    assert 0 < len(texts["details"]) < 9
    cut = page.make_details(make_capture("x", answer="y" * 100), limit=50)
    assert "\n... cut: the rest is in the text beside the archive" in cut


def test_page_names_what_is_beside(tmp_path: Path) -> None:
    capture = make_capture("x", archive=tmp_path / "core_1.tar.gz")
    assert "html" not in page.make_cell(capture, "/")
    (tmp_path / "core_1.html").touch()
    assert page.make_cell(capture, "/").endswith("as a page: <code>core_1.html</code>")


def test_commands_to_open() -> None:
    assert make_capture("x", archive=Path("/a/core 1.tar.gz")).command == "gencore debug 'core 1.tar.gz'"
    sealed = make_capture("x", is_sealed=True)
    assert sealed.command == "gencore debug --identity FILE core_1.tar.gz"
    assert make_capture("x", archive=Path("/a/core_1")).command == ""


@pytest.mark.parametrize(
    ("option", "environ", "expected"),
    [
        ("auto", {}, None),
        ("none", {"GITHUB_ACTIONS": "true"}, None),
        ("auto", {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "/s"}, ("github", "/s")),
        ("github", {}, ("github", "")),
        ("auto", {"TF_BUILD": "True", "AGENT_TEMPDIRECTORY": "/t"}, ("azure", "/t")),
        ("auto", {"TF_BUILD": "True"}, ("azure", "")),
        ("auto", {"TEAMCITY_VERSION": "2025.11"}, ("teamcity", "")),
        ("auto", {"BUILDKITE": "true", "PATH": "/nowhere"}, ("buildkite", "")),
        ("auto", {"TF_BUILD": ""}, None),
        *(("auto", {VARIABLES[name]: "x"}, None) for name in ("gitlab", "jenkins", "circleci", "bazel")),
    ],
)
def test_targets(option: str, environ: dict[str, str], expected: tuple[str, str] | None) -> None:
    assert find_target(option, environ, "/base") == (expected and Target(*expected, "/base"))


def test_names_of_systems() -> None:
    names = ("auto", "none", *VARIABLES)
    assert [parse_ci(name) for name in names] == [*names]
    with pytest.raises(ValueError, match=", ".join(names[:-1]) + f" or {names[-1]}$"):
        parse_ci("travis")
