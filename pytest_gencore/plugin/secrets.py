"""What keeps secrets from readers: values to overwrite, and for whom archives are sealed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pytest_gencore.redaction.secrets import HOOK, is_secret
from pytest_gencore.request.context import NO_SECRETS, GivenSecrets, Protection, Redaction

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from pytest_gencore.plugin.settings import Settings


class GivenByUser:
    """What the settings ask for, and the values that collectors cannot find in the captured process.

    Those are of variables that tests may change or remove, and what the hook returns.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        """Read the environment, while it is as it was."""
        self._config = config
        more, kept = settings.redact_env, settings.keep_env
        self._is_on = settings.redact
        self.protection = Protection(
            redaction=Redaction(more=more, kept=kept) if settings.redact else None,
            recipients=settings.recipient,
        )
        self._values: dict[str, list[str]] = {}
        if settings.redact:
            self._values = {
                name: [value] for name, value in os.environ.items() if is_secret(name, value, more, kept)
            }

    def find(self) -> GivenSecrets:
        """Ask the hook again: secrets change. What it has returned before counts, too."""
        if not self._is_on:
            return NO_SECRETS
        try:
            answers: list[Iterable[str | bytes]] = self._config.hook.pytest_gencore_secrets(
                config=self._config
            )
            values = [_decode(value) for answer in answers for value in answer]
        except Exception as error:  # noqa: BLE001 - the capture is made, and says so
            return GivenSecrets(self._values, f"{HOOK} raised {type(error).__name__}")
        if values:
            self._values[HOOK] = sorted({*self._values.get(HOOK, ()), *values})
        return GivenSecrets(self._values)


def _decode(value: str | bytes) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
