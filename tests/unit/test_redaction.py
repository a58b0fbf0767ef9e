"""Which values are secret, how they are written, and that all of it is overwritten and nothing else."""

from __future__ import annotations

import base64
import html
import json
import random
import re
import urllib.parse
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_gencore.collector.redaction import Redaction
from pytest_gencore.redaction import _scanner
from pytest_gencore.redaction.forms import list_forms
from pytest_gencore.redaction.redactor import Redactor
from pytest_gencore.redaction.secrets import PLAIN_NAMES, SECRET_NAMES, find_secrets, is_secret_name

SECRET = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"


@pytest.mark.parametrize(
    "name",
    [
        *("GITHUB_TOKEN", "ACTIONS_RUNTIME_TOKEN", "CI_JOB_TOKEN", "CI_JOB_JWT_V2", "CI_REGISTRY_PASSWORD"),
        *(
            "SYSTEM_ACCESSTOKEN",
            "AZURE_CLIENT_SECRET",
            "AZURE_STORAGE_CONNECTION_STRING",
            "STORAGE_ACCOUNT_KEY",
        ),
        *(
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "DOCKER_PSW",
            "NPM_TOKEN",
            "TWINE_PASSWORD",
            "PGPASSWORD",
        ),
        *(
            "UV_PUBLISH_TOKEN",
            "DB_PASS",
            "SENTRY_DSN",
            "DJANGO_SECRET_KEY",
            "OPENAI_API_KEY",
            "SLACK_WEBHOOK_URL",
        ),
        *(
            "SSH_KEY",
            "SIGNING_KEY_PASSPHRASE",
            "COOKIE_SECRET",
            "my_api_key",
            "ProxyAuthorization",
            "MYSQL_PWD",
        ),
    ],
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PATH",
            "HOME",
            "PWD",
            "OLDPWD",
            "GITHUB_REF",
            "GIT_AUTHOR_NAME",
            "SSH_AUTH_SOCK",
            "TOKEN_TTL",
            "KEYMAP",
        ),
        *(
            "GOOGLE_CREDENTIALS_FILE",
            "TOKEN_URL",
            "XDG_SESSION_ID",
            "AUTHOR",
            "PYTEST_CURRENT_TEST",
            "MONKEY",
        ),
    ],
)
def test_plain_names(name: str) -> None:
    assert not is_secret_name(name)


def test_names_of_the_user() -> None:
    assert is_secret_name("Door_PIN", more=("*_pin",))
    assert not is_secret_name("GITHUB_TOKEN", kept=("GITHUB_*",))
    assert not is_secret_name("DOOR_PIN", more=("*_PIN",), kept=("DOOR*",))


