"""``keygen`` prints settings that the gateway accepts."""

from __future__ import annotations

from gateway.settings import load_settings
from tests.unit.cli.command_line import run


def settings_in(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_printed_secrets_are_accepted_and_differ_each_time() -> None:
    first, second = (settings_in(run("keygen").stdout) for _ in range(2))

    settings = load_settings(first)

    assert [key.id for key in settings.ingest_keys] == ["backend"]
    assert len({*first.values(), *second.values()}) == 4


def test_each_key_and_webhook_gets_a_secret_of_its_own() -> None:
    printed = settings_in(run("keygen", "--key", "shop", "--key", "billing", "--webhook", "app").stdout)

    settings = load_settings(printed | {"GATEWAY_WEBHOOKS": "app=https://app.example.com/hook"})

    assert [key.id for key in settings.ingest_keys] == ["shop", "billing"]
    assert settings.ingest_keys[0].secrets != settings.ingest_keys[1].secrets
    assert [(webhook.id, len(webhook.secrets)) for webhook in settings.webhooks] == [("app", 1)]


def test_invalid_id_is_rejected() -> None:
    answer = run("keygen", "--key", "a:b")

    assert answer.returncode == 2
    assert "the id 'a:b' is not 1 to 64 of A-Z a-z 0-9 . _ -" in answer.stderr
    assert answer.stdout == ""


def test_two_keys_with_one_id_are_rejected() -> None:
    answer = run("keygen", "--key", "shop", "--key", "shop")

    assert answer.returncode == 2
    assert "two keys have the same id" in answer.stderr
    assert "GATEWAY_" not in answer.stdout
