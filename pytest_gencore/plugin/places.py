"""Words for where a run is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gencore.request import model
from pytest_gencore.request.context import encode_place

if TYPE_CHECKING:
    import pytest

    from pytest_gencore.protocol import Phase

SESSION_START, SESSION_END, BETWEEN_TESTS, CONTROLLER = (
    encode_place(None, place)
    for place in ("session start", model.SESSION_END, model.BETWEEN_TESTS, "controller of pytest-xdist")
)
AFTER_SESSION, IN_ATEXIT, INTERPRETER_END = (
    encode_place(None, place)
    for place in (
        model.AFTER_SESSION,
        f"{model.AFTER_SESSION}, in atexit functions",
        f"{model.AFTER_SESSION}, while the interpreter ends",
    )
)
COLLECTION = encode_place(None, "collection")


def collection_of(nodeid: str) -> str:
    """Return the place where a collector is collected; empty: that of the session."""
    return encode_place(None, f"collection of {nodeid}") if nodeid else COLLECTION


class WideFixture:
    """The place while fixtures are set up or torn down that are not made for the running test alone."""

    def __init__(self, native: Any) -> None:
        self._set_test = native.set_test
        self._set_phase = native.set_test_phase
        self.is_inside = False
        self._fixture: pytest.FixtureDef[Any] | None = None

    def is_in_setup(self) -> bool:
        """Return whether the fixture that is named is not set up yet: another one may be a part of it.

        Nothing tells when that ends, so it would be named while the first one goes on.
        """
        return self.is_inside and self._fixture is not None and self._fixture.cached_result is None

    def enter(
        self,
        nodeid: str | None,
        place: str,
        phase: Phase,
        attempt: int,
        fixture: pytest.FixtureDef[Any] | None = None,
    ) -> None:
        """Name the fixture beside the test that waits for it; ``fixture``: it is set up now."""
        self.is_inside = True
        self._fixture = fixture
        self._set_test(encode_place(nodeid, place))
        self._set_phase(phase, attempt)

    def leave(self, nodeid: str | None, phase: Phase, attempt: int) -> None:
        """Name the test alone again."""
        if self.is_inside:
            self.is_inside = False
            self._set_test(encode_place(nodeid))
            self._set_phase(phase, attempt)


def describe_fixture(fixturedef: pytest.FixtureDef[Any], root: Path) -> str:
    """Return ``session fixture 'db' of conftest.py:3``; the place only if it is below ``root``."""
    text = f"{fixturedef.scope} fixture {fixturedef.argname!r}"
    code = getattr(fixturedef.func, "__code__", None)
    if code is None:
        return text
    try:
        path = Path(code.co_filename).relative_to(root)
    except ValueError:
        return text
    return f"{text} of {path}:{code.co_firstlineno}"
