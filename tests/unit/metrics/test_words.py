"""Labels that are shown from the start are all that there are: whoever adds a word finds its list here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app.instruments import _KEY_CODES as KEY_CODES
from gateway.domain import endings
from gateway.domain.endings import Ending
from gateway.domain.errors import GatewayError, NotRecovered, Refused, TokenRefused
from gateway.metrics.connections import RECOVERIES, REFRESHES, REFUSALS
from gateway.metrics.messages import SKIPPED
from gateway.metrics.redis import CONNECTIONS
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
    assert said - set(errors.ENDINGS) == set()


def test_a_handshake_is_turned_away_with_words_from_the_list() -> None:
    said = {
        call.args[0].value
        for call in calls(TRANSPORT, ROOT / "gateway/app")
        if getattr(call.func, "id", "") == "unavailable" and isinstance(call.args[0], ast.Constant)
    }

    assert {f"state_{condition}" for condition in ("deaf", "away")} | said == set(errors.HANDSHAKES)


def test_every_refusal_of_the_transport_is_on_the_list() -> None:
    from gateway.transport import errors

    refusals = {each.reason for each in vars(errors).values() if isinstance(each, errors.HandshakeError)}

    assert refusals | set(errors.HANDSHAKES) == set(errors.REFUSALS)


def test_every_ending_is_on_the_list() -> None:
    assert {each for each in vars(endings).values() if isinstance(each, Ending)} == set(endings.ALL)


def test_a_volatile_message_is_skipped_with_a_word_from_the_list() -> None:
    said = words_of("volatile_skipped", TRANSPORT, ROOT / "gateway/hub")

    assert said == set(SKIPPED)


def test_the_connections_to_redis_are_those_on_the_list() -> None:
    redis = ROOT / "gateway/state/redis"

    assert words_of("connection_made", redis) == words_of("connection_failed", redis) == set(CONNECTIONS)


def test_every_code_that_a_client_can_be_refused_with_is_on_the_list() -> None:
    codes = {each.code for each in Refused.__subclasses__() if each is not TokenRefused}

    assert codes | TokenRefused.CODES <= set(REFUSALS)
    assert TokenRefused.CODES | {GatewayError.code} <= set(REFRESHES)
    assert set(RECOVERIES) == NotRecovered.CODES | {"recovered"}


def test_the_codes_of_keys_are_those_of_the_door() -> None:
    assert set(KEY_CODES) - {"ok"} <= set(STATUSES)
