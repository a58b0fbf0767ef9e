"""``gencore check``: whether this machine and user can capture, and if not, why."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pytest_gencore.cli.artifacts import DEFAULT_DIRECTORY
from pytest_gencore.cli.options import examples
from pytest_gencore.cli.output import echo_json
from pytest_gencore.installed import NO_EXTENSION, has_extension
from pytest_gencore.methods import choose_method
from pytest_gencore.systems import METHOD_REASON, find_system, has_cores
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.units import format_size

if TYPE_CHECKING:
    from pytest_gencore.cli.machine import Finding, State
    from pytest_gencore.cli.selftest import SelfTest

_MARKS: Final[dict[State, tuple[str, str]]] = {
    "ok": ("ok", "green"),
    "note": ("note", "yellow"),
    "problem": ("PROBLEM", "red"),
}
"""Before each line, and in which colour."""


@click.command(
    epilog=examples(
        "gencore check",
        "gencore check --selftest build/gencore-artifacts",
        "gencore check --json | jq .can_capture",
    )
)
@click.argument("directory", default=DEFAULT_DIRECTORY, type=click.Path(file_okay=False, path_type=Path))
@click.option("--selftest", is_flag=True, help="Capture a small process, open the archive, remove it.")
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def check(directory: Path, *, selftest: bool, as_json: bool) -> None:
    """Check whether processes of this user can be captured here, with archives in DIRECTORY.

    Says what is in the way. Run it as the tests run: same user, container,
    limits. With --selftest the answer is that of a real capture. Exit status 0 if captures work, 1 if not.
    """
    from pytest_gencore.cli.machine import examine

    findings = list(examine(directory))
    problems = [finding for finding in findings if finding.state == "problem"]
    result: SelfTest | None = None
    if selftest:
        from pytest_gencore.cli.selftest import run_selftest

        result = run_selftest(directory)
    works = result.is_ok if result else not problems
    method, reason = (result.method, result.method_reason) if result and result.is_ok else _predict()
    if as_json:
        echo_json(_describe(findings, result, works=works, method=method, reason=reason))
    else:
        for finding in findings:
            _print(finding)
        if result:
            _print_selftest(result)
        click.echo(escape_unprintable(_verdict(problems, result, works=works, method=method, reason=reason)))
    if not works:
        raise SystemExit(1)


def _predict() -> tuple[str, str]:
    """Return the method that a capture would have, and why."""
    system = find_system()
    if system is None or has_extension() or not has_cores():
        return choose_method("auto")
    return system.method, METHOD_REASON


def _describe(
    findings: list[Finding], result: SelfTest | None, *, works: bool, method: str, reason: str
) -> dict[str, Any]:
    return {
        "can_capture": works,
        "method": method if works else None,
        "method_reason": reason if works else None,
        "findings": [dataclasses.asdict(finding) for finding in findings],
        "selftest": dataclasses.asdict(result) if result else None,
    }


def _print(finding: Finding) -> None:
    _print_line(finding.state, finding.name, finding.value)
    if finding.advice:
        click.echo(escape_unprintable(f"{'':<22}{finding.advice}"))


def _print_selftest(result: SelfTest) -> None:
    if result.is_ok:
        tools = ", ".join(result.opened_with)
        text = f"{result.threads} threads, {format_size(result.size)}, opened with {tools}"
        _print_line("ok", "self-test", text)
    else:
        _print_line("problem", "self-test", result.reason)
    for warning in result.warnings:
        click.echo(escape_unprintable(f"{'':<22}{warning}"))


def _print_line(state: State, name: str, value: str) -> None:
    mark, colour = _MARKS[state]
    click.echo(click.style(f"{mark:<8}", fg=colour) + escape_unprintable(f"{name:<13} {value}"))


def _verdict(
    problems: list[Finding], result: SelfTest | None, *, works: bool, method: str, reason: str
) -> str:
    if works:
        has_core = has_extension() or (result.has_core if result else has_cores())
        how = f"with method {method} ({reason})" if has_core else f"of type text ({NO_EXTENSION})"
        if result:
            return f"captures work: a real one was made {how}"
        return f"nothing found that prevents captures, {how}; --selftest makes one"
    if result:
        return f"captures do not work: {result.reason}"
    return f"captures do not work: {problems[0].name}: {problems[0].value}"
