"""Handle authenticated requests about users, rooms, connections and replicas: lists, and the socket data."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields

from gateway.domain.errors import InvalidName
from gateway.domain.ingest_keys import ADMIN, PRESENCE
from gateway.domain.listings import ConnectionDetails, ConnectionPage, NamePage, Slice, StateSummary
from gateway.domain.names import MAIN_NAMESPACE, check_room, check_user
from gateway.domain.presence import UserPresence
from gateway.domain.socket_data import MAX_DATA_BYTES, DataTooLarge
from gateway.domain.times import iso_timestamp
from ingest_api.errors import Problem
from ingest_api.idempotency import StoredAnswers
from ingest_api.interfaces import AnswerStore, DedupStore, Listings, PresenceReader, SocketData
from ingest_api.large_body import LARGE_BYTES, BodyReader
from ingest_api.push import check_media_type, read_values
from ingest_api.query import encode_cursor, invalid_cursor, invalid_query, read_page, read_query
from ingest_api.request import AuthenticatedRequest, Require, Response, Route
from ingest_api.schemas import NameList, user_name

MAX_PRESENCE_USERS: Final = 200
_INCOMPLETE: Final[Mapping[str, bool]] = {"complete": False}
"""Part of an answer while a replica of a former release lives, which does not write what lists are made of."""


class PresenceSchema(Schema):
    """The users whose presence is returned."""

    class Meta:
        unknown = RAISE

    users = NameList(
        user_name(),
        check_user,
        is_set=True,
        required=True,
        min_items=1,
        max_items=MAX_PRESENCE_USERS,
        metadata={"description": "The ids of the users.", "examples": [["42", "43"]]},
    )


class SocketDataField(fields.Field[dict[str, Any]]):
    """An object with any members."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError("Not an object.")
        return value


class SocketDataSchema(Schema):
    """A change of the socket data of a connection."""

    class Meta:
        unknown = RAISE

    data = SocketDataField(
        required=True,
        metadata={
            "description": "A JSON merge patch (RFC 7396): members that are null are removed, others are set, objects"
            f" are merged. The data has at most {MAX_DATA_BYTES} bytes of JSON then, the body at most {LARGE_BYTES}.",
            "type": "object",
            "examples": [{"cart": {"items": 3}, "seat": None}],
        },
    )


class _Part(NamedTuple):
    """The part of a list that a query asks for, and what its cursors hold in front: which list it is."""

    slice: Slice
    head: tuple[str, ...]

    def next(self, after: str) -> str | None:
        """Return the cursor of the next page; None at the end."""
        return encode_cursor(*self.head, after) if after else None


