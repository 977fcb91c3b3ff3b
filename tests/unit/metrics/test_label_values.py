"""Labels that are shown from the start are all that there are: whoever adds a word finds its list here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.domain import disconnects
from gateway.domain.disconnects import DisconnectReason
from gateway.domain.errors import ConnectionRejected, GatewayError, RecoveryFailed, TokenRejected
from gateway.hub.registry import SKIPPED
from gateway.metrics.requests import KEY_CODES
from gateway.socketio_server.connect_handshake import RECOVERIES
from gateway.socketio_server.server import REJECTIONS
from gateway.socketio_server.token_refresh import REFRESHES
from gateway.transport import errors
from ingest_api.errors import STATUSES
from tests.support.paths import ROOT

TRANSPORT = ROOT / "gateway/transport"


def calls(*folders: Path) -> Iterator[ast.Call]:
    """Every call in the modules of these folders."""
    for folder in folders:
        for path in folder.rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def words_of(name: str, *folders: Path) -> set[str]:
    """The texts among the first two arguments of every call of a function or method of that name."""
    found = set()
    for call in calls(*folders):
        called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if called == name:
            found |= {
                each.value
                for argument in call.args[:2]
                for each in ast.walk(argument)
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            }
    return found


@pytest.mark.parametrize("way", ["abort", "lost", "fail", "end"])
def test_the_transport_ends_sessions_with_words_from_the_list(way: str) -> None:
    said = words_of(way, TRANSPORT)

    assert said
    assert said - set(errors.CLOSE_REASONS) == set()


def test_a_handshake_is_turned_away_with_words_from_the_list() -> None:
    said = {
        call.args[0].value
        for call in calls(TRANSPORT, ROOT / "gateway/runtime")
        if getattr(call.func, "id", "") == "unavailable" and isinstance(call.args[0], ast.Constant)
    }

    assert said == set(errors.HANDSHAKES)


def test_every_refusal_of_the_transport_is_on_the_list() -> None:
    from gateway.transport import errors

    refusals = {each.reason for each in vars(errors).values() if isinstance(each, errors.HandshakeError)}

    assert refusals | set(errors.HANDSHAKES) == set(errors.REJECTIONS)


def test_every_ending_is_on_the_list() -> None:
    assert {each for each in vars(disconnects).values() if isinstance(each, DisconnectReason)} == set(
        disconnects.ALL
    )


def test_a_volatile_message_is_skipped_with_a_word_from_the_list() -> None:
    said = words_of("volatile_skipped", TRANSPORT) | words_of("count_volatile_skipped", ROOT / "gateway/hub")

    assert said == set(SKIPPED)


def test_every_code_that_a_client_can_be_refused_with_is_on_the_list() -> None:
    codes = {each.code for each in ConnectionRejected.__subclasses__() if each is not TokenRejected}

    assert codes | TokenRejected.CODES <= set(REJECTIONS)
    assert TokenRejected.CODES | {GatewayError.code} <= set(REFRESHES)
    assert set(RECOVERIES) == RecoveryFailed.CODES | {"recovered"}


def test_the_codes_of_keys_are_those_of_the_door() -> None:
    assert set(KEY_CODES) - {"ok"} <= set(STATUSES)
