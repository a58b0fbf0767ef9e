"""Attach archives in the junit file that pytest has written.

Done on the finished file, because pytest has no interface for it (pytest issue 11470): ``system-out`` is
written only if ``junit_logging`` says so, and some consumers understand only one of them in a test case.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from pytest_gencore.junit import PROPERTY, URL_PROPERTY
from pytest_gencore.junit.common import escape, make_tag, replace_file, shown_path
from pytest_gencore.run.files import find_size, page_beside

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

IN_TEXT = re.compile(r"^gencore: core archive: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A test that ran when the run was cancelled: pytest does not tell of it."""

    classname: str
    name: str
    summary: str
    text: str
    archive: Path | None


@dataclass(frozen=True, slots=True)
class Archives:
    """What became of the archives of a run, by file name, which is unique."""

    finished: Mapping[str, Path]
    failed: frozenset[str]
    answers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the log says about each: trigger and stacks."""
    cancelled: Sequence[Cancelled] = ()
    urls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Where they are in the store."""
    not_uploaded: frozenset[str] = frozenset()


def find_junit_path(option: str | None) -> Path | None:
    """Return where ``--junitxml`` writes; call it before a test changes the directory."""
    if not option:
        return None
    return Path(os.path.abspath(os.path.expanduser(os.path.expandvars(option))))  # noqa: PTH100, PTH111


def attach_to_junit(path: Path, archives: Archives, environ: Mapping[str, str]) -> list[str]:
    """Attach finished archives to their test cases; of failed ones say why, and remove the properties.

    Returns what was left out and why. An error (``OSError``, ``ParseError``) leaves the file alone.
    """
    path = Path(os.path.realpath(path))
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return [f"junit: {path} is not a regular file: no attachments in it"]
    root = ET.parse(path).getroot()  # noqa: S314 - pytest wrote it in this run
    problems: list[str] = []
    suite = root.find("testsuite")
    changed = False
    for cancelled in archives.cancelled if suite is not None else ():
        if suite is not None and not has_case(suite, cancelled):
            changed = True
            add_cancelled(suite, cancelled, archives.urls)
    for case in root.iter("testcase"):
        changed |= attach_to_case(case, archives, path, environ, problems)
    if changed:
        head = '<?xml version="1.0" encoding="utf-8"?>'
        replace_file(path, (head, ET.tostring(root, encoding="unicode")))
    return list(dict.fromkeys(problems))


def has_case(suite: ET.Element, cancelled: Cancelled) -> bool:
    """Return whether pytest tells of the test: it has taken the signal, and come to its end."""
    names = {"classname": escape(cancelled.classname), "name": escape(cancelled.name)}
    return any(names.items() <= case.attrib.items() for case in suite.iter("testcase"))


def add_cancelled(suite: ET.Element, cancelled: Cancelled, urls: Mapping[str, str]) -> None:
    """Add a test as an error, with what is known of it.

    pytest counts only tests that ended; of one whose setup ended it writes a test case without a name.
    """
    case = next((case for case in suite.iter("testcase") if "name" not in case.attrib), None)
    if case is None:
        case = ET.SubElement(suite, "testcase", {"time": "0.000"})
    case.attrib.update(classname=escape(cancelled.classname), name=escape(cancelled.name))
    for number in ("tests", "errors"):
        suite.set(number, str(int(suite.get(number, "0")) + 1))
    if cancelled.archive is not None:
        properties = ET.Element("properties")
        ET.SubElement(properties, "property", name=PROPERTY, value=escape(str(cancelled.archive)))
        url = urls.get(cancelled.archive.name)
        if url:
            ET.SubElement(properties, "property", name=URL_PROPERTY, value=escape(url))
        case.insert(0, properties)
    error = ET.SubElement(case, "error", {"message": escape(cancelled.summary)})
    error.text = escape(cancelled.text)


