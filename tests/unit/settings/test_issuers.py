"""The issuers of tokens."""

# ruff: noqa: E501  # a table of sentences is read line by line

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.domain.issuers import TokenIssuer
from gateway.settings import Settings, SettingsError, changed_settings, load_settings, warnings
from tests.unit.auth.issuer import ec_key, private_pem, public_pem, rsa_key

KEYS = {"GATEWAY_JWT_SECRET": "j" * 32, "GATEWAY_INGEST_KEYS": "billing:" + "b" * 32}
A, B = "https://a.example/", "https://b.example/"
SECRET, OTHER = "s3cret-" * 6, "0ther-" * 6
JWKS = {"jwks_url": "https://b.example/jwks"}


def load(folder: Path, *issuers: Any, **environ: str | None) -> Settings:
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump({"issuers": list(issuers)}), encoding="utf-8")
    given = KEYS | {"GATEWAY_CONFIG": str(path)} | environ
    return load_settings({name: value for name, value in given.items() if value is not None})


def problems(folder: Path, *issuers: Any, **environ: str | None) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(folder, *issuers, **environ)
    for secret in (SECRET, OTHER):
        assert secret not in str(raised.value)
    return [each.partition(" (in ")[0] for each in raised.value.problems]


def test_no_issuer_is_the_default_and_an_empty_list_is_none(tmp_path: Path) -> None:
    assert load_settings(KEYS).issuers == ()
    assert load(tmp_path).issuers == ()


def test_issuer_has_every_field_and_its_keys_from_files(tmp_path: Path) -> None:
    secrets, pem = tmp_path / "secrets", tmp_path / "key.pem"
    secrets.write_text(f"{SECRET}\n{OTHER}\n")
    pem.write_text(public_pem(ec_key()))

    settings = load(
        tmp_path,
        {
            "issuer": A,
            "secret_file": str(secrets),
            "public_key_file": str(pem),
            "algorithms": ["HS512", "ES256"],
            "audience": ["push", "web"],
            "room_claims": {"team": "team:"},
            "users": "a:",
            "same_users": True,
        },
        {"issuer": B, "users": "b:"} | JWKS,
        {"issuer": "c", "users": "c:", "secret": SECRET + "c"},
        {"issuer": "d", "users": "d:", "public_key": public_pem(ec_key()), "room_claims": {}},
    )

    assert settings.issuers == (
        TokenIssuer(
            issuer=A,
            secrets=(SECRET, OTHER),
            public_key=public_pem(ec_key()).rstrip(),
            algorithms=("HS512", "ES256"),
            audience=("push", "web"),
            room_claims={"team": "team:"},
            users="a:",
            same_users=True,
        ),
        TokenIssuer(
            issuer=B, jwks_url="https://b.example/jwks", algorithms=("RS256", "ES256", "EdDSA"), users="b:"
        ),
        TokenIssuer(issuer="c", secrets=(SECRET + "c",), algorithms=("HS256",), users="c:"),
        TokenIssuer(
            issuer="d", public_key=public_pem(ec_key()), algorithms=("ES256",), room_claims={}, users="d:"
        ),
    )
    for secret in (SECRET, OTHER):
        assert secret not in repr(settings)


def test_issuers_may_be_json_in_the_environment_or_a_file(tmp_path: Path) -> None:
    text = json.dumps([{"issuer": A, "secret": SECRET, "users": "a:"}])
    file = tmp_path / "issuers"
    file.write_text(text + "\n")

    for environ in ({"GATEWAY_ISSUERS": text}, {"GATEWAY_ISSUERS_FILE": str(file)}):
        assert load_settings(KEYS | environ).issuers[0].users == "a:"


def test_gateway_with_issuers_needs_no_key_of_its_own(tmp_path: Path) -> None:
    settings = load(tmp_path, {"issuer": A, "users": ""} | JWKS, GATEWAY_JWT_SECRET=None)

    assert (settings.jwt_secret, settings.jwt_algorithms, settings.issuers[0].users) == ((), (), "")


