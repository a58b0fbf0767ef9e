"""Sizes and durations: one grammar and one format, for the plugin's options and those of ``gencore``."""

from __future__ import annotations

import click
import pytest

from pytest_gencore import units
from pytest_gencore.cli import values as cli_values
from pytest_gencore.plugin import values as plugin_values

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4Gi", 4 * GIB),
        ("4gib", 4 * GIB),
        ("4GiB", 4 * GIB),
        ("4g", 4 * GIB),
        ("4G", 4 * GIB),
        ("4kb", 4000),
        ("4kB", 4000),
        ("4mb", 4_000_000),
        ("4b", 4),
        ("1.5 GiB", GIB * 3 // 2),
        (" 1000000 ", 1_000_000),
        ("2TiB", 2 << 40),
        ("1TB", 10**12),
    ],
)
def test_one_grammar_of_sizes(text: str, size: int) -> None:
    assert plugin_values.parse_size(text) == size
    assert cli_values.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "4x", "-4", "4 4", "4GiBi", "1e9", "4,5GiB", "٤"])
def test_no_size(text: str) -> None:
    for parse, error in ((plugin_values.parse_size, ValueError), (cli_values.parse_size, click.BadParameter)):
        with pytest.raises(error, match="expected a size such as 4GiB, 500MB or 1000000"):
            parse(text)


def test_zero_is_a_size_but_no_limit() -> None:
    assert cli_values.parse_size("0") == 0
    with pytest.raises(ValueError, match="above 0"):
        plugin_values.parse_size("0")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("0.5", 0.5),
        (".5", 0.5),
        ("250ms", 0.25),
        ("5m", 300),
        ("5 min", 300),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("5M", 300),
    ],
)
def test_one_grammar_of_durations(text: str, seconds: float) -> None:
    assert plugin_values.parse_timeout(text) == seconds
    assert plugin_values.check_timeout(text) == seconds
    assert cli_values.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5x", "-5", "5m3", "1e3", "nan", "inf", "9" * 400])
def test_no_duration(text: str) -> None:
    for parse, error in (
        (plugin_values.parse_timeout, ValueError),
        (cli_values.parse_duration, click.BadParameter),
    ):
        with pytest.raises(error, match="expected a time such as 90, 90s, 5m"):
            parse(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (MIB - 1, "1.0 MiB"),
        (GIB - 1, "1.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (5000 << 40, "5000.0 TiB"),
    ],
)
def test_one_format_of_sizes(size: int, text: str) -> None:
    assert units.format_size(size) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("100MB", "100.0 MB"),
        ("128MB", "128.0 MB"),
        ("1.5GB", "1.5 GB"),
        ("1250MB", "1250.0 MB"),
        ("30MiB", "30.0 MiB"),
        ("4GiB", "4.0 GiB"),
        ("1.5GiB", "1.5 GiB"),
        ("64k", "64.0 KiB"),
        ("1000000", "1.0 MB"),
        ("1234567", "1.2 MiB"),
        ("100", "100 B"),
    ],
)
def test_limits_are_shown_in_the_unit_that_was_given(text: str, shown: str) -> None:
    assert units.format_limit(units.parse_size(text)) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.1234, "0.123 s"),
        (3.5, "3.5 s"),
        (90, "90 s"),
        (119.9, "120 s"),
        (300, "5 min"),
        (303, "5 min 3 s"),
        (5400, "1 h 30 min"),
        (604_800, "7 d"),
        (90_061, "1 d 1 h"),
    ],
)
def test_one_format_of_durations(seconds: float, text: str) -> None:
    assert units.format_duration(seconds) == text
