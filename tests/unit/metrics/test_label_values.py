"""The lists of initial label values are complete: a new value must be added to its list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.domain import disconnects
from gateway.domain.disconnects import DisconnectReason
from gateway.domain.errors import ConnectionRejected, GatewayError, RecoveryFailed, TokenRejected
from gateway.hub.registry import SKIPPED
from gateway.metrics.push import KEY_CODES
from gateway.socketio_server.access_log import REJECTIONS
from gateway.socketio_server.connect_handshake import RECOVERIES
from gateway.socketio_server.token_refresh import REFRESHES
from gateway.transport import errors
from ingest_api.errors import STATUSES
from tests.support.paths import ROOT

TRANSPORT = ROOT / "gateway/transport"


def calls(*folders: Path) -> Iterator[ast.Call]:
    """Yield every call in the modules of these folders."""
    for folder in folders:
        for path in folder.rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def literals_of(name: str, *folders: Path) -> set[str]:
    """Return the string literals in the first two arguments of every call of a function or method of that name."""
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


@pytest.mark.parametrize("method", ["abort", "lost", "fail", "end"])
def test_transport_closes_sessions_for_listed_reasons(method: str) -> None:
    found = literals_of(method, TRANSPORT)

    assert found
    assert found - set(errors.CLOSE_REASONS) == set()


def test_handshakes_are_rejected_for_listed_reasons() -> None:
    found = {
        call.args[0].value
        for call in calls(TRANSPORT, ROOT / "gateway/runtime")
        if getattr(call.func, "id", "") == "unavailable" and isinstance(call.args[0], ast.Constant)
    }

    assert found == set(errors.HANDSHAKES)


def test_every_rejection_of_the_transport_is_listed() -> None:
    from gateway.transport import errors

    rejections = {each.reason for each in vars(errors).values() if isinstance(each, errors.HandshakeError)}

    assert rejections | set(errors.HANDSHAKES) == set(errors.REJECTIONS)


def test_every_disconnect_reason_is_listed() -> None:
    assert {each for each in vars(disconnects).values() if isinstance(each, DisconnectReason)} == set(
        disconnects.ALL
    )


def test_volatile_messages_are_skipped_for_listed_reasons() -> None:
    found = literals_of("volatile_skipped", TRANSPORT) | literals_of(
        "count_volatile_skipped", ROOT / "gateway/hub"
    )

    assert found == set(SKIPPED)


def test_every_rejection_code_of_clients_is_listed() -> None:
    codes = {each.code for each in ConnectionRejected.__subclasses__() if each is not TokenRejected}

    assert codes | TokenRejected.CODES <= set(REJECTIONS)
    assert TokenRejected.CODES | {GatewayError.code} <= set(REFRESHES)
    assert set(RECOVERIES) == RecoveryFailed.CODES | {"recovered"}


def test_codes_of_ingest_keys_are_those_of_the_rest_api() -> None:
    assert set(KEY_CODES) - {"ok"} <= set(STATUSES)