def test_development_mode_makes_no_secret_of_tokens_beside_issuers(tmp_path: Path) -> None:
    environ = {"GATEWAY_ISSUERS": json.dumps([{"issuer": A} | JWKS])}

    assert load_settings(environ, dev=True).jwt_secret == ()


@pytest.mark.parametrize(
    ("issuer", "sentences"),
    [
        ("x", ["is not a mapping with an issuer and a key"]),
        ({"issuer": A}, ["it has no key: give it a secret, a public_key or a jwks_url"]),
        (JWKS, ["its issuer, the `iss` of its tokens, is not a text of 1 to 2000 characters"]),
        ({"issuer": 7} | JWKS, ["its issuer, the `iss` of its tokens, is not a text of 1 to 2000 characters"]),
        ({"issuer": "a b"} | JWKS, ["'a b' contains spaces or control characters"]),
        ({"issuer": A, "secret": "short"}, ["its secret has fewer than 32 bytes; `openssl rand -hex 32` makes a good one"]),
        ({"issuer": A, "secret": public_pem(rsa_key())}, ["its secret ends with a line break: remove it"]),
        ({"issuer": A, "secrets": SECRET}, ["its secrets are not a list of strings"]),
        ({"issuer": A, "secret": SECRET, "secrets": [SECRET]}, ["it has more than one of secret, secrets, secret_file"]),
        ({"issuer": A, "secret_file": "/nowhere"}, ["cannot read /nowhere: No such file or directory"]),
        ({"issuer": A, "public_key": private_pem(rsa_key())},
         ["is a private key, which only the issuer of the tokens may have: use its public key"]),
        ({"issuer": A, "public_key": public_pem(ec_key())} | JWKS, ["it has a public key and a jwks_url: remove one of the two"]),
        ({"issuer": A, "jwks_url": "ftp://x"}, ["jwks_url is not a URL that begins with https:// or http://"]),
        ({"issuer": A, "secret": SECRET, "algorithms": ["RS256"]}, ["RS256 cannot be verified with its keys"]),
        ({"issuer": A, "algorithms": ["HS256"]} | JWKS, ["HS256 cannot be verified with its keys"]),
        ({"issuer": A, "users": 7} | JWKS, ["users is not text; in YAML, put it in quotes"]),
        ({"issuer": A, "users": "a\u0007"} | JWKS, ["users 'a\\x07' begins no user id: a user id holds no control characters"]),
        ({"issuer": A, "users": "x" * 65} | JWKS, ["users is longer than 64 characters"]),
        ({"issuer": A, "same_users": "perhaps"} | JWKS, ["same_users 'perhaps' is neither true nor false"]),
        ({"issuer": A, "kid": "k"} | JWKS,
         ["unknown field 'kid'; known are issuer, secret, secrets, secret_file, public_key, public_key_file, jwks_url, algorithms, audience, room_claims, users, same_users"]),
        ({"issuer": A, "users": 7, "same_users": 2},
         ["users is not text; in YAML, put it in quotes", "same_users 2 is neither true nor false",
          "it has no key: give it a secret, a public_key or a jwks_url"]),
    ],
)  # fmt: skip
def test_every_mistake_of_an_issuer_is_named(tmp_path: Path, issuer: Any, sentences: list[str]) -> None:
    good = {"issuer": "good", "users": "good:"} | JWKS

    assert problems(tmp_path, good, issuer) == [f"GATEWAY_ISSUERS: issuer 2: {each}" for each in sentences]


