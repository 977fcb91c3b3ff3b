"""Parsers of settings, through ``load_settings``: accepted values, and a sentence for each rejected one."""

# ruff: noqa: E501  # a table of sentences is read line by line

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.redis_url import parse_redis_url
from gateway.settings import Settings, SettingsError, load_settings

COMPLETE = {"GATEWAY_JWT_SECRET": "j" * 32, "GATEWAY_INGEST_KEYS": "billing:" + "b" * 32}


def load(**given: str) -> Settings:
    return load_settings(COMPLETE | {f"GATEWAY_{name}": value for name, value in given.items()})


def problems(**given: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        load(**given)
    return raised.value.problems


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("HOST", "127.0.0.1", "127.0.0.1"),
        ("PORT", "0", 0),
        ("PORT", " 9000 ", 9000),
        ("INGEST_PORT", "9001", 9001),
        ("INGEST_PATH_PREFIX", "/push", "/push"),
        ("INGEST_PATH_PREFIX", "/push/v1/", "/push/v1"),
        ("JWT_AUDIENCE", "web, mobile", ("web", "mobile")),
        ("JWT_ISSUER", "https://id.example.com", ("https://id.example.com",)),
        ("JWT_LEEWAY_SECONDS", "0", 0.0),
        ("JWT_LEEWAY_SECONDS", "2.5", 2.5),
        ("JWT_REQUIRE_EXP", "off", False),
        ("JWT_ALGORITHMS", "hs512,HS256", ("HS512", "HS256")),
        ("ROOM_CLAIMS", "team=team:,role=role:", {"team": "team:", "role": "role:"}),
        ("ROOM_CLAIMS", "realm_access.roles=role:,https://example.com/org=org:", {"realm_access.roles": "role:", "https://example.com/org": "org:"}),
        ("REPLICA_ID", "a_B-9", "a_B-9"),
        ("CORS_ORIGINS", "*", ("*",)),
        ("CORS_ORIGINS", "https://App.example.com,http://localhost:3000", ("https://app.example.com", "http://localhost:3000")),
        ("CORS_ORIGINS", "capacitor://localhost,null", ("capacitor://localhost", "null")),
        ("CORS_ORIGINS", "wss://a.example:443/,https://*.Preview.example.com,file://", ("https://a.example", "https://*.preview.example.com", "file://")),
        ("CORS_SAME_HOST", "off", False),
        ("SOCKETIO_PATH", "/ws", "/ws/"),
        ("SERVE_CLIENT", "No", False),
        ("NAMESPACES", "/,/events", ("/", "/events")),
        ("TRANSPORTS", "WebSocket", ("websocket",)),
        ("PING_INTERVAL_SECONDS", "0.25", 0.25),
        ("RECOVERY_SECONDS", "0", 0.0),
        ("MAX_BODY_BYTES", "2048", 2048),
        ("CONNECT_RATE", "0.5", 0.5),
        ("CONNECT_RATE_PER_ADDRESS", "20", 20.0),
        ("LOG_SAMPLE_RATE", "0.25", 0.25),
        ("LOG_SAMPLE_RATE", "0", 0.0),
        ("TRUSTED_PROXIES", "10.0.0.0/8, 192.168.1.4,2001:DB8::/32", ("10.0.0.0/8", "192.168.1.4", "2001:db8::/32")),
        ("WS_COMPRESSION", "on", True),
        ("LOG_LEVEL", "WARNING", "warning"),
        ("PING_INTERVAL_SECONDS", "30s", 30.0),
        ("RECOVERY_SECONDS", "2m", 120.0),
        ("DRAIN_SECONDS", "500ms", 0.5),
        ("REVOCATION_SECONDS", "7d", 604_800.0),
        ("LOG_FORMAT", "json", "json"),
    ],
)  # fmt: skip
def test_valid_value_is_parsed(name: str, text: str, value: Any) -> None:
    assert getattr(load(**{name: text}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("HOST", "a b", "'a b' contains spaces or control characters"),
        ("PORT", "65536", "65536 is out of range: it must be from 0 to 65535"),
        ("PORT", "80a", "'80a' is not a plain integer such as 1"),
        ("PORT", "٨٠", "'٨٠' is not a plain integer such as 1"),
        ("INGEST_PATH_PREFIX", "push", "'push' is not a path prefix: write it as /push"),
        ("JWT_JWKS_URL", "ftp://x", "is not a URL that begins with https:// or http://"),
        ("JWT_JWKS_URL", "https://x:port/", "is not a URL that begins with https:// or http://"),
        ("JWT_JWKS_URL", "https://me:pass@x/", "contains a user name or password, which would get into logs"),
        ("JWT_AUDIENCE", "web,,mobile", "contains an empty item: remove the extra comma"),
        ("JWT_AUDIENCE", '"web"', "is in quotes, which count as a part of it: remove them"),
        ("JWT_ISSUER", "'https://a.example,https://b.example'", "is in quotes, which count as a part of it: remove them"),
        ("ROOM_CLAIMS", '"role=role:"', "is in quotes, which count as a part of it: remove them"),
        ("JWT_AUDIENCE", "web,web", "'web' occurs twice"),
        ("JWT_LEEWAY_SECONDS", "-1", "'-1' is not a duration such as 120, 0 or 2m"),
        ("JWT_REQUIRE_EXP", "maybe", "'maybe' is neither true nor false"),
        ("ROOM_CLAIMS", "team", "'team' is not of the form claim=prefix,claim=prefix"),
        ("ROOM_CLAIMS", "a=b:,a=c:", "'a=b:,a=c:' contains a claim twice"),
        ("ROOM_CLAIMS", "a=e\u0301:", "claim 'a': 'e\u0301:' is not the beginning of a room name: a room name is in Unicode form NFC (é is one character, not e and an accent)"),
        ("ROOM_CLAIMS", "a=b\tc", "claim 'a': 'b\\tc' is not the beginning of a room name: a room name holds no control characters"),
        ("REPLICA_ID", "a.b", "'a.b' is not of the form [A-Za-z0-9_-]{1,64}"),
        ("REPLICA_ID", "a" * 65, f"'{'a' * 65}' is not of the form [A-Za-z0-9_-]{{1,64}}"),
        ("CORS_ORIGINS", "*,https://a.example", "* already allows every origin: use it alone or remove it"),
        ("CORS_ORIGINS", "https://*.example", "'https://*.example': a wildcard stands for the first label of a domain, as in https://*.preview.example.com; list the origins, or use * alone"),
        ("CORS_ORIGINS", "https://a.*.example.com", "'https://a.*.example.com': a wildcard stands for the first label of a domain, as in https://*.preview.example.com; list the origins, or use * alone"),
        ("CORS_ORIGINS", "https://*.0.0.1", "'https://*.0.0.1': a wildcard stands for the first label of a domain, as in https://*.preview.example.com; list the origins, or use * alone"),
        ("CORS_ORIGINS", "https://a.example/x", "'https://a.example/x' is not an origin: write it as https://app.example.com, without a path"),
        ("CORS_ORIGINS", "https://bücher.example", "'https://bücher.example' has characters beyond ASCII: write the host as browsers do, as xn--…"),
        ("CORS_ORIGINS", "https://a.example,https://a.example:443/", "'https://a.example' occurs twice"),
        ("SOCKETIO_PATH", "/", "'/' is not a path below /: write it as /socket.io/"),
        ("SOCKETIO_PATH", "/emit/x", "/emit is reserved for another part of the gateway"),
        ("NAMESPACES", "events", "'events': a namespace starts with a slash"),
        ("TRANSPORTS", "polling,sse", "'sse' is not one of polling, websocket"),
        ("PING_INTERVAL_SECONDS", "0", "'0' is out of range: it must be more than 0 seconds"),
        ("PING_INTERVAL_SECONDS", "25 s", "'25 s' is not a duration such as 25, 0.5, 25s or 2m"),
        ("PING_INTERVAL_SECONDS", "inf", "'inf' is not a duration such as 25, 0.5, 25s or 2m"),
        ("PING_INTERVAL_SECONDS", "nan", "'nan' is not a duration such as 25, 0.5, 25s or 2m"),
        ("PING_INTERVAL_SECONDS", "1" * 16, f"{1111111111111111.0!r} is too large: it must be at most 1000000000"),
        ("MAX_BODY_BYTES", "1MiB", "'1MiB' is not a plain integer such as 1024"),
        ("MAX_BODY_BYTES", "1e6", "'1e6' is not a plain integer such as 1024"),
        ("MAX_BODY_BYTES", "1" * 5000, f"'{'1' * 5000}' is not a plain integer such as 1024"),
        ("TRUSTED_PROXIES", "proxy.internal", "'proxy.internal' is neither an address nor a network: write it as 10.0.0.7 or 10.0.0.0/8"),
        ("TRUSTED_PROXIES", "10.0.0.7/8", "'10.0.0.7/8' has bits beyond its prefix; did you mean 10.0.0.0/8?"),
        ("TRUSTED_PROXIES", "10.0.0.0/33", "'10.0.0.0/33' is neither an address nor a network: write it as 10.0.0.7 or 10.0.0.0/8"),
        ("TRUSTED_PROXIES", "0.0.0.0/0", "'0.0.0.0/0' contains every address, so every client could claim any other address"),
        ("TRUSTED_PROXIES", "::/0", "'::/0' contains every address, so every client could claim any other address"),
        ("TRUSTED_PROXIES", "*", "'*' is neither an address nor a network: write it as 10.0.0.7 or 10.0.0.0/8"),
        ("MAX_CONNECTIONS", "0", "0 is out of range: it must be 1 or more"),
        ("LOG_SAMPLE_RATE", "1.1", "'1.1' is out of range: it must be from 0 to 1"),
        ("LOG_SAMPLE_RATE", "-0.1", "'-0.1' is not a number: give a fraction from 0 to 1, such as 0.1"),
        ("LOG_SAMPLE_RATE", "10%", "'10%' is not a number: give a fraction from 0 to 1, such as 0.1"),
        ("MESSAGE_RATE", "0", "'0' is out of range: it must be more than 0 each second"),
        ("REDIS_URL", "http://x", "is no address of Redis: write it as redis://host:6379, rediss:// or redis+sentinel://"),
        ("REDIS_URL", "redis://", "is no address of Redis: write it as redis://host:6379, rediss:// or redis+sentinel://"),
        ("JWT_COOKIE", "a b", "'a b' is not of the form [A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}"),
        ("JWT_COOKIE", "a=b", "'a=b' is not of the form [A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}"),
        ("REDIS_URL", "redis://:hunter2@host\n", "ends with a line break: remove it"),
        ("REDIS_URL", "redis://:hunter2@host ", "ends with a space: remove it"),
        ("REDIS_URL", '"redis://:hunter2@host"', "is in quotes, which count as a part of it: remove them"),
        ("REDIS_URL", "redis://:hunter2%0A@host", "has a line break or another control character in its user name or password"),
        ("REDIS_URL", "redis://:hunter2@host:port", "names a host or a port that is none"),
        ("REDIS_URL", "redis://:hunter2@a,b", "names several hosts, which only redis+sentinel:// can do"),
        ("REDIS_URL", "redis+sentinel://a,b", "lacks the name of the primary that Sentinel watches: redis+sentinel://host,host/name"),
        ("REDIS_PREFIX", 'a"b', "'a\"b' cannot begin the names of keys: use 1 to 64 of A-Z a-z 0-9 _ . : -"),
        ("REDIS_PREFIX", "gw:user", "'gw:user' has the part 'user' behind a colon, with which the names of keys of another gateway begin: choose another word"),
        ("LOG_LEVEL", "trace", "'trace' is not one of debug, info, warning, error"),
    ],
)  # fmt: skip
def test_invalid_value_is_reported_with_its_reason(name: str, text: str, sentence: str) -> None:
    assert problems(**{name: text}) == [f"GATEWAY_{name}: {sentence}"]


