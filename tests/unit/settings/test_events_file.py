"""GATEWAY_EVENTS_FILE: the catalogue is a part of the settings, and its mistakes are listed with theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.domain.event_catalogue import EventCatalogue
from gateway.settings import Settings, SettingsError, changed_settings, load_settings

GOOD = {
    "GATEWAY_JWT_SECRET": "the secret that tokens are signed with",
    "GATEWAY_INGEST_KEYS": "billing:the secret that backends sign with",
}
NO_WEBHOOK = "is not the id of a webhook in GATEWAY_WEBHOOKS; none is configured"
CATALOGUE = "version: 1\nnamespaces: {/: {client_events: {e: {}}}}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.yaml"


def load(file: Path, text: str | bytes = CATALOGUE, **more: str) -> Settings:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_settings(GOOD | {"GATEWAY_EVENTS_FILE": str(file)} | more)


def problems(file: Path, text: str | bytes = CATALOGUE, **more: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(file, text, **more)
    return raised.value.problems


def test_without_a_file_the_catalogue_is_empty() -> None:
    assert load_settings(GOOD).event_catalogue == EventCatalogue()


def test_file_becomes_the_catalogue(file: Path) -> None:
    assert list(load(file).event_catalogue.namespaces["/"].client_events) == ["e"]


def test_announcements_know_the_rooms_that_claims_grant(file: Path) -> None:
    text = (
        "version: 1\npresence: {announce: [{when: online, namespace: /, to: {own_rooms: '*'}, event: x}]}\n"
    )

    presence = load(file, text, GATEWAY_ROOM_CLAIMS="groups=team:").event_catalogue.presence

    assert presence is not None
    assert presence.announce[0].claim_prefixes == ("user:", "org:", "tenant:", "role:", "team:")


def test_byte_order_mark_is_skipped(file: Path) -> None:
    assert list(load(file, b"\xef\xbb\xbf" + CATALOGUE.encode()).event_catalogue.namespaces) == ["/"]


def test_mistakes_are_listed_with_all_other_problems(file: Path) -> None:
    found = problems(
        file,
        "version: 1\nnamespaces:\n  /: {client_events: {e: {rat: 5, call: app}}}\n  /chat: {}\n",
        GATEWAY_PORT="high",
    )

    mistakes = [
        "namespaces./.client_events.e.rat: is an unknown key; did you mean rate? (line 3)",
        f"namespaces./.client_events.e.call: {NO_WEBHOOK} (line 3)",
        "namespaces./chat: is not in GATEWAY_NAMESPACES (line 4)",
    ]
    assert found == [
        "GATEWAY_PORT: 'high' is not a plain integer such as 1",
        *(f"GATEWAY_EVENTS_FILE: {mistake} (in {file})" for mistake in mistakes),
    ]


def test_wrong_namespaces_and_webhooks_cause_no_second_problem(file: Path) -> None:
    found = problems(
        file,
        "version: 1\nnamespaces: {/chat: {client_events: {e: {call: app}}}}\n",
        GATEWAY_NAMESPACES="chat",
        GATEWAY_WEBHOOKS="nonsense",
    )

    assert [problem for problem in found if "EVENTS_FILE" in problem] == []


def test_webhooks_of_the_settings_are_known(file: Path) -> None:
    settings = load(
        file,
        "version: 1\nnamespaces: {/: {client_events: {e: {call: app}}}}\n",
        GATEWAY_WEBHOOKS="app=https://app.example.com/gateway",
        GATEWAY_WEBHOOK_SECRETS="app:whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE=",
    )

    assert settings.event_catalogue.webhooks() == {"app"}


def test_unreadable_files_are_a_problem(file: Path) -> None:
    assert problems(file, b"\xff") == [f"GATEWAY_EVENTS_FILE: {file} is not UTF-8"]
    assert problems(file, "#" * (1024 * 1024 + 1)) == [f"GATEWAY_EVENTS_FILE: {file} is larger than 1 MiB"]
    assert problems(file, GATEWAY_EVENTS_FILE="/nowhere") == [
        "GATEWAY_EVENTS_FILE: cannot read /nowhere: No such file or directory"
    ]


def test_commands_that_only_call_a_gateway_do_not_read_the_file() -> None:
    settings = load_settings(GOOD | {"GATEWAY_EVENTS_FILE": "/nowhere"}, require_keys=False)

    assert settings.event_catalogue == EventCatalogue()


def test_changed_content_is_a_changed_setting(file: Path) -> None:
    before, same = load(file), load(file)
    after = load(file, CATALOGUE.replace("e:", "f:"))

    assert changed_settings(before, same) == frozenset()
    assert changed_settings(before, after) == {"events_file"}