class ListingHandlers:
    """One method for each call about users, rooms, connections and replicas."""

    def __init__(
        self,
        *,
        listings: Listings,
        socket_data: SocketData,
        presence: PresenceReader,
        answers: AnswerStore,
        dedup: DedupStore,
        namespaces: Collection[str],
    ) -> None:
        self._listings = listings
        self._socket_data = socket_data
        self._presence = presence
        self._stored = StoredAnswers("connections", answers=answers, dedup=dedup)
        self._dedup = dedup
        self._namespaces = tuple(sorted(namespaces))
        self._users_schema = PresenceSchema()
        self._data_schema = SocketDataSchema()
        self._bodies = BodyReader()

    def routes(self, require: Require) -> tuple[Route, ...]:
        """Return the routes of these calls."""
        return (
            Route("POST", "/presence", require((PRESENCE,), self.presence)),
            Route("GET", "/stats", require((PRESENCE,), self.stats)),
            Route("GET", "/users", require((PRESENCE,), self.users, has_query=True)),
            Route("GET", "/rooms", require((PRESENCE,), self.rooms, has_query=True)),
            Route("GET", "/rooms/{id}", require((PRESENCE,), self.room, has_query=True), "room"),
            Route("GET", "/connections", require((PRESENCE,), self.connections, has_query=True)),
            Route("GET", "/connections/{id}", require((PRESENCE,), self.connection), "sid"),
            Route("PATCH", "/connections/{id}", require((ADMIN,), self.change_data), "sid"),
        )

    async def presence(self, authenticated: AuthenticatedRequest) -> Response:
        """Return the presence of several users."""
        check_media_type(authenticated.request, authenticated.body)
        body = authenticated.body
        users = (await self._bodies.read(body, read_values(self._users_schema, body)))["users"]
        await self._dedup.consume_nonce(authenticated.dedup_key)
        found = await self._presence.of_users(users)
        return _json({"users": {user: _presence(found[user]) for user in users}})

    async def stats(self, authenticated: AuthenticatedRequest) -> Response:
        """Return how many users, connections and rooms there are, and the replicas."""
        await self._dedup.consume_nonce(authenticated.dedup_key)
        return _json(_stats(await self._listings.stats(self._namespaces)))

    async def users(self, authenticated: AuthenticatedRequest) -> Response:
        """Return a page of users."""
        values = read_query(authenticated.request.target, ("namespace", "prefix", "limit", "cursor"))
        namespace, prefix = self._namespace(values, None), values.get("prefix", "")
        part = _part(values, "users", namespace or "", prefix)
        await self._dedup.consume_nonce(authenticated.dedup_key)
        namespaces = self._namespaces if namespace is None else (namespace,)
        return _names("users", part, await self._listings.users(namespaces, prefix, part.slice))

    async def rooms(self, authenticated: AuthenticatedRequest) -> Response:
        """Return a page of rooms."""
        values = read_query(authenticated.request.target, ("namespace", "prefix", "limit", "cursor"))
        namespace, prefix = self._room_namespace(values), values.get("prefix", "")
        part = _part(values, "rooms", namespace, prefix)
        await self._dedup.consume_nonce(authenticated.dedup_key)
        return _names("rooms", part, await self._listings.rooms(namespace, prefix, part.slice))

    async def room(self, authenticated: AuthenticatedRequest) -> Response:
        """Return what is in a room."""
        room = authenticated.request.room or ""
        namespace = self._room_namespace(read_query(authenticated.request.target, ("namespace",)))
        await self._dedup.consume_nonce(authenticated.dedup_key)
        found = await self._listings.room(namespace, room)
        return _json(
            {
                "room": room,
                "connections": found.connections,
                "users": found.users,
                "recoverable": found.recoverable,
                **_completeness(found.is_complete),
            }
        )

    async def connections(self, authenticated: AuthenticatedRequest) -> Response:
        """Return a page of the connections of a user, or of those in a room."""
        values = read_query(authenticated.request.target, ("namespace", "user", "room", "limit", "cursor"))
        if ("user" in values) == ("room" in values):
            raise invalid_query("the query has either user or room")
        if "user" in values:
            namespace, user = self._namespace(values, None), _name(values, "user", check_user)
            part = _part(values, "user", namespace or "", user)
            await self._dedup.consume_nonce(authenticated.dedup_key)
            page = await self._listings.connections_of(user, namespace, part.slice)
        else:
            in_namespace, room = self._room_namespace(values), _name(values, "room", check_room)
            part = _part(values, "room", in_namespace, room)
            if not self._listings.rules.lists(in_namespace, room):
                raise Problem("members_not_listed", "the event catalogue has no list_members for the room")
            await self._dedup.consume_nonce(authenticated.dedup_key)
            page = await self._listings.members(in_namespace, room, part.slice)
        return _connections(part, page)

    async def connection(self, authenticated: AuthenticatedRequest) -> Response:
        """Return a connection."""
        await self._dedup.consume_nonce(authenticated.dedup_key)
        found = await self._listings.connection(_sid(authenticated))
        if found is None:
            raise _unknown_connection()
        return _json(_connection(found))

    async def change_data(self, authenticated: AuthenticatedRequest) -> Response:
        """Change the socket data of a connection."""
        check_media_type(authenticated.request, authenticated.body)
        patch = await self._read_patch(authenticated.body)

        async def apply() -> bytes:
            # A merge patch that is applied twice changes nothing the second time.
            try:
                data = await self._socket_data.patch(_sid(authenticated), patch)
            except DataTooLarge:
                raise _invalid_data(f"The data has more than {MAX_DATA_BYTES} bytes then.") from None
            except ValueError:
                raise _invalid_data("A number is infinite.") from None
            if data is None:
                raise _unknown_connection()
            return b'{"data":%b}' % data.encode()

        return await self._stored.apply(authenticated, apply)

    async def _read_patch(self, body: bytes) -> dict[str, Any]:
        await self._bodies.read(body, read_values(self._data_schema, body))
        if len(body) > LARGE_BYTES:
            raise _invalid_data(f"The body has more than {LARGE_BYTES} bytes.")
        try:
            # The parser of bodies leaves numbers out.
            data: dict[str, Any] = json.loads(body)["data"]
        except ValueError:  # an integer of thousands of digits
            raise _invalid_data("A number is too long.") from None
        return data

    def _namespace(self, values: Mapping[str, str], absent: str | None) -> str | None:
        namespace = values.get("namespace", absent)
        if namespace is not None and namespace not in self._namespaces:
            raise invalid_query(f"namespace is one of {', '.join(self._namespaces)}")
        return namespace

    def _room_namespace(self, values: Mapping[str, str]) -> str:
        return self._namespace(values, MAIN_NAMESPACE) or MAIN_NAMESPACE