@pytest.mark.parametrize("text", ["a=b", "{", "{}", "7", '[{"issuer":"a"},{"issuer":"a"}', '[{"a":1,"a":2}]'])
def test_text_that_is_no_list_in_json_is_rejected(text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(KEYS | {"GATEWAY_ISSUERS": text})

    assert raised.value.problems == [
        "GATEWAY_ISSUERS: is neither JSON nor a YAML list of mappings with an issuer and a key"
    ]


def test_issuer_occurs_once(tmp_path: Path) -> None:
    issuers = [{"issuer": A, "users": f"{each}:"} | JWKS for each in "ab"]

    assert problems(tmp_path, *issuers) == [f"GATEWAY_ISSUERS: two issuers are {A!r}"]


def test_at_most_100_issuers(tmp_path: Path) -> None:
    issuers = [{"issuer": f"i{n}", "users": f"{n}:"} | JWKS for n in range(101)]

    assert len(load(tmp_path, *issuers[:100]).issuers) == 100
    assert problems(tmp_path, *issuers) == ["GATEWAY_ISSUERS: has 101 issuers: at most 100"]


@pytest.mark.parametrize(
    ("one", "other", "has_default", "number"),
    [
        ({"users": "a:"}, {"users": "b:"}, True, 0),
        ({"users": "a:"}, {"users": "b:"}, False, 0),
        ({"users": "a:"}, {"users": ""}, False, 0),
        ({"users": "a:"}, {"users": ""}, True, 1),
        ({}, {}, True, 3),
        ({}, {}, False, 1),
        ({"users": "a"}, {"users": "ab"}, False, 1),
        ({"users": "ab"}, {"users": "a"}, True, 1),
        ({"users": "a:"}, {"users": "a:"}, False, 1),
        ({"users": "a:", "same_users": True}, {"users": "a:"}, False, 1),
        ({"users": "a:", "same_users": True}, {"users": "a:", "same_users": True}, False, 0),
        ({"users": "a", "same_users": True}, {"users": "ab", "same_users": True}, False, 1),
        ({"same_users": True}, {"users": "b:"}, True, 0),
        ({"same_users": True}, {"same_users": True}, True, 0),
        ({"same_users": True}, {}, True, 2),
    ],
)
def test_gateway_does_not_start_if_two_issuers_could_speak_for_one_user(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], has_default: bool, number: int
) -> None:
    issuers = [{"issuer": A} | JWKS | one, {"issuer": B} | JWKS | other]
    environ = {} if has_default else {"GATEWAY_JWT_SECRET": None}

    if number:
        found = problems(tmp_path, *issuers, **environ)
        assert (len(found), {each.partition(":")[0] for each in found}) == (number, {"GATEWAY_ISSUERS"})
    else:
        assert len(load(tmp_path, *issuers, **environ).issuers) == 2


def test_secret_of_one_issuer_is_not_that_of_another(tmp_path: Path) -> None:
    issuers = [
        {"issuer": A, "users": "a:", "secret": SECRET},
        {"issuer": B, "users": "b:", "secrets": [OTHER, SECRET]},
    ]

    assert problems(tmp_path, *issuers, GATEWAY_JWT_SECRET=OTHER) == [
        f"GATEWAY_ISSUERS: the issuer {B!r} has the same secret as GATEWAY_JWT_SECRET: each could sign tokens of the other",
        f"GATEWAY_ISSUERS: the issuer {B!r} has the same secret as {A}: each could sign tokens of the other",
    ]


def test_issuer_with_an_entry_is_not_one_of_the_default_keys(tmp_path: Path) -> None:
    found = problems(tmp_path, {"issuer": A, "users": "a:"} | JWKS, GATEWAY_JWT_ISSUER=f"x,{A}")

    assert found == [
        f"GATEWAY_JWT_ISSUER: names {A!r}, whose tokens only its entry in GATEWAY_ISSUERS verifies: remove one of them"
    ]


def test_unsafe_issuers_are_warned_of(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        {"issuer": A, "users": "a:", "jwks_url": "http://a.example/jwks"},
        {"issuer": B, "users": "b:", "secret": "b" * 32},
    )

    found = {(each.name, each.item) for each in warnings(settings)}
    assert found == {("issuers", A), ("ingest_keys", "billing")}


def test_changed_issuer_is_a_change_of_the_setting(tmp_path: Path) -> None:
    first = load(tmp_path, {"issuer": A, "users": "a:", "secret": SECRET})

    assert changed_settings(first, load(tmp_path, {"issuer": A, "users": "a:", "secret": OTHER})) == {
        "issuers"
    }