def test_empty_variable_counts_as_not_set() -> None:
    settings = load(PORT="", INGEST_PORT="", REDIS_URL="")

    assert (settings.port, settings.ingest_port) == (8080, None)


def test_every_invalid_item_of_a_list_is_reported() -> None:
    assert problems(NAMESPACES="a,/b,c") == [
        "GATEWAY_NAMESPACES: 'a': a namespace starts with a slash",
        "GATEWAY_NAMESPACES: 'c': a namespace starts with a slash",
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"SEND_BUFFER_BYTES": "2097151"}, "GATEWAY_SEND_BUFFER_BYTES: must be at least twice GATEWAY_MAX_BODY_BYTES, which is 1048576"),
        ({"HISTORY_BYTES": "1048575"}, "GATEWAY_HISTORY_BYTES: must be at least GATEWAY_MAX_BODY_BYTES, which is 1048576"),
        ({"JWT_COOKIE": "sio", "CORS_ORIGINS": "*"}, "GATEWAY_JWT_COOKIE: is set while GATEWAY_CORS_ORIGINS allows *: any web page could connect with the cookie of its visitor (cross-site WebSocket hijacking); list the origins of your pages"),
        ({"JWT_COOKIE": "sio", "CORS_ORIGINS": "https://a.example,null"}, "GATEWAY_JWT_COOKIE: is set while GATEWAY_CORS_ORIGINS allows null: any web page could connect with the cookie of its visitor (cross-site WebSocket hijacking); list the origins of your pages"),
        ({"REDIS_WAIT_REPLICAS": "1"}, "GATEWAY_REDIS_WAIT_REPLICAS: needs GATEWAY_REDIS_URL: without Redis there is no replica of it"),
        ({"REDIS_URL": "redis://x", "LEASE_SECONDS": "4"}, "GATEWAY_LEASE_SECONDS: must be at least 5: with less, a short pause of Redis would make every replica count as dead"),
        ({"REDIS_URL": "redis://x", "SUBSCRIPTION_TIMEOUT_SECONDS": "1"}, "GATEWAY_SUBSCRIPTION_TIMEOUT_SECONDS: must be at least 2"),
        ({"REDIS_URL": "redis://x", "MAX_BODY_BYTES": "16777217", "SEND_BUFFER_BYTES": "99999999"}, "GATEWAY_MAX_BODY_BYTES: must be at most 16777216 with GATEWAY_REDIS_URL: Redis executes each push as one command, and every other command waits meanwhile"),
        ({"MAX_TOKEN_BYTES": "31745"}, "GATEWAY_MAX_TOKEN_BYTES: must be at least 1024 less than GATEWAY_MAX_UNAUTHENTICATED_FRAME_BYTES, which is 32768: a frame holds the token and what is around it"),
        ({"MAX_FRAME_BYTES": "17407"}, "GATEWAY_MAX_TOKEN_BYTES: must be at least 1024 less than GATEWAY_MAX_FRAME_BYTES, which is 17407: a frame holds the token and what is around it"),
        ({"MAX_TOKEN_BYTES": "40000", "MAX_UNAUTHENTICATED_FRAME_BYTES": "50000"}, "GATEWAY_MAX_TOKEN_BYTES: must be less than GATEWAY_MAX_HEADER_BYTES, which is 32768"),
        ({"INGEST_PORT": "8080"}, "GATEWAY_INGEST_PORT: equals GATEWAY_PORT; remove it to serve everything on one port"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_rejected(given: dict[str, str], sentence: str) -> None:
    assert problems(**given) == [sentence]


def test_token_limit_may_be_as_large_as_frames_and_heads_allow() -> None:
    limits = {
        "MAX_FRAME_BYTES": "51024",
        "MAX_UNAUTHENTICATED_FRAME_BYTES": "51024",
        "MAX_HEADER_BYTES": "65536",
    }

    assert load(MAX_TOKEN_BYTES="50000", **limits).max_token_bytes == 50_000


def test_invalid_setting_is_not_compared_with_others() -> None:
    assert problems(MAX_BODY_BYTES="many", SEND_BUFFER_BYTES="4096") == [
        "GATEWAY_MAX_BODY_BYTES: 'many' is not a plain integer such as 1024"
    ]


def test_two_ports_chosen_by_the_system_may_both_be_zero() -> None:
    assert load(PORT="0", INGEST_PORT="0").ingest_port == 0


def test_default_replica_ids_are_unique_and_valid() -> None:
    first, second = load().replica_id, load().replica_id

    assert first != second
    assert load(REPLICA_ID=first).replica_id == first


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis",
        "redis://:p%40ss@redis:6380/3",
        "rediss://user:pass@redis",
        "redis+sentinel://:p@a,b:26380/main",
    ],
)
def test_redis_url_is_parsed_and_kept_out_of_the_repr(url: str) -> None:
    settings = load(REDIS_URL=url)

    assert settings.redis_url == parse_redis_url(url)
    assert url not in repr(settings)


def test_settings_are_immutable() -> None:
    settings = load()

    with pytest.raises(AttributeError):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.room_claims["a"] = "b:"  # type: ignore[index]


def test_repr_of_settings_contains_no_secret() -> None:
    shown = repr(load())

    assert "j" * 32 not in shown
    assert "b" * 32 not in shown


def test_cookie_of_the_token_needs_origins_of_pages_also_in_development() -> None:
    page = {"GATEWAY_CORS_ORIGINS": "https://app.example", "GATEWAY_JWT_COOKIE": "__Host-sio"}

    assert load_settings(page, dev=True).jwt_cookie == "__Host-sio"
    assert load_settings(COMPLETE | {"GATEWAY_JWT_COOKIE": "sio"}).jwt_cookie == "sio"
    with pytest.raises(
        SettingsError, match="GATEWAY_JWT_COOKIE: is set while GATEWAY_CORS_ORIGINS allows \\*"
    ):
        load_settings({"GATEWAY_JWT_COOKIE": "sio"}, dev=True)