def _part(values: Mapping[str, str], *head: str) -> _Part:
    """Return the part that a query asks for.

    Raises:
        Problem: ``limit`` or ``cursor`` has no allowed value; a cursor of another list is none (``invalid_query``).
    """
    page = read_page(values)
    # A digest, because names are long in a URL: the cursor would be too long for it.
    head = (head[0], blake2b(orjson.dumps(head), digest_size=9).hexdigest())
    if page.cursor is None:
        return _Part(Slice(page.limit), head)
    match page.cursor:
        case (*before, str(after)) if tuple(before) == head and after:
            return _Part(Slice(page.limit, after), head)
    raise invalid_cursor()


def _name(values: Mapping[str, str], parameter: str, check: Callable[[str], str]) -> str:
    try:
        return check(values[parameter])
    except InvalidName as error:
        raise invalid_query(f"{parameter}: {error.message}") from None


def _sid(authenticated: AuthenticatedRequest) -> str:
    return authenticated.request.sid or ""


def _unknown_connection() -> Problem:
    return Problem("unknown_connection", "no connection with this sid is open")


def _invalid_data(sentence: str) -> Problem:
    return Problem("invalid_body", "the body breaks the rules: data", errors={"data": [sentence]})


def _completeness(is_complete: bool) -> Mapping[str, bool]:
    return {} if is_complete else _INCOMPLETE


def _presence(found: UserPresence) -> Mapping[str, object]:
    content: dict[str, object] = {
        "online": found.is_online,
        "connections": len(found.connections),
        "recoverable": found.recoverable,
        "last_seen": None if found.last_seen is None else iso_timestamp(found.last_seen),
    }
    if found.version is not None:
        content["version"] = found.version
    return content


def _stats(found: StateSummary) -> Mapping[str, object]:
    return {
        "users": found.users,
        "connections": found.connections,
        "rooms": found.rooms,
        "namespaces": {name: each._asdict() for name, each in found.namespaces.items()},
        "replicas": [
            {
                "id": each.id,
                "connections": each.connections,
                "version": each.version,
                "since": iso_timestamp(each.since),
            }
            for each in found.replicas
        ],
        **_completeness(found.is_complete),
    }


def _names(member: str, part: _Part, page: NamePage) -> Response:
    return _json(
        {
            member: [each._asdict() for each in page.names],
            "next": part.next(page.next),
            **_completeness(page.is_complete),
        }
    )


def _connections(part: _Part, page: ConnectionPage) -> Response:
    return _json(
        {
            "connections": [_connection(each) for each in page.connections],
            "next": part.next(page.next),
            **_completeness(page.is_complete),
        }
    )


def _connection(found: ConnectionDetails) -> Mapping[str, object]:
    connection = found.connection
    return {
        "sid": connection.sid,
        "user": connection.user,
        "namespace": connection.namespace,
        "rooms": found.rooms,
        "data": orjson.Fragment(found.stored.text),
        "replica": connection.replica,
        "transport": connection.transport,
        "connected_at": iso_timestamp(connection.connected_at),
    }


def _json(content: Mapping[str, object]) -> Response:
    return Response(orjson.dumps(content))
