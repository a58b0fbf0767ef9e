"""Inner runs of pytest without the plugins that few of them need: half of a run's time was their import."""

from __future__ import annotations

RARE_PLUGINS = ("anyio", "asyncio", "fakefs", "hypothesispytest", "allure_pytest")
"""By the names of their entry points."""
LEAN = tuple(argument for name in RARE_PLUGINS for argument in ("-p", f"no:{name}"))
ALL_PLUGINS = tuple(argument for name in RARE_PLUGINS for argument in ("-p", name))
"""Arguments that take ``LEAN`` back; ``-p NAME`` does so for one."""


def base_arguments(arguments: tuple[str, ...], *, pystack: bool = False) -> list[str]:
    """Return what an inner run begins with: no cache, no rare plugins, no pystack unless asked for."""
    base = ["-p", "no:cacheprovider", *LEAN]
    if "asyncio" in arguments:
        base += ["-o", "asyncio_default_fixture_loop_scope=function"]
    if not pystack and "no:gencore" not in arguments:
        base += ["-p", "without_pystack"]
    return base
