"""The banner of ``serve --dev``: its addresses and commands, and no secret of the operator."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import jwt
import pytest

from gateway.cli.banner import dev_banner, own_command
from gateway.settings import load_settings
from tests.support.paths import ROOT
from tests.unit.cli.command_line import JWT_SECRET

INGEST_SECRET = "the secret that backends sign with"
URL = "http://127.0.0.1:8080"


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is started as by ``make run``."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [".venv/bin/sio-gateway", "serve", "--dev"])


def commands(banner: str) -> list[str]:
    return [line.strip() for line in banner.splitlines() if "sio-gateway " in line and line.startswith("  ")]


def test_every_command_contains_the_secrets_of_the_run() -> None:
    settings = load_settings({}, dev=True)
    key = settings.ingest_keys[0]

    listen, token, user, room, broadcast, presence = commands(dev_banner(settings, URL))

    with_key = f"GATEWAY_KEY=dev GATEWAY_SECRET={key.secrets[0]} .venv/bin/sio-gateway"
    assert listen.startswith(".venv/bin/sio-gateway listen --token ey")
    assert token == f"GATEWAY_JWT_SECRET={settings.jwt_secret[0]} .venv/bin/sio-gateway token --sub bob"
    assert user == f"""{with_key} emit user alice notification:new '{{"title":"hi"}}'"""
    assert room == f"""{with_key} emit room org:7 notification:new '{{"title":"hi"}}'"""
    assert broadcast == f"""{with_key} emit broadcast notification:new '{{"title":"hi"}}'"""
    assert presence == f"{with_key} presence alice"


def test_token_joins_the_room_of_the_room_command() -> None:
    settings = load_settings({"GATEWAY_JWT_AUDIENCE": "web"}, dev=True)
    text = shlex.split(commands(dev_banner(settings, URL))[0])[-1]

    claims = jwt.decode(text, settings.jwt_secret[0], algorithms=["HS256"], audience="web")

    assert (claims["sub"], claims["orgId"]) == ("alice", 7)


def test_banner_shows_the_addresses() -> None:
    banner = dev_banner(load_settings({}, dev=True), URL)

    assert f"Gateway  {URL}\n" in banner
    assert f"Try it   {URL}/dev\n" in banner


def test_commands_for_another_address_contain_it() -> None:
    settings = load_settings({"GATEWAY_INGEST_PORT": "9001", "GATEWAY_SOCKETIO_PATH": "/ws"}, dev=True)

    listen, token, *rest = commands(dev_banner(settings, "http://127.0.0.1:9000"))

    assert "listen --url http://127.0.0.1:9000 --path /ws/ --token" in listen
    assert "--url" not in token
    assert [command.endswith(" --url http://127.0.0.1:9001") for command in rest] == [True] * 4


def test_path_prefix_that_a_proxy_removes_is_signed_but_not_sent() -> None:
    settings = load_settings({"GATEWAY_INGEST_PATH_PREFIX": "/push"}, dev=True)

    user = commands(dev_banner(settings, URL))[2]

    assert " GATEWAY_PORT=8080 GATEWAY_INGEST_PATH_PREFIX=/push " in user
    assert "--url" not in user


def test_secrets_of_the_operator_are_not_shown() -> None:
    environ = {"GATEWAY_JWT_SECRET": JWT_SECRET, "GATEWAY_INGEST_KEYS": f"billing:{INGEST_SECRET}"}

    banner = dev_banner(load_settings(environ, dev=True), URL)

    assert JWT_SECRET not in banner
    assert INGEST_SECRET not in banner
    assert "GATEWAY_JWT_SECRET=YOUR_JWT_SECRET .venv/bin/sio-gateway token --sub bob\n" in banner
    assert "GATEWAY_KEY=billing GATEWAY_SECRET=YOUR_KEY_SECRET .venv/bin/sio-gateway emit user" in banner
    assert "Replace YOUR_JWT_SECRET by your GATEWAY_JWT_SECRET; your own secrets are not shown." in banner
    assert "Replace YOUR_KEY_SECRET by the secret of your ingest key billing;" in banner


def test_banner_has_no_token_if_only_public_keys_are_configured() -> None:
    settings = load_settings({"GATEWAY_JWT_JWKS_URL": "https://id.example/jwks"}, dev=True)

    banner = dev_banner(settings, URL)

    assert "Tokens   come from their issuer" in banner
    assert "listen --token YOUR_TOKEN" in banner


def test_commands_call_the_program_as_it_was_called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert own_command() == ".venv/bin/sio-gateway"

    monkeypatch.setattr(sys, "argv", [str(ROOT / "gateway/__main__.py")])
    monkeypatch.setattr(sys, "executable", str(ROOT / ".venv/bin/python"))
    assert own_command() == ".venv/bin/python -m gateway"

    monkeypatch.setattr(sys, "argv", ["/opt/push gateway/bin/sio-gateway"])
    assert own_command() == "'/opt/push gateway/bin/sio-gateway'"
