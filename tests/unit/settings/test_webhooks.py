"""Webhooks and their secrets."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.domain.ingest_keys import Scope
from gateway.domain.webhooks import Webhook
from gateway.settings import Settings, SettingsError, changed_settings, load_settings

KEYS = {"GATEWAY_JWT_SECRET": "j" * 32, "GATEWAY_INGEST_KEYS": "billing:" + "b" * 32}
ONE, TWO = ("whsec_" + base64.b64encode(character * 32).decode() for character in (b"1", b"2"))
WRONG_URL = "its url does not begin with https:// or http:// and a host, or contains spaces, a user name or a password"
URL = "https://app.example.com/gateway?token=s3cret"


def from_yaml(folder: Path, *webhooks: Any, **environ: str) -> Settings:
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump({"webhooks": list(webhooks)}), encoding="utf-8")
    return load_settings(KEYS | {"GATEWAY_CONFIG": str(path)} | environ)


def problems(load: Any) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load()
    for secret in ("s3cret", ONE[8:], TWO[8:]):
        assert secret not in str(raised.value)
    return [each.partition(" (in ")[0] for each in raised.value.problems]


def test_no_webhook_is_the_default() -> None:
    assert load_settings(KEYS).webhooks == ()


def test_webhook_of_the_environment_has_its_secrets_beside_it(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text(f"app:{ONE}\napp:{TWO}\n", encoding="utf-8")
    expected = (Webhook(id="app", url=URL, secrets=(ONE, TWO)),)

    for given in (
        {"GATEWAY_WEBHOOK_SECRETS": f"app:{ONE},app:{TWO}"},
        {"GATEWAY_WEBHOOK_SECRETS_FILE": str(secrets)},
    ):
        settings = load_settings(KEYS | {"GATEWAY_WEBHOOKS": f"app={URL}"} | given)
        assert settings.webhooks == expected
        assert "s3cret" not in repr(settings)
        assert ONE not in repr(settings)


def test_webhook_of_yaml_has_every_field(tmp_path: Path) -> None:
    secrets = tmp_path / "app"
    secrets.write_text(f"{TWO}\n{ONE}\n", encoding="utf-8")

    settings = from_yaml(
        tmp_path,
        {
            "id": "app",
            "url": URL,
            "secret_file": str(secrets),
            "timeout_seconds": 0.1,
            "in_flight": 2,
            "may": ["emit:room:chat:*", "join:match:*", "disconnect"],
            "insecure": True,
            "batch": 100,
            "keep_seconds": "2h",
            "partitions": 256,
        },
        {"id": "other", "url": "http://other:8000/", "secret": ONE},
    )

    assert settings.webhooks == (
        Webhook(
            id="app",
            url=URL,
            secrets=(TWO, ONE),
            timeout_seconds=0.1,
            in_flight=2,
            may=(Scope("emit:room", "chat:*"), Scope("join", "match:*"), Scope("disconnect")),
            insecure=True,
            batch=100,
            keep_seconds=7200.0,
            partitions=256,
        ),
        Webhook(id="other", url="http://other:8000/", secrets=(ONE,)),
    )


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    found = problems(
        lambda: from_yaml(
            tmp_path,
            {"id": "a b", "url": "ftp://s3cret", "timeout_seconds": 26, "in_flight": 0, "may": ["admin"]},
            {"id": "b", "url": URL, "secret": "whsec_" + ONE[8:12], "colour": 1},
            {"id": "c", "url": URL, "secret": ONE, "secret_file": "/nowhere"},
            {"id": "d", "url": URL, "cert_file": "/nowhere"},
            {"id": "e", "url": URL, "ca_file": "/nowhere"},
            {"id": "f", "url": "http://f/", "ca_file": "/nowhere"},
            {"id": "g", "url": "https://user:s3cret@g/"},
            {"id": "h", "url": URL + "#a"},
            "i",
            {"id": "j", "url": URL, "batch": 101, "keep_seconds": 59, "partitions": 0},
            {"id": "k", "url": URL, "batch": 0, "keep_seconds": 604_801, "partitions": 257},
        )
    )

    assert found == [
        f"GATEWAY_WEBHOOKS: webhook {sentence}"
        for sentence in (
            "1: its id is not 1 to 64 characters of A-Z a-z 0-9 . _ -",
            f"1: {WRONG_URL}",
            "1: timeout_seconds is not from 0.1 to 25 seconds",
            "1: in_flight 0 is out of range: it must be from 1 to 1000",
            (
                "1: "
                "'admin' is not something that answers may do: use emit:user[:<glob>], emit:room[:<glob>], "
                "broadcast, join[:<glob>], disconnect"
            ),
            (
                "2: unknown field 'colour'; known are id, url, secret, secrets, secret_file, timeout_seconds, "
                "in_flight, may, insecure, ca_file, cert_file, key_file, batch, keep_seconds, partitions"
            ),
            "2: the base64 of a secret is not that of 24 to 64 bytes",
            "3: it has more than one of secret, secrets and secret_file",
            "4: it needs both of cert_file and key_file, or none",
            "5: cannot read /nowhere: No such file or directory",
            "6: ca_file need a url that begins with https://",
            f"7: {WRONG_URL}",
            "8: its url has a fragment, which is never sent",
            "9: has no equals sign between its id and its URL",
            "10: batch 101 is out of range: it must be from 1 to 100",
            "10: keep_seconds is not from 60 to 604800 seconds",
            "10: partitions 0 is out of range: it must be from 1 to 256",
            "11: batch 0 is out of range: it must be from 1 to 100",
            "11: keep_seconds is not from 60 to 604800 seconds",
            "11: partitions 257 is out of range: it must be from 1 to 256",
        )
    ]


def test_webhook_without_a_secret_and_secret_without_a_webhook_are_rejected(tmp_path: Path) -> None:
    found = problems(
        lambda: load_settings(
            KEYS | {"GATEWAY_WEBHOOKS": f"app={URL}", "GATEWAY_WEBHOOK_SECRETS": f"other:{ONE}"}
        )
    )

    assert [each.partition(": ")[2] for each in found] == [
        (
            "the webhook 'app' has no secret: give it a secret_file, or set GATEWAY_WEBHOOK_SECRETS to app:whsec_… "
            "(`echo whsec_$(openssl rand -base64 32)` makes one)"
        ),
        "no webhook has the id 'other'",
    ]


def test_two_webhooks_of_one_id_and_two_sources_of_a_secret_are_rejected(tmp_path: Path) -> None:
    app = {"id": "app", "url": URL, "secret": ONE}

    assert problems(lambda: from_yaml(tmp_path, app, app)) == [
        "GATEWAY_WEBHOOKS: two webhooks have the id 'app'"
    ]
    assert problems(lambda: from_yaml(tmp_path, app, GATEWAY_WEBHOOK_SECRETS=f"app:{TWO}")) == [
        "GATEWAY_WEBHOOK_SECRETS: the webhook 'app' has a secret in GATEWAY_WEBHOOKS too"
    ]


def test_file_that_is_no_certificate_is_rejected(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate", encoding="utf-8")
    app = {"id": "app", "url": URL, "secret": ONE, "ca_file": str(ca)}

    assert problems(lambda: from_yaml(tmp_path, app)) == [
        f"GATEWAY_WEBHOOKS: webhook 1: {ca} has no certificates in PEM that can be read"
    ]


def test_rotated_secret_file_is_a_change_of_the_webhooks(tmp_path: Path) -> None:
    secrets = tmp_path / "app"
    app = {"id": "app", "url": URL, "secret_file": str(secrets)}
    secrets.write_text(ONE, encoding="utf-8")
    before = from_yaml(tmp_path, app)
    secrets.write_text(f"{TWO}\n{ONE}", encoding="utf-8")

    assert changed_settings(before, from_yaml(tmp_path, app)) == {"webhooks"}


@pytest.mark.parametrize("host", ["a..b", ".example", "a" * 64 + ".example"])
def test_host_that_cannot_be_looked_up_is_rejected(host: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(
            KEYS | {"GATEWAY_WEBHOOKS": f"app=http://{host}/", "GATEWAY_WEBHOOK_SECRETS": f"app:{ONE}"}
        )

    assert WRONG_URL in str(raised.value)


@pytest.mark.parametrize("host", ["a.b.", "app_1.ns", "[::1]", "127.0.0.1", "a" * 63])
def test_host_that_may_be_looked_up_is_accepted(host: str) -> None:
    settings = load_settings(
        KEYS | {"GATEWAY_WEBHOOKS": f"app=http://{host}/", "GATEWAY_WEBHOOK_SECRETS": f"app:{ONE}"}
    )

    assert settings.webhooks[0].url == f"http://{host}/"
