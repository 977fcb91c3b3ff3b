"""Addresses, counts and ids of entries."""

from __future__ import annotations

import re

from gateway.domain.messages import Address, DisconnectCommand, Message, has_exact_count, json_bytes, new_id


def message(*rooms: str, exclude: frozenset[str] = frozenset(), arguments: tuple[str, ...] = ()) -> Message:
    return Message("id", "/chat", rooms, "news", arguments, exclude)


def disconnect_command(*namespaces: str, exclude: frozenset[str] = frozenset()) -> DisconnectCommand:
    return DisconnectCommand("id", "42", namespaces, at=1.0, exclude=exclude)


def test_message_without_rooms_is_for_everyone_in_its_namespace() -> None:
    assert message().addresses == (Address("/chat", None),)


def test_message_is_for_each_of_its_rooms() -> None:
    assert message("a", "b").addresses == (Address("/chat", "a"), Address("/chat", "b"))


def test_disconnect_command_is_for_the_room_of_the_user_in_each_namespace() -> None:
    assert disconnect_command("/", "/chat").addresses == (
        Address("/", "user:42"),
        Address("/chat", "user:42"),
    )


def test_count_of_one_address_is_exact() -> None:
    assert has_exact_count(message())
    assert has_exact_count(message("a"))


def test_count_is_exact_for_several_namespaces_but_not_for_several_rooms() -> None:
    assert not has_exact_count(message("a", "b"))
    assert has_exact_count(disconnect_command("/", "/chat"))
    assert not has_exact_count(disconnect_command("/", "/"))


def test_count_with_exclusions_is_not_exact() -> None:
    except_one = frozenset({"sid"})

    assert not has_exact_count(message(exclude=except_one))
    assert not has_exact_count(message("a", exclude=except_one))
    assert not has_exact_count(disconnect_command("/", exclude=except_one))


def test_json_is_counted_in_bytes_of_utf_8() -> None:
    assert json_bytes(message()) == 0
    assert json_bytes(message(arguments=('{"a":1}', "null"))) == 11
    assert json_bytes(message(arguments=('"ä€👋"',))) == 2 + 2 + 3 + 4
    assert json_bytes(disconnect_command("/")) == 0


def test_ids_are_url_safe_and_unique() -> None:
    ids = {new_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{18,33}", each) for each in ids)
