"""Several issuers and several secrets, with stock clients: who connects, as which user, before and after a reload."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import NodeClients, StockClient
from tests.support.gateway_process import JWT_SECRET, GatewayProcess
from tests.support.issuer import Issuer
from tests.support.tokens import token
from tests.unit.auth.issuer import ec_key, jwk, key_set
from tests.unit.auth.issuer import token as issued

STAFF_SECRET = "the secret of the issuer of the staff, long enough"
NEW_SECRET = "the next secret of the tests, thirty-two bytes and more"
STAFF = {"issuer": "staff", "secret": STAFF_SECRET, "users": "staff:"}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.stop()


class Operator:
    """A gateway whose issuers are in a YAML file and whose secret of tokens is in a file."""

    def __init__(self, folder: Path, *issuers: dict[str, Any], secret: str | None = JWT_SECRET) -> None:
        self._config, self._secret = folder / "gateway.yaml", folder / "jwt"
        self._write(*issuers, secret=secret)
        self.gateway = GatewayProcess(
            jwt_secret="", jwt_secret_file=None if secret is None else self._secret, config=self._config
        )

    def _write(self, *issuers: dict[str, Any], secret: str | None) -> None:
        self._config.write_text(json.dumps({"issuers": list(issuers) or None}))
        if secret is not None:
            self._secret.write_text(secret + "\n")

    def reload(
        self, *issuers: dict[str, Any], secret: str = JWT_SECRET, event: str = "settings.reloaded"
    ) -> dict[str, Any]:
        self._write(*issuers, secret=secret)
        before = len(self.gateway.log.entries)
        self.gateway.signal(signal.SIGHUP)
        return self.gateway.log.wait(lambda line: line.get("event") == event, after=before)


def open_socket(node: NodeClients, gateway: GatewayProcess, text: str) -> StockClient:
    return node.open(gateway.url, token=text, transports=["websocket"])


def of_login(key: Any, sub: str, **claims: Any) -> str:
    content = {"sub": sub, "iss": "login", "exp": time.time() + 600} | claims
    return issued(content, key=key, algorithm="ES256")


def test_clients_of_each_issuer_are_users_of_their_own(
    node: NodeClients, issuer: Issuer, tmp_path: Path, user: str
) -> None:
    key = ec_key(name="login")
    issuer.key_set = key_set(jwk(key, "ES256"))
    login = {"issuer": "login", "jwks_url": issuer.url, "users": "login:", "audience": "push"}
    operator = Operator(tmp_path, STAFF, login)
    gateway = operator.gateway
    try:
        texts = {
            user: token(user, JWT_SECRET),
            f"staff:{user}": token(user, STAFF_SECRET, iss="staff", jti="7"),
            f"login:{user}": of_login(key, user, aud="push", jti="7"),
        }
        clients = {each: open_socket(node, gateway, text).connected() for each, text in texts.items()}
        for number, (each, client) in enumerate(clients.items()):
            assert client.event("authenticated")[0]["userId"] == each
            assert gateway.push_user(each, "note", number)["connections"] == 1
            assert client.event("note") == [number]

        forged = open_socket(node, gateway, token(user, STAFF_SECRET, iss="login", aud="push"))
        assert forged.wait("connect_error")["data"]["code"] == "token_algorithm_refused"
        eavesdropper = open_socket(
            node, gateway, token(user, STAFF_SECRET, iss="staff", rooms=[f"user:login:{user}"])
        )
        assert eavesdropper.wait("connect_error")["data"]["code"] == "token_invalid"

        answer = gateway.backend.revoke("7", issuer="staff")
        assert answer.body == {"disconnected": 1}
        assert clients[f"staff:{user}"].event("error")[0]["code"] == "token_revoked"
        assert gateway.backend.revoke("7").body == {"disconnected": 0}
        assert gateway.backend.revoke("7", issuer="unknown").status == 422
        assert gateway.push_user(f"login:{user}", "note", 9)["connections"] == 1
        refreshed = clients[f"login:{user}"].emit_with_ack(
            "auth:refresh", token(user, STAFF_SECRET, iss="staff")
        )
        assert refreshed["code"] == "token_invalid"
    finally:
        assert gateway.stop() == 0
    assert gateway.failures() == []


def test_issuer_whose_key_set_is_away_keeps_no_client_of_another_one_out(
    node: NodeClients, issuer: Issuer, tmp_path: Path, user: str
) -> None:
    key = ec_key(name="login")
    operator = Operator(
        tmp_path, STAFF, {"issuer": "login", "jwks_url": issuer.url, "users": "login:"}, secret=None
    )
    gateway = operator.gateway
    try:
        gateway.log.wait(lambda line: (line.get("event"), line.get("issuer")) == ("jwks.failed", "login"))
        staff = open_socket(node, gateway, token(user, STAFF_SECRET, iss="staff")).connected()
        login = open_socket(node, gateway, of_login(key, user))
        none = open_socket(node, gateway, token(user, JWT_SECRET, iss="other"))
        assert none.wait("connect_error")["data"]["code"] == "token_issuer_invalid"

        issuer.key_set = key_set(jwk(key, "ES256"))

        login.connected()
        gateway.push_user(f"login:{user}", "note", 1)
        assert login.event("note") == [1]
        gateway.wait_until_delivered(staff)
        assert not [entry for entry in staff.entries if entry["type"] == "disconnect"]
    finally:
        assert gateway.stop() == 0
    assert gateway.failures() == []


def test_reload_adds_and_removes_an_issuer_whole_or_not_at_all(
    node: NodeClients, tmp_path: Path, user: str
) -> None:
    operator = Operator(tmp_path)
    gateway = operator.gateway
    text = token(user, STAFF_SECRET, iss="staff")
    try:
        assert open_socket(node, gateway, text).wait("connect_error")["data"]["code"] == (
            "token_signature_invalid"
        )

        failed = operator.reload(STAFF | {"users": ""}, event="settings.reload_failed")
        assert "GATEWAY_ISSUERS" in json.dumps(failed)
        assert open_socket(node, gateway, text).wait("connect_error")["data"]["code"] == (
            "token_signature_invalid"
        )

        assert operator.reload(STAFF)["changed"] == ["issuers"]
        client = open_socket(node, gateway, text).connected()
        assert client.event("authenticated")[0]["userId"] == f"staff:{user}"

        operator.reload()
        assert open_socket(node, gateway, text).wait("connect_error")["data"]["code"] == (
            "token_signature_invalid"
        )
        gateway.wait_until_delivered(client)
        assert not [entry for entry in client.entries if entry["type"] == "disconnect"]
    finally:
        assert gateway.stop() == 0
    assert [line["event"] for line in gateway.failures()] == ["settings.reload_failed"]


def test_rooms_that_tokens_of_an_issuer_grant_are_joined_by_no_backend_that_does_not_name_them(
    tmp_path: Path, user: str
) -> None:
    operator = Operator(tmp_path, STAFF | {"room_claims": {"team": "team:"}})
    gateway = operator.gateway

    def join(room: str) -> int:
        return gateway.backend.post("/join", {"who": {"user": user}, "rooms": [room]}).status

    try:
        assert [join("team:1"), join("desk:1"), join("match:1")] == [403, 200, 200]

        operator.reload(STAFF | {"room_claims": {"team": "team:", "desk": "desk:"}})

        assert [join("team:1"), join("desk:1"), join("match:1")] == [403, 403, 200]
    finally:
        assert gateway.stop() == 0
    assert gateway.failures() == []


def test_secret_of_tokens_rotates_over_reloads_without_rejecting_a_token(
    node: NodeClients, tmp_path: Path, user: str
) -> None:
    operator = Operator(tmp_path)
    gateway = operator.gateway
    old, new = token(user, JWT_SECRET), token(user, NEW_SECRET)

    def check(*codes: str | None) -> None:
        for text, code in zip((old, new), codes, strict=True):
            client = open_socket(node, gateway, text)
            if code is None:
                client.connected()
            else:
                assert client.wait("connect_error")["data"]["code"] == code

    try:
        check(None, "token_signature_invalid")

        assert operator.reload(secret=f"{JWT_SECRET}\n{NEW_SECRET}")["changed"] == ["jwt_secret"]
        check(None, None)

        operator.reload(secret=f"{NEW_SECRET}\n{JWT_SECRET}")
        check(None, None)

        operator.reload(secret=NEW_SECRET)
        check("token_signature_invalid", None)
        assert gateway.push_user(user, "note", 1)["connections"] == 6
    finally:
        assert gateway.stop() == 0
    assert gateway.failures() == []
