"""``sio-gateway token``."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from tests.unit.cli.command_line import JWT_SECRET, run


def claims(text: str, **options: Any) -> dict[str, Any]:
    return jwt.decode(text.strip(), JWT_SECRET, algorithms=["HS256"], **options)


def test_a_token_and_nothing_else_is_printed() -> None:
    answer = run("token", "--sub", "alice", JWT_SECRET=JWT_SECRET)

    found = claims(answer.stdout)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert found["sub"] == "alice"
    assert found["exp"] - found["iat"] == 3600


def test_a_claim_is_json_where_it_can_be_and_text_where_not() -> None:
    given = ("orgId=7", 'role=["admin"]', "name=Al=ice", "x=")
    options = [word for claim in given for word in ("--claim", claim)]

    answer = run("token", "--sub", "alice", *options, JWT_SECRET=JWT_SECRET)

    found = claims(answer.stdout)
    assert (found["orgId"], found["role"], found["name"], found["x"]) == (7, ["admin"], "Al=ice", "")


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), ("7d", 604800)]
)
def test_a_token_is_good_for_as_long_as_asked(ttl: str, seconds: int) -> None:
    found = claims(run("token", "--sub", "alice", "--ttl", ttl, JWT_SECRET=JWT_SECRET).stdout)

    assert found["exp"] - found["iat"] == seconds


def test_audience_and_issuer_are_those_that_the_gateway_wants() -> None:
    answer = run(
        "token", "--sub", "alice", JWT_SECRET=JWT_SECRET, JWT_AUDIENCE="web,app", JWT_ISSUER="https://id"
    )

    found = claims(answer.stdout, audience="web", issuer="https://id")
    assert (found["aud"], found["iss"]) == ("web", "https://id")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--sub", ""), "Error: the user '' cannot be: a user id is not empty"),
        (("--sub", "a", "--claim", "x"), "Error: --claim 'x' is not of the form name=value"),
        (("--sub", "a", "--claim", "sub=b"), "Error: the claim sub is given with --sub"),
        (("--sub", "a", "--ttl", "soon"), "'soon' is no time of at least a second; write 90s, 15m, 1h or 7d"),
        (("--sub", "a", "--ttl", "0"), "'0' is no time of at least a second; write 90s, 15m, 1h or 7d"),
        ((), "Missing option '--sub'"),
    ],
)
def test_a_wrong_use_is_told_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    answer = run("token", *arguments, JWT_SECRET=JWT_SECRET)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr


def test_without_a_secret_it_says_where_to_get_one() -> None:
    answer = run("token", "--sub", "alice")

    assert (answer.returncode, answer.stdout) == (2, "")
    assert "GATEWAY_JWT_SECRET is not set" in answer.stderr
    assert "serve --dev" in answer.stderr


def test_with_a_public_key_alone_it_says_whom_to_ask() -> None:
    answer = run("token", "--sub", "alice", JWT_JWKS_URL="https://id.example/jwks")

    assert (answer.returncode, answer.stdout) == (2, "")
    assert "only the public half of the keys is configured here" in answer.stderr
