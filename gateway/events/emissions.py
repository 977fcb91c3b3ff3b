"""Recipients and messages that a client event causes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.domain.event_catalogue import Emission, Target, TargetKind
from gateway.domain.names import check_event, check_room, check_user
from gateway.domain.templates import ArrayTemplate, Literal, Template
from gateway.events.mistakes import Part, only_one
from gateway.events.rules import read_glob
from gateway.events.templates import MAX_ARGUMENTS, Scope, read_reference, read_template

MAX_EMISSIONS: Final = 32
"""Messages of one client event, as of an answer of a webhook."""
MAX_TARGETS: Final = 100
_KEYS: Final = ("to", "event", "data", "args", "except", "volatile")
_WORDS: Final = {
    "self": TargetKind.SELF,
    "others": TargetKind.OTHERS,
    "everyone": TargetKind.EVERYONE,
}
_NAMED: Final = {
    "room": TargetKind.ROOMS,
    "rooms": TargetKind.ROOMS,
    "user": TargetKind.USERS,
    "sid": TargetKind.SIDS,
}
NAMED: Final = (*_NAMED, "own_rooms")
"""Keys of recipients that are a mapping."""


@dataclass(frozen=True, slots=True)
class EmissionRules:
    """What emissions at this place may have.

    ``has_room``: the event joins or leaves a room. ``broadcasts``: some client may reach everyone. ``self_only``: of
    ``on_error``, because the sender may lack the rights to reach others.
    """

    scope: Scope
    has_room: bool = False
    broadcasts: bool = False
    self_only: bool = False


def read_emissions(part: Part, rules: EmissionRules) -> tuple[Emission, ...]:
    """Return the messages, in the order of the file."""
    items = part.items()
    if len(items) > MAX_EMISSIONS:
        part.error(f"has more than {MAX_EMISSIONS} messages")
        return ()
    return tuple(emission for item in items if (emission := _read_emission(item, rules)) is not None)


def _read_emission(part: Part, rules: EmissionRules) -> Emission | None:
    fields = part.fields(_KEYS)
    for name in ("to", "event"):
        if part.is_mapping and name not in fields:
            part.error(f"has no {name}")
    targets = read_targets(fields["to"], lambda item: _read_target(item, rules)) if "to" in fields else ()
    event = fields["event"].name(check_event) if "event" in fields else None
    arguments = read_arguments(fields, rules.scope)
    except_self = "except" in fields and fields["except"].one_of(("self",)) is not None
    if except_self and targets and all(target.kind is TargetKind.SELF for target in targets):
        fields["except"].error("leaves no recipient: the message is for the sender alone")
    volatile = fields["volatile"].boolean() if "volatile" in fields else False
    return None if event is None else Emission(targets, event, arguments, except_self, bool(volatile))


def read_arguments(fields: dict[str, Part], scope: Scope) -> tuple[Template, ...]:
    """Return the arguments of a message with ``data``, ``args`` or neither."""
    only_one(fields, "data", "args")
    if "data" in fields:
        return (read_template(fields["data"], scope),)
    if "args" not in fields:
        return ()
    items = fields["args"].items()
    if len(items) > MAX_ARGUMENTS:
        fields["args"].error(f"has more than {MAX_ARGUMENTS} arguments")
    return tuple(read_template(item, scope) for item in items)


def read_targets(part: Part, read_target: Callable[[Part], Target | None]) -> tuple[Target, ...]:
    """Return one recipient, or a list of them."""
    items = part.items() if part.is_list else [part]
    if not 0 < len(items) <= MAX_TARGETS:
        part.error(f"has {len(items)} recipients; 1 to {MAX_TARGETS} are possible")
        return ()
    return tuple(target for item in items if (target := read_target(item)) is not None)


def _read_target(part: Part, rules: EmissionRules) -> Target | None:
    if part.is_mapping:
        target = read_named_target(part, rules.scope)
    else:
        word = part.one_of(tuple(_WORDS))
        target = None if word is None else Target(_WORDS[word])
    if target is None:
        return None
    if rules.self_only and target.kind is not TargetKind.SELF:
        part.error("emissions of on_error go to self only")
    elif target.kind is TargetKind.OTHERS and not rules.has_room:
        part.error(
            "others are the members of a room that the event joins or leaves; it has neither join nor leave"
        )
    elif target.kind is TargetKind.EVERYONE and not rules.broadcasts:
        part.error("the namespace has no broadcast, so no client may reach everyone")
    return target


def read_named_target(part: Part, scope: Scope, kinds: tuple[str, ...] = NAMED) -> Target | None:
    """Return the recipient that a mapping with one of the ``kinds`` names."""
    fields = part.fields(kinds)
    if len(fields) != 1:
        if fields or not part.members():
            part.error(f"needs exactly one of {', '.join(kinds)}")
        return None
    ((kind, value),) = fields.items()
    if kind == "own_rooms":
        glob = read_glob(value)
        return None if glob is None else Target(TargetKind.OWN_ROOMS, glob=glob)
    names = _read_rooms(value, scope) if kind == "rooms" else read_name(value, scope, is_user=kind == "user")
    return None if names is None else Target(_NAMED[kind], names)


def _read_rooms(part: Part, scope: Scope) -> Template | None:
    """Return a list of names and references, or a reference to a list."""
    if not part.is_list:
        return read_name(part, scope)
    items = [read_name(item, scope) for item in part.items()]
    if not 0 < len(items) <= MAX_TARGETS:
        part.error(f"has {len(items)} rooms; 1 to {MAX_TARGETS} are possible")
    names = [item for item in items if item is not None]
    if all(isinstance(name, Literal) for name in names):
        return Literal([name.value for name in names if isinstance(name, Literal)])
    return ArrayTemplate(tuple(names))


def read_name(part: Part, scope: Scope, *, is_user: bool = False) -> Template | None:
    """Return the reference or the literal name of a room, a sid or a user."""
    if not isinstance(part.value, str) or not part.value.startswith("$"):
        name = part.name(check_user if is_user else check_room)
        return None if name is None else Literal(name)
    if part.value.startswith("$$"):
        return Literal(part.value[1:])
    return read_reference(part, scope)
