"""SIGHUP: keys and the log level change while the gateway runs, and connected clients stay connected."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import Backend
from tests.support.clients import NodeClients
from tests.support.gateway_process import JWT_SECRET, GatewayProcess
from tests.support.issuer import Issuer
from tests.support.journal import Entry
from tests.support.tokens import token
from tests.support.waiter import wait_until
from tests.unit.auth.issuer import ec_key, jwk, key_set, public_pem
from tests.unit.auth.issuer import token as issued

FIRST, SECOND = "the first secret of a backend, long enough", "the second secret of a backend, long enough"
NEW_JWT_SECRET = "another secret of the tests, thirty-two bytes and more"


class Operator:
    """An operator who changes the settings files of a gateway and sends SIGHUP."""

    def __init__(self, folder: Path) -> None:
        self._config, self._jwt_secret = folder / "gateway.yaml", folder / "jwt"
        self.write_keys([("shop", [FIRST])])
        self.write_jwt_secret(JWT_SECRET)
        self.gateway = GatewayProcess(
            jwt_secret="", jwt_secret_file=self._jwt_secret, ingest_keys="", config=self._config
        )

    def write_keys(self, keys: list[tuple[str, list[str]]], more: str = "") -> None:
        lines = [f"- {{id: {name}, secrets: {secrets}}}" for name, secrets in keys]
        self._config.write_text("\n".join(["ingest_keys:", *lines, more, ""]))

    def replace_config_by_a_pipe(self) -> None:
        """Let reading the file wait without an end, as on a file server that is away."""
        self._config.unlink()
        os.mkfifo(self._config)

    def write_jwt_secret(self, secret: str) -> None:
        self._jwt_secret.write_text(secret + "\n")

    def reload(self, event: str = "settings.reloaded") -> Entry:
        """Send SIGHUP; return the next log line of this event."""
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


def test_rotation_of_ingest_keys_loses_no_push_and_no_client(
    operator: Operator, node: NodeClients, user: str
) -> None:
    client = node.open(operator.gateway.url, token=operator.gateway.token(user)).connected()
    assert [operator.push(user, secret).status for secret in (FIRST, SECOND)] == [200, 401]

    operator.write_keys(
        [("shop", [SECOND, FIRST]), ("billing", ["a secret of its own, of thirty-two bytes"])]
    )
    reloaded = operator.reload()

    assert reloaded["changed"] == ["ingest_keys"]
    assert reloaded["ingest_keys"] == ["shop", "billing"]
    assert [operator.push(user, secret).status for secret in (FIRST, SECOND)] == [200, 200]
    assert operator.push(user, "a secret of its own, of thirty-two bytes", "billing").status == 200

    operator.write_keys([("shop", [SECOND])])
    operator.reload()

    assert operator.push(user, FIRST).body["code"] == "bad_signature"
    assert operator.push(user, "a secret of its own, of thirty-two bytes", "billing").body["code"] == (
        "unknown_key"
    )
    assert operator.push(user, SECOND).status == 200
    assert not [entry for entry in client.entries if entry["type"] == "disconnect"]
    client.wait("event", event="note", count=5)


def test_new_jwt_secret_applies_to_new_connections_only(
    operator: Operator, node: NodeClients, user: str
) -> None:
    gateway = operator.gateway
    client = node.open(gateway.url, token=token(user, JWT_SECRET)).connected()

    operator.write_jwt_secret(NEW_JWT_SECRET)
    assert operator.reload()["changed"] == ["jwt_secret"]

    old_token = node.open(gateway.url, token=token(user, JWT_SECRET))
    assert old_token.wait("connect_error")["data"]["code"] == "token_signature_invalid"
    node.open(gateway.url, token=token(user, NEW_JWT_SECRET)).connected()
    assert operator.push(user, FIRST).body["connections"] == 2
    assert client.event("note")[0] == 1
    assert not [entry for entry in client.entries if entry["type"] == "disconnect"]


def test_public_key_algorithms_and_jwks_url_change_on_reload(
    operator: Operator, node: NodeClients, user: str
) -> None:
    gateway, key, issuers = operator.gateway, ec_key(), [Issuer(), Issuer()]
    signed = issued(
        {"sub": user, "exp": time.time() + 600}, key=key, algorithm="ES256", headers={"kid": "one"}
    )

    def rejection_code() -> str:
        error = node.open(gateway.url, token=signed, transports=["websocket"]).wait("connect_error")
        return str(error["data"]["code"])

    def connects() -> None:
        node.open(gateway.url, token=signed, transports=["websocket"]).connected().disconnect()

    def change(setting: str, value: str) -> list[str]:
        operator.write_keys([("shop", [FIRST])], f"{setting}: {json.dumps(value)}")
        return list(operator.reload()["changed"])

    assert rejection_code() == "token_algorithm_refused"

    assert change("jwt_public_key", public_pem(key)) == ["jwt_algorithms", "jwt_public_key"]
    connects()

    for issuer, kid in zip(issuers, ("one", "two"), strict=True):
        issuer.key_set = key_set(jwk(key, "ES256", kid=kid))
    assert "jwt_jwks_url" in change("jwt_jwks_url", issuers[0].url)
    connects()

    assert change("jwt_jwks_url", issuers[1].url) == ["jwt_jwks_url"]
    assert rejection_code() == "token_signature_invalid"
    for issuer in issuers:
        issuer.stop()


def test_log_level_changes_at_once(operator: Operator) -> None:
    def wait_for_request_of(user: str) -> Entry:
        return operator.gateway.log.wait(
            lambda line: (line.get("event"), line.get("user")) == ("request.answered", user)
        )

    operator.push("first", FIRST)
    wait_for_request_of("first")
    operator.write_keys([("shop", [FIRST])], "log_level: warning")
    assert operator.reload()["changed"] == ["log_level"]

    operator.push("second", FIRST)
    operator.write_keys([("shop", [FIRST])])
    operator.reload()
    operator.push("third", FIRST)

    wait_for_request_of("third")
    assert not [line for line in operator.gateway.log.entries if line.get("user") == "second"]


def test_reload_is_logged_even_when_the_new_log_level_is_higher(operator: Operator) -> None:
    operator.write_keys([("shop", [FIRST])], "log_level: error\nrecovery_seconds: 60")

    assert operator.reload()["changed"] == ["log_level"]
    assert operator.gateway.log.wait(lambda line: line.get("event") == "settings.restart_required")[
        "names"
    ] == ["recovery_seconds"]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (
            lambda operator: operator.write_keys([("shop", ["topsecret"])]),
            "GATEWAY_INGEST_KEYS: key 1: its secret has fewer than 32 bytes",
        ),
        (
            lambda operator: operator.write_jwt_secret("topsecret"),
            "GATEWAY_JWT_SECRET: has fewer than 32 bytes",
        ),
        (
            lambda operator: operator.write_keys([("shop", [FIRST])], "prot: 1"),
            "GATEWAY_PROT: unknown setting",
        ),
    ],
)
def test_unusable_settings_change_nothing_and_the_log_names_the_problem(
    operator: Operator, user: str, spoil: Callable[[Operator], None], problem: str
) -> None:
    spoil(operator)

    failed = operator.reload("settings.reload_failed")

    (message,) = failed["problems"]
    assert message.startswith(problem)
    assert "topsecret" not in str(failed)
    assert operator.push(user, FIRST).status == 200


def test_event_catalogue_is_reloaded_whole_or_not_at_all(
    operator: Operator, node: NodeClients, user: str, tmp_path: Path
) -> None:
    file = tmp_path / "events.yaml"
    client = node.open(operator.gateway.url, token=operator.gateway.token(user)).connected()

    file.write_text("version: 1\nnamespaces: {/: {client_events: {ping: {ack: one}}}}\n")
    operator.write_keys([("shop", [FIRST])], f"events_file: {file}")
    assert operator.reload()["changed"] == ["events_file"]
    assert client.emit_with_ack("ping") == "one"

    file.write_text("version: 1\nnamespaces: {/: {client_events: {ping: {ack: two}, pong: {ak: 1}}}}\n")
    (problem,) = operator.reload("settings.reload_failed")["problems"]
    assert problem.startswith("GATEWAY_EVENTS_FILE: namespaces./.client_events.pong.ak: is an unknown key")
    assert client.emit_with_ack("ping") == "one"

    file.write_text("version: 1\nnamespaces: {/: {client_events: {ping: {ack: two}}}}\n")
    assert operator.reload()["changed"] == ["events_file"]
    assert client.emit_with_ack("ping") == "two"
    assert not [entry for entry in client.entries if entry["type"] == "disconnect"]


# --- a large event catalogue ---


def large_catalogue(event: str, more: str = "") -> str:
    """Return a catalogue of about 0.7 MB with an event that is acknowledged with its own name."""
    schemas = ", ".join(f"{{type: string, maxLength: {number + 1}}}" for number in range(16))
    events = "".join(f"      event{number}: {{args: [{schemas}]}}\n" for number in range(990))
    return (
        "version: 1\nnamespaces:\n  /:\n    client_events:\n"
        f"      {event}: {{ack: {event}, rate: 1000}}\n{events}      last: {{{more}}}\n"
    )


@pytest.fixture
def events_file(tmp_path: Path) -> Path:
    path = tmp_path / "events.yaml"
    path.write_text("{version: 1, namespaces: {/: {client_events: {first: {ack: first, rate: 1000}}}}}")
    return path


@pytest.fixture
def gateway(events_file: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(events_file=events_file)
    yield gateway
    assert gateway.stop() == 0


def reloads(gateway: GatewayProcess) -> list[str]:
    """Return the outcomes of all reloads so far."""
    events = [str(line.get("event")) for line in gateway.log.entries]
    return [event for event in events if event in {"settings.reloaded", "settings.reload_failed"}]


def test_clients_and_backends_are_served_while_a_large_catalogue_is_read(
    gateway: GatewayProcess, events_file: Path, node: NodeClients, user: str
) -> None:
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    events_file.write_text(large_catalogue("second"))

    pushed = acknowledged = 0
    answered_at = [time.monotonic()]
    gateway.signal(signal.SIGHUP)
    while not reloads(gateway):
        gateway.push_user(user, "news")
        pushed += 1
        answered_at.append(time.monotonic())
        acknowledged += client.emit_with_ack("first") == "first"
        answered_at.append(time.monotonic())

    # A gateway that reads on its event loop lets one answer wait for nearly all of that time.
    longest_wait = max(later - earlier for earlier, later in pairwise(answered_at))
    assert longest_wait < (answered_at[-1] - answered_at[0]) * 0.9
    assert acknowledged >= pushed - 1
    client.event("news", count=pushed)
    assert client.emit_with_ack("second") == "second"
    assert client.emit_with_ack("first")["error"]["code"] == "unknown_event"


def test_large_catalogue_with_a_mistake_changes_nothing(
    gateway: GatewayProcess, events_file: Path, node: NodeClients, user: str
) -> None:
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    events_file.write_text(large_catalogue("second", "call: nowhere"))

    gateway.signal(signal.SIGHUP)
    failed = gateway.log.wait(lambda line: line.get("event") == "settings.reload_failed")

    assert "client_events.last.call" in str(failed["problems"])
    assert client.emit_with_ack("first") == "first"
    assert client.emit_with_ack("second")["error"]["code"] == "unknown_event"


def test_reload_that_is_requested_during_another_one_follows_it(
    gateway: GatewayProcess, events_file: Path, node: NodeClients, user: str
) -> None:
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    for number in range(5):
        events_file.write_text(large_catalogue(f"version{number}"))
        gateway.signal(signal.SIGHUP)
        gateway.push_user(user, "news")
    events_file.write_text("{version: 1, namespaces: {/: {client_events: {final: {ack: final}}}}}")
    gateway.signal(signal.SIGHUP)
    wait_until(lambda: client.emit_with_ack("final") == "final", "the last file is in effect")

    # The reader of an unfinished file may have failed; no reload of an older file ends later.
    wait_until(lambda: len(reloads(gateway)) >= 2, "reloads are logged")
    assert len(reloads(gateway)) <= 6
    gateway.push_user(user, "done")
    assert client.emit_with_ack("final") == "final"


def test_gateway_stops_during_a_reload(events_file: Path) -> None:
    gateway = GatewayProcess(events_file=events_file)
    events_file.write_text(large_catalogue("second"))

    gateway.signal(signal.SIGHUP)

    assert gateway.stop() == 0
    assert gateway.failures() == []


def test_settings_file_that_cannot_be_read_to_its_end_keeps_the_gateway_neither_from_work_nor_from_its_end(
    operator: Operator, user: str
) -> None:
    operator.replace_config_by_a_pipe()
    operator.gateway.signal(signal.SIGHUP)

    assert operator.push(user, FIRST).status == 200
    assert operator.gateway.stop(timeout=20) == 0
