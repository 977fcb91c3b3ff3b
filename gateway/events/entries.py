"""Entries of ``client_events`` and ``server_events``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.domain.event_catalogue import (
    RESERVED_PREFIXES,
    Arguments,
    ClientEvent,
    OnError,
    ServerEvent,
)
from gateway.domain.names import check_client_event, check_event
from gateway.domain.templates import Literal, Reference, Template
from gateway.events.emissions import EmissionRules, read_emissions, read_name
from gateway.events.mistakes import Part, only_one
from gateway.events.rules import read_globs, read_webhook
from gateway.events.schemas import SchemaReader
from gateway.events.templates import MAX_ARGUMENTS, Scope, read_reference, read_template

MAX_RATE: Final = 1_000_000.0
MAX_SENTENCE_CHARACTERS: Final = 300
OWN_EVENTS: Final = ("auth:refresh",)
"""Events of clients that the gateway handles itself."""

_KEYS: Final = (
    "args", "optional", "returns", "allow", "rate", "user_rate", "dedupe", "serial", "call", "notify", "reject",
    "join", "leave", "emit", "ack", "on_error",
)  # fmt: skip
_WITHOUT_EFFECT: Final = ("dedupe", "serial", "join", "leave", "emit", "ack")
"""Keys that have no effect beside ``reject``."""


@dataclass(frozen=True, slots=True)
class EntryReader:
    """Reads entries of one namespace. ``broadcasts``: some client may reach everyone in it."""

    schemas: SchemaReader
    webhooks: Collection[str] | None
    broadcasts: bool

    def client_event(self, name: str, part: Part) -> ClientEvent | None:
        """Return the entry; None if its name is wrong."""
        if not _is_event_name(name, part):
            return None
        fields = part.fields(_KEYS)
        only_one(fields, "call", "notify", "reject")
        only_one(fields, "join", "leave")
        _check_combinations(fields)
        args = self._arguments(fields)
        scope = Scope(MAX_ARGUMENTS if args.schemas is None else len(args.schemas))
        rules = EmissionRules(scope, "join" in fields or "leave" in fields, self.broadcasts)
        return ClientEvent(
            name=name,
            args=args,
            returns=self.schemas.read(fields["returns"]) if "returns" in fields else None,
            allow=read_globs(fields["allow"]) if "allow" in fields else None,
            rate=_rate(fields.get("rate")),
            user_rate=_rate(fields.get("user_rate")),
            dedupe=_dedupe(fields.get("dedupe"), scope),
            serial=bool(fields["serial"].boolean()) if "serial" in fields else False,
            call=read_webhook(fields["call"], self.webhooks) if "call" in fields else None,
            notify=read_webhook(fields["notify"], self.webhooks) if "notify" in fields else None,
            reject=_sentence(fields.get("reject")),
            join=_room(fields.get("join"), scope),
            leave=_room(fields.get("leave"), scope),
            emit=read_emissions(fields["emit"], rules) if "emit" in fields else (),
            ack=read_template(fields["ack"], scope) if "ack" in fields else None,
            on_error=_on_error(fields["on_error"], scope) if "on_error" in fields else OnError(),
        )

    def server_event(self, name: str, part: Part) -> ServerEvent | None:
        """Return the entry; None if its name is wrong."""
        if _checked(name, part, check_event) is None:
            return None
        return ServerEvent(name, self._arguments(part.fields(("args", "optional"))))

    def _arguments(self, fields: Mapping[str, Part]) -> Arguments:
        if "args" not in fields:
            if "optional" in fields:
                fields["optional"].error("stands without args")
            return Arguments()
        items = fields["args"].items()
        if len(items) > MAX_ARGUMENTS:
            fields["args"].error(f"has more than {MAX_ARGUMENTS} arguments")
        optional = fields["optional"].integer(0, len(items)) if "optional" in fields else 0
        return Arguments(tuple(self.schemas.read(item) for item in items), optional or 0)


def _checked(name: str, part: Part, check: Callable[[str], str]) -> str | None:
    from gateway.domain.errors import InvalidName

    try:
        return check(name)
    except InvalidName as error:
        part.error(error.message)
        return None


def _is_event_name(name: str, part: Part) -> bool:
    if _checked(name, part, check_client_event) is None:
        return False
    if "*" in name[:-1]:
        part.error("* stands for any text at the end of a name only")
        return False
    if name in OWN_EVENTS:
        part.error("is an event that the gateway handles itself")
        return False
    return True


def _check_combinations(fields: Mapping[str, Part]) -> None:
    if "reject" in fields:
        for name in _WITHOUT_EFFECT:
            if name in fields:
                fields[name].error("has no effect beside reject")
    if "returns" in fields and "call" not in fields:
        fields["returns"].error("describes the answer of a call; the entry has none")


def _rate(part: Part | None) -> float | None:
    if part is None:
        return None
    rate = part.number()
    if rate is not None and not 0 < rate <= MAX_RATE:
        part.error(f"is not a rate above 0 and up to {MAX_RATE:.0f} each second")
        return None
    return rate


def _sentence(part: Part | None) -> str | None:
    if part is None:
        return None
    text = part.text()
    if text is not None and not 0 < len(text.strip()) <= MAX_SENTENCE_CHARACTERS:
        part.error(f"is not a sentence of 1 to {MAX_SENTENCE_CHARACTERS} characters")
        return None
    return text


def _dedupe(part: Part | None, scope: Scope) -> Template | None:
    if part is None:
        return None
    reference = read_reference(part, scope)
    if isinstance(reference, Reference) and not reference.root.isdigit():
        part.error("is not a part of an argument, such as $0.id")
    return reference


def _room(part: Part | None, scope: Scope) -> Template | None:
    """Return the room that an event joins or leaves."""
    if part is None:
        return None
    name = read_name(part, scope)
    if isinstance(name, Literal) and str(name.value).startswith(RESERVED_PREFIXES):
        prefixes = " ".join(RESERVED_PREFIXES)
        part.error(f"clients neither join nor leave rooms that begin with one of {prefixes}")
    elif isinstance(name, Reference) and not name.root.isdigit() and name.root != "data":
        part.error("is neither a part of an argument or of the socket data, nor the name of a room")
    return name


def _on_error(part: Part, scope: Scope) -> OnError:
    fields = part.fields(("emit", "ack"))
    scope = Scope(scope.arguments, has_error=True)
    emissions = (
        read_emissions(fields["emit"], EmissionRules(scope, self_only=True)) if "emit" in fields else ()
    )
    return OnError(emissions, read_template(fields["ack"], scope) if "ack" in fields else None)
