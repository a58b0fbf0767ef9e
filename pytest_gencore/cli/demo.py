"""``gencore demo``: a test that hangs, one that crashes, one that fails, and what is captured of them."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from pytest_gencore.cli.artifacts import DEFAULT_DIRECTORY, find_archives
from pytest_gencore.cli.listing import list_archives
from pytest_gencore.cli.options import examples
from pytest_gencore.cli.report import report
from pytest_gencore.texts import escape_unprintable
from pytest_gencore.units import format_duration

_CONFIGURATION: Final = """\
[pytest]
addopts = -p gencore -p no:cacheprovider -p no:faulthandler --quiet --no-header --tb=short
gencore_exit_on_timeout = true
"""
"""A root of its own: no other configuration is read, and no conftest.py above it."""
_HANG: Final = '''\
"""Two threads that each wait for the other's lock."""

import threading

accounts, ledger = threading.Lock(), threading.Lock()
both_hold_one = threading.Barrier(2)


def pay():
    with accounts:
        both_hold_one.wait()
        with ledger:
            pass


def refund():
    with ledger:
        both_hold_one.wait()
        with accounts:
            pass


def test_hang():
    threading.Thread(target=refund, name="refund", daemon=True).start()
    pay()
'''
_CRASH: Final = '''\
"""C code that is given a wrong address."""

import ctypes


def read_name(address):
    return ctypes.string_at(address)


def test_crash():
    assert read_name(8) == b"orders"
'''
_FAIL: Final = '''\
"""An assertion that fails while another thread waits."""

import queue
import threading


def consume(orders):
    orders.get()


def test_fail():
    threading.Thread(target=consume, args=(queue.Queue(),), name="consumer", daemon=True).start()
    prices = [19, 23, 42]
    assert sum(prices) == 85
'''
_FILES: Final = {"test_hang.py": _HANG, "test_crash.py": _CRASH, "test_fail.py": _FAIL}
_COMMAND: Final = ("pytest", "--gencore-on-fail", "--gencore-timeout=2")
_DISPLAYS: Final = ("DISPLAY", "WAYLAND_DISPLAY")
_SECONDS: Final = 300
"""For each; a machine without load needs three."""


@click.command(epilog=examples("gencore demo"))
def demo() -> None:
    """Capture a test that hangs, one that crashes and one that fails, in a new temporary folder.

    Shows what the log says, lists the archives and, with the extra html, opens a page about them in the
    browser of a desktop. The folder stays, with about 100 MiB, and is named at the end; TMPDIR says where it
    is made. No configuration or plugin of your own is used. Exit status 0 if all three were captured, 1 if
    not.
    """
    from pytest_gencore.cli.machine import examine

    problem = next(
        (found for found in examine(Path(tempfile.gettempdir())) if found.state == "problem"), None
    )
    if problem is not None:
        message = f"this machine cannot capture: {problem.name}: {problem.value}; see gencore check"
        raise click.ClickException(escape_unprintable(message))
    folder = Path(tempfile.mkdtemp(prefix="gencore-demo-"))
    archives = folder / DEFAULT_DIRECTORY
    (folder / "pytest.ini").write_text(_CONFIGURATION)
    for number, (name, source) in enumerate(_FILES.items(), start=1):
        (folder / name).write_text(source)
        _say(f"$ {' '.join((*_COMMAND, name))}")
        _run((*_COMMAND, name), folder)
        if len(find_archives(archives)) < number:
            message = f"{folder / name} was not captured; ask this machine: gencore check --selftest"
            raise click.ClickException(message)
    paths = [file.path for file in find_archives(archives)]
    context = click.get_current_context()
    _say(f"$ gencore list {archives}")
    context.invoke(list_archives, directory=archives, as_json=False)
    if importlib.util.find_spec("jinja2") is not None:  # the extra html
        page = folder / "captures.html"
        _say(f"$ gencore report -o {page} {archives}/*.tar.gz")
        context.invoke(report, archives=tuple(paths), output=page)
        _open(page)
    _tell_what_next(folder, paths[0])


def _run(command: tuple[str, ...], folder: Path) -> None:
    """Run a module of this Python on this terminal, without the user's settings of pytest."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,  # what a dying process says is a result here
        cwd=folder,
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        start_new_session=True,
    ) as process:
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired as error:
            message = f"{command[0]} was not finished after {format_duration(_SECONDS)}, in {folder}"
            raise click.ClickException(message) from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _open(page: Path) -> None:
    """Show a page in the browser of whoever sits before this machine, if somebody does."""
    if sys.stdout.isatty() and any(map(os.environ.get, _DISPLAYS)):
        click.launch(str(page))


def _tell_what_next(folder: Path, archive: Path) -> None:
    _say("Look into the first one, here or on another machine:")
    for subcommand in ("show", "stacks", "debug"):
        click.echo(shlex.join(("gencore", subcommand, str(archive))))
    _say("Remove all of it:")
    click.echo(shlex.join(("rm", "-r", str(folder))))


def _say(line: str) -> None:
    click.secho(f"\n{line}", bold=True)
