"""The parser of the Redis URL."""

from __future__ import annotations

import pytest

from gateway.domain.redis_url import FAMILIES, RedisUrl, check_prefix, parse_redis_url
from gateway.state.redis.redis_keys import RedisKeys


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://r", RedisUrl((("r", 6379),), options={"db": 0})),
        ("redis://u:p%40ss@r:1/2", RedisUrl((("r", 1),), options={"username": "u", "password": "p@ss", "db": 2})),
        ("redis://:p@[::1]:1", RedisUrl((("::1", 1),), options={"password": "p", "db": 0})),
        ("rediss://r?ssl_ca_certs=/ca.pem", RedisUrl((("r", 6379),), tls=True,
            options={"db": 0, "ssl_ca_certs": "/ca.pem"}, sentinel_options={"ssl_ca_certs": "/ca.pem"})),
        ("redis+sentinel://u:p@a,b:1/main/3?sentinel_password=s", RedisUrl((("a", 26379), ("b", 1)), "main",
            options={"username": "u", "password": "p", "db": 3}, sentinel_options={"password": "s"})),
    ],
)  # fmt: skip
def test_url_is_parsed_into_hosts_and_options(url: str, expected: RedisUrl) -> None:
    assert parse_redis_url(url) == expected


@pytest.mark.parametrize(
    "url",
    ["http://r", "redis://", "redis://r:x", "redis://r/x", "redis://r/1/2", "redis://a,b", "redis+sentinel://a",
     "redis://r?socket_timeout=1", "redis://r?ssl_ca_certs=/x", "rediss://r?ssl_cert_reqs=never"],
)  # fmt: skip
def test_malformed_url_is_rejected_without_quoting_the_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+") as raised:
        parse_redis_url(url.replace("//r", "//:hunter2@r"))

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("login", ["u:hunter2%0A", "u:hunter2%0D%0A", "u%00:hunter2", ":%09hunter2"])
def test_control_character_in_the_login_is_rejected_without_quoting_it(login: str) -> None:
    with pytest.raises(ValueError, match="has a line break or another control character") as raised:
        parse_redis_url(f"redis://{login}@r")

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("login", ["sentinel_password=hunter2%0A", "sentinel_username=hunter2%00"])
def test_control_character_in_the_login_of_sentinels_is_rejected_without_quoting_it(login: str) -> None:
    with pytest.raises(ValueError, match="has a line break or another control character") as raised:
        parse_redis_url(f"redis+sentinel://r/main?{login}")

    assert "hunter2" not in str(raised.value)


def test_password_may_contain_and_end_with_blanks() -> None:
    assert parse_redis_url("redis://:a%20b%20@r").options["password"] == "a b "


def test_every_family_of_keys_and_channels_is_reserved_in_prefixes() -> None:
    names = {name.removeprefix("p:") for name in RedisKeys("p").all().values()}

    of_the_previous_release = {"rate"}
    families = {name.partition(":")[0] for name in names if ":" in name}
    assert families | of_the_previous_release == FAMILIES


@pytest.mark.parametrize("prefix", ["sio-gateway", "user", "gw:a", "gw:users", "a.b:c_d"])
def test_prefix_of_other_words_is_accepted(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["", "a b", "a@1", "x" * 65, "gw:user", "gw:a:rate", "gw:to", "::left"])
def test_prefix_that_names_keys_of_another_one_is_rejected(prefix: str) -> None:
    with pytest.raises(ValueError, match="names of keys"):
        check_prefix(prefix)
