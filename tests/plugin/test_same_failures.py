"""A failure reads the same with the plugin armed and without it: no frame of ours, byte for byte."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from lean_runs import ALL_PLUGINS

if TYPE_CHECKING:
    from sample_runs import RunGencore

PLAIN = """
    import pytest
    @pytest.fixture
    def broken(): raise RuntimeError("in setup")
    @pytest.fixture(scope="module")
    def broken_module(): raise RuntimeError("in the setup of the module")
    @pytest.fixture
    def broken_end():
        yield
        raise RuntimeError("in teardown")
    @pytest.fixture
    def late(request): request.getfixturevalue("broken_module")
    def helper(value):
        local = [value]
        raise ValueError(local)
    def test_assert(): assert [1, 2] == [1, 3]
    def test_helper(): helper("x")
    def test_chained():
        try:
            helper("y")
        except ValueError as error:
            raise KeyError("z") from error
    def test_fail(): pytest.fail("on purpose")
    def test_exit(): raise SystemExit(3)
    def test_setup(broken): pass
    def test_setup_of_conftest(broken_in_conftest): pass
    def test_setup_of_module(broken_module): pass
    def test_setup_asked_for_late(late): pass
    def test_teardown(broken_end): pass
    def test_both(broken_end): assert 0
    @pytest.mark.xfail(strict=True)
    def test_strict(): pass
    @pytest.mark.timeout(60)
    def test_timeout(): assert 0
"""
WRAPPERS = """
    import pytest
    def fail_in(hook, style, item):
        if item.name == f"test_{style}_{hook}":
            raise RuntimeError(f"{style} wrapper of {hook}")
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(item):
        result = yield
        fail_in("setup", "new", item)
        return result
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(item):
        try:
            return (yield)
        finally:
            fail_in("call", "new", item)
    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_teardown(item):
        outcome = yield
        if item.name == "test_old_teardown":
            outcome.force_exception(RuntimeError("old wrapper of teardown"))
    @pytest.hookimpl(hookwrapper=True)
    def pytest_pyfunc_call(pyfuncitem):
        outcome = yield
        if pyfuncitem.name == "test_old_pyfunc":
            outcome.force_exception(RuntimeError("old wrapper of pyfunc"))
    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(fixturedef):
        result = yield
        if fixturedef.argname == "disliked":
            raise RuntimeError("new wrapper of the fixture")
        return result
    @pytest.fixture
    def disliked(): pass
"""
WRAPPED = """
    def test_new_setup(): pass
    def test_new_call(): pass
    def test_old_teardown(): pass
    def test_old_pyfunc(): pass
    def test_fixture(disliked): pass
    def test_both(): assert 0
"""
UNITTEST = """
    import unittest
    class Tests(unittest.TestCase):
        def tearDown(self):
            if "teardown" in self._testMethodName:
                raise OSError("in tearDown")
        def test_equal(self): self.assertEqual({"a": 1}, {"a": 2})
        def test_teardown(self): pass
        def test_subtests(self):
            for number in range(2):
                with self.subTest(number=number):
                    self.assertEqual(number, 5)
    class BrokenClass(unittest.TestCase):
        @classmethod
        def setUpClass(cls): raise OSError("in setUpClass")
        def test_one(self): pass
    class BrokenSetup(unittest.TestCase):
        def setUp(self): raise OSError("in setUp")
        def test_one(self): pass
"""
ASYNC = """
    import asyncio, pytest, pytest_asyncio
    async def deeper():
        await asyncio.sleep(0)
        raise ValueError("async")
    @pytest_asyncio.fixture
    async def broken(): await deeper()
    @pytest.mark.asyncio
    async def test_async(): await deeper()
    @pytest.mark.asyncio
    async def test_async_fixture(broken): pass
"""
CONFTEST = """
    import json, pytest
    texts = {}
    @pytest.fixture
    def broken_in_conftest(): raise RuntimeError("in setup, in conftest")
    def pytest_runtest_logreport(report):
        if report.longrepr is not None:
            sections = [section for section in report.sections if section[0] != "gencore"]
            start = f"{report.nodeid} {report.when}"
            key = f"{start} {sum(known.startswith(start) for known in texts)}"  # subtests share their nodeid
            texts[key] = [report.longreprtext, sections]
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(session):
        if not hasattr(session.config, "workerinput"):
            with open("texts.json", "w") as file:
                json.dump(texts, file)
"""
FAILURES = 28
ARMED = ("--gencore-on-fail", "--gencore-timeout=60", "--gencore-max-cores=1")
STYLES = {
    "auto": (),
    "long": ("--tb=long",),
    "short": ("--tb=short",),
    "native": ("--tb=native",),
    "locals": ("--showlocals", "--tb=long"),
    "full": ("--full-trace",),
    "xdist": ("-n2", "--dist=loadfile"),  # else which test asks first for a fixture of the module is chance
}


@pytest.mark.slow(rows=1)
@pytest.mark.parametrize("style", list(STYLES))
def test_failures_are_the_same(pytester: pytest.Pytester, run_gencore: RunGencore, style: str) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(**{"plain/test_plain": PLAIN, "unit/test_unit": UNITTEST, "async_/test_async": ASYNC})
    pytester.makepyfile(**{"wrapped/conftest": WRAPPERS, "wrapped/test_wrapped": WRAPPED})

    plugins = ALL_PLUGINS if style == "auto" else ("-p", "anyio", "-p", "asyncio")
    options = (*STYLES[style], *plugins, "-oasyncio_mode=strict")
    found: dict[str, dict[str, list[Any]]] = {}
    summaries = {}
    for name, arguments in {"without": ("-p", "no:gencore"), "armed": ARMED}.items():
        result = run_gencore(*options, *arguments, fake="")
        texts = json.loads((pytester.path / "texts.json").read_text())
        found[name] = {key: [normalize(text), sections] for key, (text, sections) in texts.items()}
        summaries[name] = read_summary(result)
        assert ("no core archive" in result.stdout.str()) == (name == "armed"), "it was really armed"

    armed, without = found["armed"], found["without"]
    assert len(armed) == FAILURES
    for key, text in armed.items():
        assert text == without[key], describe_difference(text, without[key])
        assert "pytest_gencore" not in str(text)
    assert armed.keys() == without.keys()
    assert summaries["armed"] == summaries["without"]


def describe_difference(armed: list[Any], without: list[Any]) -> str:
    """Return the lines that differ."""
    lines = difflib.unified_diff(without[0].splitlines(), armed[0].splitlines(), "without", "armed", n=1)
    return "\n".join(lines)


def normalize(text: str) -> str:
    """Leave out what differs from run to run, and pluggy's list of all plugins.

    pytest shows that as an argument where it shows frames of pluggy: with ``--full-trace``, and if there
    are no others.
    """
    text = re.sub(r"\b0x[0-9a-f]+", "0x0", text)
    text = re.sub(r"\b(time|perf_count)=[\d.]+", r"\1=0", text)
    text = re.sub(r"^\[gw\d+\]", "[gw0]", text)
    return re.sub(r"^(methods|hook_impls) += \[.*$", r"\1 = []", text, flags=re.MULTILINE)


def read_summary(result: pytest.RunResult) -> list[str]:
    """Return the lines of the short summary, without times."""
    return sorted(line for line in result.outlines if line.startswith(("FAILED ", "ERROR ", "SUBFAILED")))
