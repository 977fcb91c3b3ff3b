"""``sio-gateway token``."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from tests.unit.cli.command_line import JWT_SECRET, run


def claims(text: str, **options: Any) -> dict[str, Any]:
    return jwt.decode(text.strip(), JWT_SECRET, algorithms=["HS256"], **options)


def test_output_is_the_token_and_nothing_else() -> None:
    answer = run("token", "--sub", "alice", JWT_SECRET=JWT_SECRET)

    found = claims(answer.stdout)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert found["sub"] == "alice"
    assert found["exp"] - found["iat"] == 3600


def test_claim_is_json_if_it_is_valid_json_else_a_string() -> None:
    given = ("orgId=7", 'role=["admin"]', "name=Al=ice", "x=")
    options = [word for claim in given for word in ("--claim", claim)]

    answer = run("token", "--sub", "alice", *options, JWT_SECRET=JWT_SECRET)

    found = claims(answer.stdout)
    assert (found["orgId"], found["role"], found["name"], found["x"]) == (7, ["admin"], "Al=ice", "")


@pytest.mark.parametrize(
    ("ttl", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("1.5h", 5400), ("7d", 604800)]
)
def test_token_is_valid_for_its_ttl(ttl: str, seconds: int) -> None:
    found = claims(run("token", "--sub", "alice", "--ttl", ttl, JWT_SECRET=JWT_SECRET).stdout)

    assert found["exp"] - found["iat"] == seconds


def test_token_has_the_audience_and_issuer_of_the_settings() -> None:
    answer = run(
        "token", "--sub", "alice", JWT_SECRET=JWT_SECRET, JWT_AUDIENCE="web,app", JWT_ISSUER="https://id"
    )

    found = claims(answer.stdout, audience="web", issuer="https://id")
    assert (found["aud"], found["iss"]) == ("web", "https://id")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--sub", ""), "Error: the user id '' is invalid: a user id is not empty"),
        (("--sub", "a", "--claim", "x"), "Error: --claim 'x' is not of the form name=value"),
        (("--sub", "a", "--claim", "sub=b"), "Error: set the claim sub with --sub"),
        (
            ("--sub", "a", "--ttl", "soon"),
            "'soon' is not a duration of at least one second; write 90s, 15m, 1h or 7d",
        ),
        (
            ("--sub", "a", "--ttl", "0"),
            "'0' is not a duration of at least one second; write 90s, 15m, 1h or 7d",
        ),
        ((), "Missing option '--sub'"),
    ],
)
def test_wrong_usage_ends_with_status_2_and_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    answer = run("token", *arguments, JWT_SECRET=JWT_SECRET)

    assert (answer.returncode, answer.stdout) == (2, "")
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr


def test_missing_secret_is_reported_with_a_remedy() -> None:
    answer = run("token", "--sub", "alice")

    assert (answer.returncode, answer.stdout) == (2, "")
    assert "GATEWAY_JWT_SECRET is not set" in answer.stderr
    assert "serve --dev" in answer.stderr


def test_public_key_without_a_secret_is_reported_with_a_remedy() -> None:
    answer = run("token", "--sub", "alice", JWT_JWKS_URL="https://id.example/jwks")

    assert (answer.returncode, answer.stdout) == (2, "")
    assert "only public keys are configured" in answer.stderr