def test_values() -> None:
    pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\nab\n-----END KEY-----"
    found = find_secrets(
        [
            ("A_TOKEN", "before-it-was-changed"),
            ("A_TOKEN", SECRET),
            ("B_TOKEN", "short"),
            ("C_TOKEN", ""),
            ("KEY_CREDENTIALS", "/home/me/key.json"),
            ("AWS_SECRET_ACCESS_KEY", "/AlrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            ("DATABASE_URL", "postgres://me:p%40ssw0rd-1@host/db"),
            ("KEPT_TOKEN", "kept-value-1"),
            ("PRIVATE_KEY", pem),
        ],
        {"hook": ["from-the-hook"]},
        kept=("KEPT_*",),
    )

    assert found.values == {
        "hook": {"from-the-hook"},
        "A_TOKEN": {"before-it-was-changed", SECRET},
        "AWS_SECRET_ACCESS_KEY": {"/AlrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"},
        "DATABASE_URL": {"p%40ssw0rd-1", "p@ssw0rd-1"},
        "PRIVATE_KEY": {pem, "-----BEGIN KEY-----", "MIIEvQIBADANBgkqh", "-----END KEY-----"},
    }
    assert found.too_short == ("B_TOKEN",)


def test_the_names_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/explanation/security.md").read_text()
    listed = set(re.findall(r"`([*_A-Z]+)`", text))
    assert {glob.upper() for glob in SECRET_NAMES} <= listed
    assert {glob.upper().strip("*") for glob in PLAIN_NAMES} <= {name.strip("*") for name in listed}


VALUES = [
    "ghp_16C7e42F/29+c6912",
    "pässwörd-1",
    'quote"d & <x>',
    "пароль-2",
    "smile-😀-1",
    "bytes-\udcff\udcfe-",
]


@pytest.mark.parametrize("value", VALUES)
def test_forms(value: str) -> None:
    raw = value.encode("utf-8", "surrogateescape")
    redactor = Redactor([value])
    texts = [
        json.dumps({"a": value}),
        json.dumps({"a": value}, ensure_ascii=False),
        urllib.parse.quote(raw),
        urllib.parse.quote_plus(raw),
        repr(value),
        ascii(value),
        html.escape(value),
    ]
    blocks = [raw, *(text.encode("utf-8", "surrogateescape") for text in texts)]
    blocks += [
        text.encode(codec) for text in (*texts, value) for codec in ("utf-16-le", "utf-32-le") if ok(text)
    ]
    for block in blocks:
        cleaned = redactor.clean(b"before " + block + b" behind")
        assert len(cleaned) == len(block) + 14
        assert cleaned.startswith(b"before ")
        assert cleaned.endswith(b" behind")
        assert not any(form in cleaned for form in list_forms(value))
        assert cleaned.count(b"*") >= 8
    assert redactor.places == len(blocks)


def ok(text: str) -> bool:
    return not any(0xD800 <= ord(character) < 0xE000 for character in text)


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("alphabet", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64(before: int, alphabet: object) -> None:
    """Wherever a value begins in what is encoded, two of its characters are left at most."""
    assert callable(alphabet)
    around = b"u" * before, b":v" * 9
    text: bytes = alphabet(around[0] + SECRET.encode() + around[1])
    decoded = base64.b64decode(
        Redactor([SECRET]).clean(text).replace(b"*", b"A").translate(bytes.maketrans(b"-_", b"+/"))
    )
    assert decoded.startswith(around[0])
    assert decoded.endswith(around[1][1:])
    hidden = decoded[before : before + len(SECRET)]
    assert sum(a == b for a, b in zip(hidden, SECRET.encode(), strict=True)) <= 2


def test_wide_characters_stay_characters() -> None:
    text = f"é {SECRET} é"
    for codec in ("latin-1", "utf-16-le", "utf-32-le"):
        assert Redactor([SECRET]).clean(text.encode(codec)).decode(codec) == f"é {'*' * len(SECRET)} é"


def test_nothing_to_be_found() -> None:
    assert not Redactor()
    assert Redactor().clean(b"abc") == b"abc"
    assert Redactor().clean_text("abc") == "abc"


def test_overlapping_values() -> None:
    redactor = Redactor(["abcdefgh-1", "gh-1-second", "abcdefgh-1-longer"])
    assert redactor.clean(b"<abcdefgh-1-second>") == b"<" + b"*" * 17 + b">"
    assert redactor.clean(b"<abcdefgh-1-longer>") == b"<" + b"*" * 17 + b">"


def test_long_values() -> None:
    """A key of many lines, or a certificate in one: no block gets a border of its length."""
    value = "".join(random.Random(1).choices("abcdefghijklmnop", k=50_000))
    redactor = Redactor([value])
    assert redactor.reach < 8192
    for codec in ("utf-8", "utf-32-le"):
        assert set(redactor.clean(value.encode(codec))) <= set(b"*\0")


def test_texts_that_are_cut() -> None:
    redactor = Redactor([SECRET])
    cut = f"token = '{SECRET[:12]}...{SECRET[-7:]}', {SECRET[:6]}… and {SECRET[:5]}... …{SECRET[-6:]}"
    assert (
        redactor.clean_text(cut) == f"token = '{'*' * 12}...{'*' * 7}', ******… and {SECRET[:5]}... …******"
    )


def test_counted_once_where_blocks_meet() -> None:
    redactor = Redactor([SECRET])
    data = bytearray(b"x" * 100 + SECRET.encode() + b"x" * 100)
    for start, end in pairwise((0, 110, len(data))):
        low = max(0, start - redactor.reach)
        piece = bytearray(data[low : end + redactor.reach])
        redactor.overwrite(piece, len(piece), start - low, end - low)
        assert piece[start - low : end - low].count(b"*") == (10 if start == 0 else len(SECRET) - 10)
    assert redactor.places == 1


@given(
    st.lists(st.binary(min_size=4, max_size=12), min_size=1, max_size=20, unique=True),
    st.lists(st.integers(0, 400), max_size=30),
    st.integers(0, 400),
    st.sampled_from([2, 256]),
)
@settings(max_examples=300, deadline=None)
def test_scanner(patterns: list[bytes], places: list[int], size: int, symbols: int) -> None:
    """As looking for each pattern at each offset."""
    source = random.Random(size)
    patterns = [bytes(byte % symbols for byte in pattern) for pattern in patterns]
    data = bytearray(source.randrange(symbols) for _ in range(size))
    for number, place in enumerate(places):
        pattern = patterns[number % len(patterns)]
        data[place : place + len(pattern)] = pattern
    found = _scanner.find(_scanner.make_table(tuple(patterns)), data, len(data))

    assert sorted(found) == sorted(
        (offset, number)
        for offset in range(len(data))
        for number, pattern in enumerate(patterns)
        if data.startswith(pattern, offset)
    )


def test_scanner_refuses() -> None:
    with pytest.raises(ValueError, match="too short"):
        _scanner.make_table((b"abc",))
    with pytest.raises(TypeError):
        _scanner.make_table(("text",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not so many"):
        _scanner.find(_scanner.make_table(()), bytearray(4), 5)
    assert _scanner.find(_scanner.make_table(()), bytearray(4), 4) == []


def test_texts_of_json_are_cleaned_before_they_are_escaped() -> None:
    """Else a part of a value beside the mark of a cut would not be found: its characters are escaped."""
    value = 'pass"wörd-of-the-registry'
    redaction = Redaction()
    redaction.redactor = Redactor([value])
    document = {"waits": [{"text": f"lock {value[:14]}...", "line": 3}], "place": ("a", None)}

    assert redaction.clean(document) == {
        "waits": [{"text": f"lock {'*' * 14}...", "line": 3}],
        "place": ("a", None),
    }
    assert value[6:14] in json.loads(redaction.redactor.clean_text(json.dumps(document)))["waits"][0]["text"]
