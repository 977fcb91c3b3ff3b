"""Settings that work and are unsafe: a key set over plain http, one secret for two purposes."""

from __future__ import annotations

import base64

import pytest

from gateway.settings import load_settings, warnings

JWT, PUSH = "j" * 32, "p" * 32
KEYS = {"GATEWAY_INGEST_KEYS": f"shop:{PUSH}"}


def found(**environ: str) -> list[tuple[str, str]]:
    settings = load_settings(KEYS | {f"GATEWAY_{name}": value for name, value in environ.items()})
    return [(each.name, each.sentence) for each in warnings(settings)]


def webhook_secret(content: bytes) -> str:
    return "whsec_" + base64.b64encode(content).decode()


@pytest.mark.parametrize("host", ["keys.example.com", "10.0.0.7", "keycloak.auth.svc"])
def test_key_set_over_plain_http_is_warned_of(host: str) -> None:
    ((name, sentence),) = found(JWT_JWKS_URL=f"http://{host}/jwks.json")

    assert name == "jwt_jwks_url"
    assert sentence.startswith("is fetched over plain http")


@pytest.mark.parametrize(
    "url", ["https://keys.example.com/jwks.json", "http://localhost:9000/jwks", "http://[::1]/jwks"]
)
def test_key_set_over_https_or_of_this_machine_is_not_warned_of(url: str) -> None:
    assert found(JWT_JWKS_URL=url) == []


def test_secret_for_tokens_and_pushes_is_warned_of() -> None:
    ((name, sentence),) = found(JWT_SECRET=PUSH)

    assert name == "ingest_keys"
    assert sentence.startswith("a secret of the key 'shop' also signs the tokens of clients, so ")


@pytest.mark.parametrize("content", [JWT.encode(), PUSH.encode()])
def test_secret_of_a_webhook_for_tokens_or_pushes_is_warned_of(content: bytes) -> None:
    ((name, sentence),) = found(
        JWT_SECRET=JWT,
        WEBHOOKS="app=https://app.example.com/",
        WEBHOOK_SECRETS=f"app:{webhook_secret(content)}",
    )

    assert name == "webhooks"
    assert sentence.startswith("a secret of the webhook 'app' also signs the ")


def test_text_of_the_secret_of_a_webhook_for_tokens_is_warned_of() -> None:
    text = webhook_secret(b"w" * 32)

    ((name, _),) = found(
        JWT_SECRET=text, WEBHOOKS="app=https://app.example.com/", WEBHOOK_SECRETS=f"app:{text}"
    )

    assert name == "webhooks"


def test_different_secrets_are_not_warned_of() -> None:
    assert (
        found(
            JWT_SECRET=JWT,
            WEBHOOKS="app=https://app.example.com/",
            WEBHOOK_SECRETS=f"app:{webhook_secret(b'w' * 32)}",
        )
        == []
    )


def test_warning_quotes_no_secret() -> None:
    settings = load_settings(KEYS | {"GATEWAY_JWT_SECRET": PUSH})

    assert PUSH not in str(warnings(settings)[0])
