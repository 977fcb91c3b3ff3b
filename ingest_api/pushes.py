"""From a body to what the backend wants done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from marshmallow import ValidationError

from gateway.domain.names import MAIN_NAMESPACE
from gateway.domain.times import instant
from ingest_api import envelope
from ingest_api.envelope import Envelope, InvalidJson, NoEnvelope
from ingest_api.errors import Problem
from ingest_api.plain import read_plain
from ingest_api.schemas import DisconnectSchema, EmitSchema

MAX_FIELD_ERRORS: Final = 20
_MAX_FIELD_NAME: Final = 64
_NOBODY: Final[frozenset[str]] = frozenset()


class Push(NamedTuple):
    """An event to push. ``arguments`` are JSON texts; ``room`` and ``rooms`` as in the body, which has one or none."""

    event: str
    namespace: str
    arguments: tuple[str, ...]
    exclude: frozenset[str]
    volatile: bool
    room: str | None
    rooms: tuple[str, ...]


class Disconnect(NamedTuple):
    """Connections to end; ``namespace`` None means in all."""

    namespace: str | None
    exclude: frozenset[str]
    revoke: bool


def read_push(schema: EmitSchema, body: bytes, *, now: float) -> Push:
    """The event in a body. Raises Problem."""
    plain = read_plain(body, with_room=schema.to_room) if MAIN_NAMESPACE in schema.namespaces else None
    if plain is not None:
        return Push(plain.event, MAIN_NAMESPACE, (plain.data,), _NOBODY, False, plain.room, ())
    return read_push_closely(schema, body, now=now)


def read_push_closely(schema: EmitSchema, body: bytes, *, now: float) -> Push:
    """The event in any body, by way of the schema. Raises Problem."""
    parsed = _parse(body)
    loaded = _load(schema, parsed)
    return Push(
        event=loaded["event"],
        namespace=loaded["namespace"],
        arguments=_arguments(parsed, loaded, now),
        exclude=frozenset(loaded["except_"]),
        volatile=loaded["volatile"],
        room=loaded.get("room"),
        rooms=tuple(loaded.get("rooms", ())),
    )


def read_disconnect(schema: DisconnectSchema, body: bytes) -> Disconnect:
    """The order in a body; an empty body says what ``{}`` says. Raises Problem."""
    loaded = _load(schema, _parse(body or b"{}"))
    return Disconnect(
        namespace=loaded.get("namespace"), exclude=frozenset(loaded["except_"]), revoke=loaded["revoke"]
    )


def _parse(body: bytes) -> Envelope:
    try:
        return envelope.parse(body)
    except InvalidJson as error:
        raise Problem("invalid_json", str(error)) from None
    except NoEnvelope as error:
        raise Problem("invalid_body", str(error), errors={}) from None


def _load(schema: EmitSchema | DisconnectSchema, parsed: Envelope) -> dict[str, Any]:
    try:
        loaded: dict[str, Any] = schema.load(parsed.values)
    except ValidationError as error:
        errors = dict(islice(_flat(error.messages_dict, ""), MAX_FIELD_ERRORS))
        raise Problem(
            "invalid_body", f"the body breaks the rules: {', '.join(errors)}", errors=errors
        ) from None
    return loaded


def _arguments(parsed: Envelope, loaded: Mapping[str, Any], now: float) -> tuple[str, ...]:
    data = parsed.raw.get("data")
    if data is not None:
        return (envelope.with_timestamp(data, loaded["data"], instant(now)) if loaded["timestamp"] else data,)
    args = parsed.raw.get("args")
    return () if args is None else envelope.elements(args)


def _flat(messages: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, list[str]]]:
    """marshmallow's nested messages by the path of the field, such as ``rooms.3``."""
    for name, value in messages.items():
        path = f"{prefix}{str(name)[:_MAX_FIELD_NAME]}"
        if isinstance(value, Mapping):
            yield from _flat(value, path + ".")
        else:
            yield path, [str(sentence) for sentence in value]
