"""Each field of a body, parameter of a query and id in a path, with every kind of bad value, over HTTP.

The tables name the fields by hand; openapi.yaml decides which fields there are. Each body is sent as it is and as a
large one, which another parser reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import pytest
import yaml

from gateway.domain.names import RESERVED_EVENTS
from tests.support.backend import Answer, Backend
from tests.support.clients import NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.paths import ROOT

CATALOGUE: Final = """
version: 1
namespaces:
  /:
    rooms: [{match: "org:*", list_members: true}]
"""
ISSUER: Final = {
    "issuer": "https://login.example.com/", "secret": "the secret of this issuer, long enough", "users": "login:",
}  # fmt: skip
UNSERVED: Final = "/elsewhere"
INVALID_JSON: Final = (400, "invalid_json", None)
PADDING: Final = b" " * 17_000
"""White space that makes a body a large one."""


class Bad(NamedTuple):
    """A bad value of a field, and the path of the error behind that of the field."""

    value: Any
    behind: str = ""


class Field(NamedTuple):
    """A field: a valid value, and bad ones. ``takes_any`` is whether each JSON value is a valid one."""

    valid: Any
    bad: tuple[Bad, ...] = ()
    takes_any: bool = False
    required: bool = False


def values(*bad: Any) -> tuple[Bad, ...]:
    return tuple(Bad(value) for value in bad)


def behind(first: Any, *bad: Any) -> tuple[Bad, ...]:
    """Return lists whose second element is bad."""
    return tuple(Bad([first, value], ".1") for value in bad)


NO_TEXT: Final = values(1, True, None, [], ["a"], {})
NO_LIST: Final = values(1, True, None, "a", {})
NO_NAME: Final = values("", ".", "..", "a\n", "\x7f", "e\u0301")


def name(valid: str, longest: int, *, required: bool = False) -> Field:
    return Field(valid, NO_TEXT + NO_NAME + values("x" * (longest + 1)), required=required)


def names(
    valid: list[str],
    *,
    most: int,
    longest: int,
    least: int = 0,
    distinct: bool = False,
    required: bool = False,
) -> Field:
    bad = NO_LIST + values([f"n{number}" for number in range(most + 1)])
    bad += values([]) if least else ()
    bad += values(["a", "b", "a"]) if distinct else ()
    bad += tuple(Bad(["a", each.value], ".1") for each in NO_TEXT + NO_NAME)
    bad += (Bad(["x" * (longest + 1)], ".0"),)
    return Field(valid, bad, required=required)


def rooms(*, most: int = 100, **options: Any) -> Field:
    return names(["org:7"], most=most, longest=300, **options)


def users(*, most: int = 100, **options: Any) -> Field:
    return names(["42"], most=most, longest=255, least=1, distinct=True, **options)


ROOM: Final = name("org:7", 300)
ROOMS: Final = rooms(least=1, distinct=True)
USER: Final = name("42", 255)
NAMESPACE: Final = Field("/", NO_TEXT + values("", "chat", UNSERVED, "/" + "x" * 500))
FLAG: Final = Field(False, values(0, 1, "true", "", None, [], {}))
EXCEPT: Final = rooms()
TARGET: Final = Field(
    {"room": "org:7"},
    (
        *values(1, True, None, [], "", "all", "everyone ", {}, {"user": "a", "room": "b"}),
        *values({"users": ["a"], "rooms": ["b"]}),
        Bad({"sid": "a"}, ".sid"),
    ),
    required=True,
)  # fmt: skip
TARGETS: Final = {"user": USER, "users": users(), "room": ROOM, "rooms": ROOMS}
EVENT: Final = Field("e", NO_TEXT + values("", "x" * 129, *sorted(RESERVED_EVENTS)), required=True)
PUSH: Final = {
    "event": EVENT,
    "data": Field({"a": 1}, takes_any=True),
    "args": Field([1], values(1, True, None, "a", {}, [0] * 17)),
    "namespace": NAMESPACE,
    "except": EXCEPT,
    "all": rooms(most=8),
    "volatile": FLAG,
    "timestamp": FLAG,
    "binary": Field(
        [],
        NO_LIST
        + values(["/data"] * 11)
        + behind("/data/image", 1, True, None, [], {}, "", "data", "/event", "/data/~2", "/args", "/args/x")
        + behind("/data/image", "/data/" + "x" * 999)
        # Pointers in the right form, to no base64 string in {"a": 1}.
        + (Bad(["/data/image"], ".0"), Bad(["/data/a"], ".0"), Bad(["/args/0"], ".0")),
    ),
}  # fmt: skip
ACK: Final = {
    "ack": Field({"want": "first", "timeout_seconds": 0.1}, values(1, True, None, [], "first")),
    "ack.want": Field(
        "first", values(0, -1, 1.5, True, None, [], {}, "", "any", "1", "x" * 900, 10**9), required=True
    ),
    "ack.timeout_seconds": Field(0.1, values(0, 0.09, -1, 25.1, 1e300, True, None, "5", "", [], {})),
}
TTL: Final = {"ttl": Field(60, values(0, -1, 604_801, 1.5, 1e300, "60", "", True, None, [], {}))}
CHANGE: Final = {
    "who": TARGET,
    **{f"who.{kind}": field for kind, field in TARGETS.items()},
    "rooms": names(["match:9"], most=100, longest=300, least=1, distinct=True, required=True),
    "namespace": NAMESPACE,
    "except": EXCEPT,
}
IDS: Final = {
    "ids": Field(
        ["p-1"],
        NO_LIST
        + values([], [f"p-{number}" for number in range(101)])
        + behind("p-1", 1, True, None, [], {}, "", "x" * 256),
        required=True,
    )
}
BODIES: Final[dict[str, dict[str, Field]]] = {
    "POST /emit/user/{id}": PUSH | ACK | TTL,
    "POST /emit/room": PUSH | ACK | {"room": ROOM, "rooms": ROOMS},
    "POST /emit/users": PUSH | ACK | TTL | {"users": users(required=True)},
    "POST /broadcast": PUSH,
    "POST /batch": {
        "messages": Field(
            [{"to": "everyone", "event": "e"}],
            values(1, True, None, "a", {}, [], [{"to": "everyone", "event": "e"}] * 101)
            + behind({"to": "everyone", "event": "e"}, 1, True, None, "a", []),
            required=True,
        ),
        "messages.0.to": TARGET,
        **{f"messages.0.to.{kind}": field for kind, field in TARGETS.items()},
        **{f"messages.0.{path}": field for path, field in (PUSH | TTL).items()},
    },
    "POST /presence": {"users": users(most=200, required=True)},
    "PATCH /connections/{id}": {
        "data": Field({"a": 1}, values(1, True, None, "a", [], {"a": "x" * 5000}), required=True)
    },
    "POST /disconnect/user/{id}": {"namespace": NAMESPACE, "except": EXCEPT, "revoke": FLAG},
    "POST /disconnect/room": {
        "room": name("org:none", 300, required=True), "namespace": NAMESPACE, "except": EXCEPT,
    },
    "POST /join": CHANGE,
    "POST /leave": CHANGE,
    "POST /webhooks/{id}/replay": IDS,
    "POST /webhooks/{id}/drop": IDS,
    "POST /revoke": {
        "jti": Field("t-1", NO_TEXT + values("", "x" * 256, "a\n"), required=True),
        "issuer": Field(ISSUER["issuer"], NO_TEXT + values("", "https://unknown.example.com/", "x" * 2001)),
        "expires_at": Field(
            1795266000, values("1795266000", "", True, None, [], {}, -1, 1795266000000, 1e300)
        ),
    },
}  # fmt: skip
INSTEAD: Final = {"args": "data", "rooms": "room"}
"""Fields of a push that take the place of another one."""
NEEDED: Final = {"POST /emit/room": {"room": "org:7"}}
"""Fields of which a call needs one, in each request of the test."""

NOT_A_PAGE: Final = ("", "0", "101", "-1", "+1", "1.5", " 1", "a", "\u0661", "9" * 400)
NOT_A_CURSOR: Final = ("", "a", "W10", "WzFd", "e30", "bnVsbA", "\u00e9", "W10=" * 600)
NOT_A_POSITION: Final = ("", "a", "1", "1-", "-1", "1-0-0", "1_0", "9" * 400, "9" * 30 + "-0", "\u0661-0")
NAMESPACE_PARAMETER: Final = ("", "chat", UNSERVED)
BAD_ROOM: Final = ("", ".", "..", "a\n", "e\u0301", "x" * 301)
LIST: Final = {"limit": NOT_A_PAGE, "cursor": NOT_A_CURSOR}
READ: Final = {
    "namespace": NAMESPACE_PARAMETER, "after": NOT_A_POSITION, "limit": NOT_A_PAGE,
    "newest": ("", "1", "True", "yes"),
}  # fmt: skip
ERASE: Final = {"namespace": NAMESPACE_PARAMETER, "upto": NOT_A_POSITION}
QUERIES: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "GET /users": LIST | {"namespace": NAMESPACE_PARAMETER, "prefix": ()},
    "GET /rooms": LIST | {"namespace": NAMESPACE_PARAMETER, "prefix": ()},
    "GET /rooms/{id}": {"namespace": NAMESPACE_PARAMETER},
    "GET /connections": LIST
    | {
        "namespace": NAMESPACE_PARAMETER, "user": ("", ".", "..", "a\n", "e\u0301", "x" * 256), "room": BAD_ROOM,
    },
    "GET /webhooks/{id}/dead": LIST,
    "GET /history/room/{id}": READ,
    "GET /history/user/{id}": READ,
    "GET /history/broadcast": READ,
    "DELETE /history/room/{id}": ERASE,
    "DELETE /history/user/{id}": ERASE,
    "DELETE /history/broadcast": ERASE,
}  # fmt: skip
REQUIRED: Final = {
    "GET /connections": "user=42",
    "DELETE /history/room/{id}": "upto=1-0",
    "DELETE /history/user/{id}": "upto=1-0",
    "DELETE /history/broadcast": "upto=1-0",
}
"""What the query of a call needs."""
BAD_SEGMENTS: Final = (
    "", ".", "..", "%2E", "%00", "%7F", "a%0A", "%C3", "%ED%A0%80", "%zz", "%", "e%CC%81", "a%20" * 151,
)  # fmt: skip
"""Ids that are too long for a user and for a room, or none at all."""
DOCUMENT: Final = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
CALLS: Final = {
    f"{method.upper()} {path}": call
    for path, calls in DOCUMENT["paths"].items()
    for method, call in calls.items()
    if path != "/openapi.yaml"
}


class Scene(NamedTuple):
    """A gateway with a client, an issuer, a webhook and a room whose members are listed."""

    backend: Backend
    sid: str

    def target(self, call: str) -> str:
        """Return the target of a call without its query."""
        path = call.partition(" ")[2]
        if path.startswith("/webhooks"):
            return path.replace("{id}", "app")
        if path.startswith("/connections"):
            return path.replace("{id}", self.sid)
        return path.replace("{id}", "org%3A7" if "room" in path else "42")

    def send(self, call: str, body: bytes = b"", query: str | None = None) -> Answer:
        query = REQUIRED.get(call, "") if query is None else query
        target = self.target(call) + (f"?{query}" if query else "")
        return self.backend.send(call.partition(" ")[0], target, body)


@pytest.fixture(scope="module")
def scene(node: NodeClients, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    catalogue: Path = tmp_path_factory.mktemp("catalogue") / "events.yaml"
    catalogue.write_text(CATALOGUE, "utf-8")
    gateway = GatewayProcess(
        events_file=catalogue,
        issuers=json.dumps([ISSUER]),
        webhooks="app=http://127.0.0.1:9/",
        webhook_secrets="app:whsec_ZXhhbXBsZS1ob29rLXNlY3JldC1vZi0zMi1ieXRlcyE=",
    )
    client = node.open(gateway.url, token=gateway.token("alice")).connected()
    yield Scene(gateway.backend, client.sid)
    client.disconnect()
    assert gateway.stop() == 0
    assert gateway.failures() == []


def outcome(answer: Answer) -> tuple[int, str | None, frozenset[str] | None]:
    """Return status, code and the paths in ``errors`` of an answer."""
    body = answer.body
    errors = body.get("errors") if isinstance(body, dict) else None
    return answer.status, body.get("code"), None if errors is None else frozenset(errors)


def invalid_body(*paths: str) -> tuple[int, str, frozenset[str]]:
    return 422, "invalid_body", frozenset(paths)


ACCEPTED: Final = (200, None, None)
INVALID_QUERY: Final = (400, "invalid_query", None)


# --- bodies -------------------------------------------------------------------------------------------------------

_RAW: Final = "the value of the field"


def body_with(call: str, path: str, raw: str | bytes) -> bytes:
    """Return a body that is valid but for one field, whose value is a JSON text, or several members."""
    content = {
        field: each.valid for field, each in BODIES[call].items() if each.required and "." not in field
    }
    content |= NEEDED.get(call, {})
    content = json.loads(json.dumps(content))
    holder: Any = content
    *containers, last = path.split(".")
    for number, step in enumerate(containers):
        if isinstance(holder, list):
            holder = holder[int(step)]
            continue
        if step in {"to", "who"} or not isinstance(holder.get(step), dict | list):
            holder[step] = {}
        if step == "ack" and last != "want":
            holder[step] = {"want": "all"}
        holder = holder[step]
        assert number < 3
    holder.pop(INSTEAD.get(last, ""), None)
    holder[last] = _RAW
    if last == "ttl" and "to" in holder:
        holder["to"] = {"user": "42"}  # events are kept for users alone
    if last == "binary":
        holder["data"] = {"a": 1}
    given = raw.encode() if isinstance(raw, str) else raw
    return json.dumps(content).encode().replace(json.dumps(_RAW).encode(), given)


def sizes(body: bytes) -> tuple[bytes, bytes]:
    """Return a body as it is, and as a large one."""
    return body, body[:-1] + PADDING + body[-1:]


def depth_of(path: str) -> int:
    """Return how many objects and arrays a field is in."""
    return len(path.split("."))


FIELDS: Final = [(call, path) for call, fields in BODIES.items() for path in fields]


@pytest.mark.parametrize("call", list(BODIES))
def test_valid_body_is_accepted(scene: Scene, call: str) -> None:
    """Each bad body differs from this one in one field."""
    for path, field in BODIES[call].items():
        for body in sizes(body_with(call, path, json.dumps(field.valid))):
            if len(body) > len(PADDING) and call.startswith("PATCH"):
                assert outcome(scene.send(call, body)) == invalid_body("data")  # such a body has a limit
            else:
                assert scene.send(call, body).status == 200, (path, body[:200])


@pytest.mark.parametrize(("call", "path"), FIELDS)
def test_bad_value_is_rejected_with_the_path_of_its_field(scene: Scene, call: str, path: str) -> None:
    field = BODIES[call][path]
    bad = [*field.bad] if field.takes_any else [*field.bad, Bad(10**400), Bad(-(10**400))]
    found, expected = {}, {}
    for each in bad:
        body = body_with(call, path, json.dumps(each.value))
        for size, sent in zip(("small", "large"), sizes(body), strict=True):
            found[size, str(each.value)[:60]] = outcome(scene.send(call, sent))
            expected[size, str(each.value)[:60]] = invalid_body(path + each.behind)

    assert found == expected


@pytest.mark.parametrize(("call", "path"), FIELDS)
def test_value_that_is_no_json_is_rejected(scene: Scene, call: str, path: str) -> None:
    last, valid = path.rpartition(".")[2], json.dumps(BODIES[call][path].valid)
    too_deep = 65 - depth_of(path)
    texts: dict[str, str | bytes] = {
        "NaN": "NaN",
        "Infinity": "-Infinity",
        "NaN in an array": "[NaN]",
        "depth 65": "[" * too_deep + "]" * too_deep,
        "invalid UTF-8": b'"\xff"',
        "a surrogate in UTF-8": b'"\xed\xa0\x80"',
        "a lone surrogate": '"\\ud800"',
        "a lone surrogate in a key": '{"\\udc00":1}',
        "a control character": '"\x01"',
        "a number with a leading zero": "01",
        "no value": "",
        "a repeated member": f'{valid}, "{last}": {valid}',
        "a repeated member with an escape": f'{valid}, "\\u{ord(last[0]):04x}{last[1:]}": {valid}',
    }
    found = {
        (size, kind): outcome(scene.send(call, sent))
        for kind, text in texts.items()
        for size, sent in zip(("small", "large"), sizes(body_with(call, path, text)), strict=True)
    }

    assert found == dict.fromkeys(found, INVALID_JSON)


@pytest.mark.parametrize(
    ("call", "path"), [(call, path) for call, path in FIELDS if BODIES[call][path].takes_any]
)
def test_payload_may_be_any_json(scene: Scene, call: str, path: str) -> None:
    deepest = 64 - depth_of(path)
    texts = [
        "1" + "0" * 5000, "-0.1e9999", "null", '""', '"\\ud83d\\ude00"', '{"a":1,"a":2}',
        "[" * deepest + "]" * deepest,
    ]  # fmt: skip

    for text in texts:
        for body in sizes(body_with(call, path, text)):
            assert scene.send(call, body).status == 200, text[:60]


@pytest.mark.parametrize(
    ("call", "path"), [(call, path) for call, path in FIELDS if BODIES[call][path].required]
)
def test_missing_field_is_named(scene: Scene, call: str, path: str) -> None:
    body = body_with(call, path, f'"{_RAW}"')
    last = path.rpartition(".")[2].encode()
    without = re.sub(rb'"%b": "%b"(?:, )?' % (last, _RAW.encode()), b"", body).replace(b", }", b"}")

    for sent in sizes(without):
        assert outcome(scene.send(call, sent)) == invalid_body(path)


@pytest.mark.parametrize("call", list(BODIES))
def test_unknown_field_is_named_wherever_it_is(scene: Scene, call: str) -> None:
    containers = {path.rpartition(".")[0] for path in BODIES[call]}
    for container in containers:
        if container.rpartition(".")[2] in TARGET_NAMES:
            continue  # an object with one member: `test_bad_value_…` has another one
        first = next(path for path in BODIES[call] if path.rpartition(".")[0] == container)
        valid = json.dumps(BODIES[call][first].valid)
        for body in sizes(body_with(call, first, f'{valid}, "nope": 1')):
            path = f"{container}.nope" if container else "nope"
            assert outcome(scene.send(call, body)) == invalid_body(path)


TARGET_NAMES: Final = {"to", "who"}


@pytest.mark.parametrize("call", list(BODIES))
def test_body_that_is_no_object_is_rejected(scene: Scene, call: str) -> None:
    for body in (b"[]", b'"x"', b"1", b"null", b"true"):
        assert outcome(scene.send(call, body)) == invalid_body()
        assert outcome(scene.send(call, body + PADDING)) == invalid_body()
    for body in (b" ", b"{", b"{}}", b"\xef\xbb\xbf{}", b"event=e", b"{,}", b'{"a":1,}'):
        assert outcome(scene.send(call, body)) == INVALID_JSON
        assert outcome(scene.send(call, PADDING + body)) == INVALID_JSON


@pytest.mark.parametrize("call", list(BODIES))
def test_absent_body_is_no_json_unless_all_fields_are_optional(scene: Scene, call: str) -> None:
    answer = scene.backend.send(
        call.partition(" ")[0], scene.target(call), headers={"Content-Type": "application/json"}
    )

    has_required = any(field.required for field in BODIES[call].values()) or call in NEEDED
    assert outcome(answer) == (INVALID_JSON if has_required else ACCEPTED)


@pytest.mark.parametrize("call", list(BODIES))
def test_body_of_another_media_type_is_rejected(scene: Scene, call: str) -> None:
    for media_type in ("text/plain", "application/json; charset=latin-1", "application/jsonx", ""):
        answer = scene.backend.send(
            call.partition(" ")[0], scene.target(call), b"{}", headers={"Content-Type": media_type}
        )

        assert outcome(answer) == (415, "unsupported_media_type", None)


# --- queries and paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", list(QUERIES))
def test_bad_parameter_is_an_invalid_query(scene: Scene, call: str) -> None:
    found = {}
    for parameter, bad in QUERIES[call].items():
        required = REQUIRED.get(call, "")
        others = "" if required.startswith(f"{parameter}=") or parameter == "room" else required
        for value in (*(quote(each, safe="") for each in bad), "%FF", "%ED%A0%80", "1&{0}=1"):
            text = f"{parameter}={value.replace('{0}', parameter)}"
            query = f"{others}&{text}" if others else text
            found[query[:80]] = outcome(scene.send(call, query=query))

    assert found == dict.fromkeys(found, INVALID_QUERY)


@pytest.mark.parametrize("call", list(CALLS))
def test_unknown_parameter_is_an_invalid_query(scene: Scene, call: str) -> None:
    required = REQUIRED.get(call, "")
    body = next(
        (body_with(call, path, json.dumps(field.valid)) for path, field in BODIES.get(call, {}).items()), b""
    )
    for unknown in ("nope=1", "nope", "Limit=1", "%6Eope=1", "=", "&"):
        query = f"{required}&{unknown}" if required else unknown
        assert outcome(scene.send(call, body, query=query)) == INVALID_QUERY, query


@pytest.mark.parametrize("call", list(CALLS))
def test_request_with_what_the_query_needs_is_accepted(scene: Scene, call: str) -> None:
    body = next(
        (body_with(call, path, json.dumps(field.valid)) for path, field in BODIES.get(call, {}).items()), b""
    )

    assert scene.send(call, body).status == 200


@pytest.mark.parametrize("call", list(REQUIRED))
def test_query_without_what_it_needs_is_invalid(scene: Scene, call: str) -> None:
    assert outcome(scene.send(call, query="")) == INVALID_QUERY


@pytest.mark.parametrize("call", [call for call in CALLS if "{id}" in call])
def test_bad_id_in_the_path_is_an_invalid_path(scene: Scene, call: str) -> None:
    method, _, path = call.partition(" ")
    found = {
        segment: outcome(scene.backend.send(method, path.replace("{id}", segment), b"{}"))
        for segment in BAD_SEGMENTS
    }

    assert found == dict.fromkeys(found, (400, "invalid_path", None))


# --- the tables are complete --------------------------------------------------------------------------------------


def described(schema: dict[str, Any], path: str = "") -> set[str]:
    """Return the paths of all fields of a schema of openapi.yaml."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found: set[str] = set()
    for kind in ("oneOf", "anyOf", "allOf"):
        for each in schema.get(kind, ()):
            found |= described(each, path)
    if "items" in schema and (schema["items"].keys() & {"$ref", "properties"}):
        found |= described(schema["items"], f"{path}0.")
    for field, inner in schema.get("properties", {}).items():
        found |= {path + field, *described(inner, f"{path}{field}.")}
    return found


def test_table_has_each_field_of_each_body() -> None:
    fields = {
        call: described(content["requestBody"]["content"]["application/json"]["schema"])
        for call, content in CALLS.items()
        if "requestBody" in content
    }

    assert {call: set(table) for call, table in BODIES.items()} == fields


def test_table_has_each_parameter_of_each_query() -> None:
    def parameters(content: dict[str, Any]) -> set[str]:
        refs = (each["$ref"].rpartition("/")[2] for each in content.get("parameters", ()))
        described = (DOCUMENT["components"]["parameters"][ref] for ref in refs)
        return {each["name"] for each in described if each["in"] == "query"}

    found = {call: parameters(content) for call, content in CALLS.items()}

    assert {call: set(table) for call, table in QUERIES.items()} == {
        call: names for call, names in found.items() if names
    }