def attach_to_case(
    case: ET.Element,
    archives: Archives,
    junit_path: Path,
    environ: Mapping[str, str],
    problems: list[str],
) -> bool:
    """Attach to one test case; returns whether it was changed."""
    removed = remove_failed(case, PROPERTY, archives.failed)
    without_url = remove_failed(case, URL_PROPERTY, archives.not_uploaded)
    add_missing_properties(case, archives)
    tags = [escape(archives.answers[name]) + "\n" for name in removed if name in archives.answers]
    for value in iter_archives(case):
        archive = archives.finished.get(PurePath(value).name)
        if archive is None:
            continue
        answer = archives.answers.get(archive.name, "")
        if answer and answer not in read_failure(case):
            tags.append(escape(answer.rstrip("\n")) + "\n")
        base = find_shown_base(junit_path, environ)
        tag = make_tag(archive, base)
        if tag is None:
            shown = shown_path(archive, base)
            problems.append(f"junit: not attached, because of the characters in the path: {shown!r}")
            continue
        tags.append(tag)  # the first: GitLab shows one
        page = page_beside(archive)
        if find_size(page) is not None:
            tags.append(make_tag(page, base) or "")
    if tags:
        append_output(case, "".join(dict.fromkeys(tags)))
    return bool(removed or without_url or tags)


def iter_archives(case: ET.Element) -> Iterator[str]:
    """Yield the archives that a test case names."""
    for entry in case.iterfind("properties/property"):
        if entry.get("name") == PROPERTY:
            yield entry.get("value", "")


def read_failure(case: ET.Element) -> str:
    """Return the texts of what went wrong in a test case."""
    return "\n".join(entry.text or "" for tag in ("failure", "error") for entry in case.iterfind(tag))


def add_missing_properties(case: ET.Element, archives: Archives) -> None:
    """Give the report of a crashed worker its properties: pytest writes none, only the text."""
    known = set(iter_archives(case))
    for path in IN_TEXT.findall(read_failure(case)):
        if path in known or PurePath(path).name not in archives.finished:
            continue
        properties = case.find("properties")
        if properties is None:
            properties = ET.Element("properties")
            case.insert(0, properties)
        ET.SubElement(properties, "property", name=PROPERTY, value=path)
        url = archives.urls.get(PurePath(path).name)
        if url:
            ET.SubElement(properties, "property", name=URL_PROPERTY, value=url)
        known.add(path)


def remove_failed(case: ET.Element, kind: str, failed: frozenset[str]) -> list[str]:
    """Remove the properties of one kind about archives that are not there; return the names of these."""
    removed = []
    for properties in case.findall("properties"):
        for entry in list(properties):
            name = PurePath(entry.get("value", "")).name
            if entry.get("name") == kind and name in failed:
                properties.remove(entry)
                removed.append(name)
        if removed and len(properties) == 0:
            case.remove(properties)
    return removed


def append_output(case: ET.Element, text: str) -> None:
    """Append to the one ``system-out`` of a test case, made if there is none.

    Several become one: GitLab fails on two, Azure reads only the first. Jenkins keeps the end of a long one.
    """
    outputs = case.findall("system-out")
    if outputs:
        output = outputs[0]
        for other in outputs[1:]:
            output.text = join_text(output.text or "", other.text or "")
            case.remove(other)
    else:
        output = ET.SubElement(case, "system-out")
    output.text = join_text(output.text or "", text)


def join_text(first: str, second: str) -> str:
    """Return both texts, the second one at the start of a line."""
    return f"{first}\n{second}" if first and not first.endswith("\n") else first + second


def find_shown_base(junit_path: Path, environ: Mapping[str, str]) -> str | None:
    """Return what the consumer of the file takes paths to be relative to, None for absolute ones."""
    if environ.get("GITLAB_CI"):
        return environ.get("CI_PROJECT_DIR") or None
    return str(junit_path.parent) if environ.get("TF_BUILD") else None
