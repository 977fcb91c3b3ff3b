"""SIGHUP: keys and the log level change while the gateway runs, and nobody who is connected notices."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import Backend
from tests.support.clients import NodeClients
from tests.support.gateway_process import JWT_SECRET, GatewayProcess
from tests.support.issuer import Issuer
from tests.support.journal import Entry
from tests.support.tokens import token
from tests.unit.auth.issuer import ec_key, jwk, key_set, public_pem
from tests.unit.auth.issuer import token as issued

FIRST, SECOND = "the first secret of a backend, long enough", "the second secret of a backend, long enough"
NEW_JWT_SECRET = "another secret of the tests, thirty-two bytes and more"


class Operator:
    """Somebody who changes files and sends SIGHUP."""

    def __init__(self, folder: Path) -> None:
        self._config, self._jwt_secret = folder / "gateway.yaml", folder / "jwt"
        self.keys([("shop", [FIRST])])
        self.jwt_secret(JWT_SECRET)
        self.gateway = GatewayProcess(
            jwt_secret="", jwt_secret_file=self._jwt_secret, ingest_keys="", config=self._config
        )

    def keys(self, keys: list[tuple[str, list[str]]], more: str = "") -> None:
        lines = [f"- {{id: {name}, secrets: {secrets}}}" for name, secrets in keys]
        self._config.write_text("\n".join(["ingest_keys:", *lines, more, ""]))

    def jwt_secret(self, secret: str) -> None:
        self._jwt_secret.write_text(secret + "\n")

    def hang_up(self, event: str = "settings.reloaded") -> Entry:
        """Send the signal; what the gateway says of it."""
        before = len(self.gateway.log.entries)
        self.gateway.signal(signal.SIGHUP)
        return self.gateway.log.wait(lambda line: line.get("event") == event, after=before)

    def push(self, user: str, secret: str, key: str = "shop") -> Any:
        return Backend(self.gateway.url, key, secret).push_user(user, "note", 1)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    operator = Operator(tmp_path)
    yield operator
    assert operator.gateway.stop() == 0


def test_keys_of_backends_are_rotated_without_a_push_or_a_client_lost(
    operator: Operator, node: NodeClients, user: str
) -> None:
    client = node.open(operator.gateway.url, token=operator.gateway.token(user)).connected()
    assert [operator.push(user, secret).status for secret in (FIRST, SECOND)] == [200, 401]

    operator.keys([("shop", [SECOND, FIRST]), ("billing", ["a secret of its own, of thirty-two bytes"])])
    told = operator.hang_up()

    assert told["changed"] == ["ingest_keys"]
    assert told["ingest_keys"] == ["shop", "billing"]
    assert [operator.push(user, secret).status for secret in (FIRST, SECOND)] == [200, 200]
    assert operator.push(user, "a secret of its own, of thirty-two bytes", "billing").status == 200

    operator.keys([("shop", [SECOND])])
    operator.hang_up()

    assert operator.push(user, FIRST).body["code"] == "bad_signature"
    assert operator.push(user, "a secret of its own, of thirty-two bytes", "billing").body["code"] == (
        "unknown_key"
    )
    assert operator.push(user, SECOND).status == 200
    assert not [entry for entry in client.entries if entry["type"] == "disconnect"]
    client.wait("event", event="note", count=5)


def test_the_key_of_tokens_changes_for_who_comes_and_not_for_who_is_there(
    operator: Operator, node: NodeClients, user: str
) -> None:
    gateway = operator.gateway
    client = node.open(gateway.url, token=token(user, JWT_SECRET)).connected()

    operator.jwt_secret(NEW_JWT_SECRET)
    assert operator.hang_up()["changed"] == ["jwt_secret"]

    late = node.open(gateway.url, token=token(user, JWT_SECRET))
    assert late.wait("connect_error")["data"]["code"] == "token_signature_invalid"
    node.open(gateway.url, token=token(user, NEW_JWT_SECRET)).connected()
    assert operator.push(user, FIRST).body["connections"] == 2
    assert client.event("note")[0] == 1
    assert not [entry for entry in client.entries if entry["type"] == "disconnect"]


def test_public_keys_and_algorithms_change_too_and_so_does_the_address_of_a_key_set(
    operator: Operator, node: NodeClients, user: str
) -> None:
    gateway, key, issuers = operator.gateway, ec_key(), [Issuer(), Issuer()]
    signed = issued(
        {"sub": user, "exp": time.time() + 600}, key=key, algorithm="ES256", headers={"kid": "one"}
    )

    def refused() -> str:
        error = node.open(gateway.url, token=signed, transports=["websocket"]).wait("connect_error")
        return str(error["data"]["code"])

    def enters() -> None:
        node.open(gateway.url, token=signed, transports=["websocket"]).connected().disconnect()

    def change(setting: str, value: str) -> list[str]:
        operator.keys([("shop", [FIRST])], f"{setting}: {json.dumps(value)}")
        return list(operator.hang_up()["changed"])

    assert refused() == "token_algorithm_refused"

    assert change("jwt_public_key", public_pem(key)) == ["jwt_algorithms", "jwt_public_key"]
    enters()

    for issuer, kid in zip(issuers, ("one", "two"), strict=True):
        issuer.key_set = key_set(jwk(key, "ES256", kid=kid))
    assert "jwt_jwks_url" in change("jwt_jwks_url", issuers[0].url)
    enters()

    assert change("jwt_jwks_url", issuers[1].url) == ["jwt_jwks_url"]
    assert refused() == "token_signature_invalid"
    for issuer in issuers:
        issuer.stop()


def test_the_log_level_changes_at_once(operator: Operator) -> None:
    def is_logged(user: str) -> Entry:
        return operator.gateway.log.wait(
            lambda line: (line.get("event"), line.get("user")) == ("request.answered", user)
        )

    operator.push("first", FIRST)
    is_logged("first")
    operator.keys([("shop", [FIRST])], "log_level: warning")
    assert operator.hang_up()["changed"] == ["log_level"]

    operator.push("second", FIRST)
    operator.keys([("shop", [FIRST])])
    operator.hang_up()
    operator.push("third", FIRST)

    is_logged("third")
    assert not [line for line in operator.gateway.log.entries if line.get("user") == "second"]


def test_at_a_level_that_is_above_it_the_reload_is_confirmed_all_the_same(operator: Operator) -> None:
    operator.keys([("shop", [FIRST])], "log_level: error\nrecovery_seconds: 60")

    assert operator.hang_up()["changed"] == ["log_level"]
    assert operator.gateway.log.wait(lambda line: line.get("event") == "settings.restart_required")[
        "names"
    ] == ["recovery_seconds"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (
            lambda operator: operator.keys([("shop", ["topsecret"])]),
            "GATEWAY_INGEST_KEYS: key 1: its secret has fewer than 32 bytes",
        ),
        (lambda operator: operator.jwt_secret("topsecret"), "GATEWAY_JWT_SECRET: has fewer than 32 bytes"),
        (
            lambda operator: operator.keys([("shop", [FIRST])], "prot: 1"),
            "GATEWAY_PROT: unknown setting",
        ),
    ],
)
def test_settings_that_cannot_be_used_change_nothing_and_say_why(
    operator: Operator, user: str, spoil: Callable[[Operator], None], problem: str
) -> None:
    spoil(operator)

    told = operator.hang_up("settings.reload_failed")

    (said,) = told["problems"]
    assert said.startswith(problem)
    assert "topsecret" not in str(told)
    assert operator.push(user, FIRST).status == 200
