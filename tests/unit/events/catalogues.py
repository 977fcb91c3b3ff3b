"""A catalogue with the events of a chat, made of values: the documents that are generated from it are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.domain.event_catalogue import (
    Announcement,
    Arguments,
    ClientEvent,
    Emission,
    EventCatalogue,
    NamespaceEvents,
    OnError,
    OnlineUsers,
    PresenceNotices,
    ServerEvent,
    Target,
    TargetKind,
)
from gateway.domain.templates import Literal, ObjectTemplate, Reference, Template


@dataclass(frozen=True)
class Source:
    """A schema as the catalogue has it, that accepts everything."""

    source: Mapping[str, object] | bool

    def accepts(self, value: object) -> bool:
        return True

    def problems(self, value: object) -> Mapping[str, str]:  # generated documents need the source alone
        return {}


TEXT = {"type": "string"}
MESSAGE = {
    "type": "object",
    "required": ["text", "room"],
    "properties": {
        "text": {"type": "string", "description": "What to say."},
        "room": TEXT,
        "tags": {"type": "array", "items": TEXT},
    },
}
SELF = (Target(TargetKind.SELF),)
EVERYONE = (Target(TargetKind.EVERYONE),)


def arguments(*schemas: Any, optional: int = 0) -> Arguments:
    """Return arguments with these schemas."""
    return Arguments(tuple(None if schema is None else Source(schema) for schema in schemas), optional)


def object_of(**members: Template) -> ObjectTemplate:
    return ObjectTemplate(tuple(members.items()))


def emission(event: str, *templates: Template) -> Emission:
    return Emission(to=SELF, event=event, arguments=templates)


ROOM = Reference("0")
JOIN = ClientEvent(
    name="joinRoom",
    args=arguments(TEXT),
    join=ROOM,
    emit=(
        emission("userJoined", object_of(userId=Reference("sid"), room=ROOM)),
        emission("joinedRoom", object_of(room=ROOM)),
    ),
    ack=object_of(event=Literal("joinedRoom"), room=ROOM),
)
SEND = ClientEvent(
    name="message",
    args=arguments({"$ref": "#/schemas/ChatMessage"}),
    emit=(
        emission(
            "message",
            object_of(
                text=Reference("0", ("text",)), sender=Reference("sid"), tags=Reference("0", ("tags",))
            ),
        ),
        emission("message", Literal("Message received")),
    ),
)
TYPING = ClientEvent(name="typing", args=arguments(TEXT, {"type": "boolean"}, optional=1))
QUIT = ClientEvent(
    name="match:quit",
    args=arguments(None),
    call="app",
    returns=Source(
        {"type": "object", "required": ["success"], "properties": {"success": {"type": "boolean"}}}
    ),
    on_error=OnError(ack=object_of(success=Literal(False), error=Reference("error", ("message",)))),
)
CHAT = EventCatalogue(
    namespaces={
        "/chat": NamespaceEvents(
            client_events={event.name: event for event in (JOIN, SEND, TYPING)},
            server_events={"score": ServerEvent("score", arguments({"type": "integer"}, TEXT, optional=1))},
            online_users=OnlineUsers(
                "onlineUsers", object_of(socketId=Reference("sid"), userId=Reference("sub")), max_entries=20
            ),
        ),
        "/": NamespaceEvents(
            error_event="exception",
            client_events={
                "match:quit": QUIT,
                "old": ClientEvent(name="old", reject="use match:quit */ instead"),
            },
            patterns=(ClientEvent(name="log:*", call="app"), ClientEvent(name="*", reject="unknown")),
        ),
    },
    schemas={"ChatMessage": MESSAGE},
    presence=PresenceNotices(
        announce=(
            Announcement(
                True, "/chat", EVERYONE, "status", (Reference("user"), Literal(True), Reference("version"))
            ),
            Announcement(False, "/chat", EVERYONE, "status", (Reference("user"), Literal(False))),
            Announcement(False, "/events", EVERYONE, "gone", (object_of(at=Reference("since")),)),
        )
    ),
)
