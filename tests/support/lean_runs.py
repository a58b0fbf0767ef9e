"""Inner runs of pytest without the plugins that few of them need: half of a run's time was their import."""

from __future__ import annotations

RARE_PLUGINS = (
    "anyio",
    "asyncio",
    "fakefs",
    "hypothesispytest",
    "allure_pytest",
    "html",
    "metadata",
    "html_fixtures",
    "pytest_reportlog",
)
"""By the names of their entry points."""
LEAN = tuple(argument for name in RARE_PLUGINS for argument in ("-p", f"no:{name}"))
ALL_PLUGINS = tuple(argument for name in RARE_PLUGINS for argument in ("-p", name))
"""Arguments that take ``LEAN`` back; ``-p NAME`` does so for one."""


WITH_LIBRARIES = "--gencore-libraries=each"
"""For archives whose core gdb opens by itself; ``gencore`` finds here what others only name."""


def base_arguments(arguments: tuple[str, ...], *, pystack: bool = False) -> list[str]:
    """Return what an inner run begins with: no cache, no rare plugins, no pystack unless asked for.

    And no libraries in archives, on which a collector spends most of its time: ``WITH_LIBRARIES`` takes that
    back. Not where nothing of ours is asked for: a run without us imports less.
    """
    base = ["-p", "no:cacheprovider", *LEAN]
    if "--gencore-on-fail" in arguments:
        base += ["-o", "gencore_libraries=none"]
    if "asyncio" in arguments:
        base += ["-o", "asyncio_default_fixture_loop_scope=function"]
    if not pystack and "no:gencore" not in arguments:
        base += ["-p", "without_pystack"]
    return base
