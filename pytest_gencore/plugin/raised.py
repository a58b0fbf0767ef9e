"""An exception that was captured when it was raised: know it again in a failure, without keeping it.

The objects of its frames would live longer, and a test can notice that. So it is known by its address, until
another one is raised that has the same.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gencore.capture import Capture

_FIELDS: Final = vars(BaseException)
_get_traceback: Final = _FIELDS["__traceback__"].__get__
_get_cause: Final = _FIELDS["__cause__"].__get__
_get_context: Final = _FIELDS["__context__"].__get__
_hides_context: Final = _FIELDS["__suppress_context__"].__get__
"""Past what a class of the project has put in their place."""
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())


class Raised:
    """The exception that was captured."""

    def __init__(self, error: BaseException) -> None:
        self.address = id(error)
        self.is_gone = False
        """Whether another one was raised that has the same address."""
        self.capture: Capture | None = None
        self._origin = find_origin(error)

    def is_in(self, failure: BaseException) -> bool:
        """Return whether a failure is this exception, or shows it in its traceback."""
        return not self.is_gone and any(
            id(error) == self.address and find_origin(error) == self._origin for error in iter_chain(failure)
        )


def find_origin(error: BaseException) -> tuple[int, int] | None:
    """Return by which instruction it was raised, None if it was not."""
    entry = _get_traceback(error)
    while entry is not None and entry.tb_next is not None:
        entry = entry.tb_next
    return None if entry is None else (id(entry.tb_frame.f_code), entry.tb_lasti)


def iter_chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and those that its traceback shows: its causes, and what a group holds."""
    rest, seen = [error], set()
    while rest:
        error = rest.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        context = None if _hides_context(error) else _get_context(error)
        rest += [other for other in (_get_cause(error), context) if other is not None]
        if isinstance(error, _GROUP):
            rest += vars(_GROUP)["exceptions"].__get__(error)


def is_new(error: BaseException) -> bool:
    """Return whether an exception that is being raised has not left a frame yet."""
    return bool(_get_traceback(error).tb_next is None)
