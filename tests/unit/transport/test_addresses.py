"""The address of a client, whatever its request claims."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.transport.admission import MAX_HOPS, TrustedProxies, rate_limit_key

PROXIES = TrustedProxies(["10.0.0.0/8", "192.168.1.4", "2001:db8:ffff::/48"])


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("192.168.1.4", ["198.51.100.1"], "198.51.100.1"),
        ("192.168.1.5", ["198.51.100.1"], "192.168.1.5"),
        ("10.0.0.1", ["198.51.100.1, 10.2.3.4,192.168.1.4"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1", "10.2.3.4"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ],
)
def test_client_is_the_nearest_address_that_is_not_a_trusted_proxy(
    peer: str, lines: list[str], client: str
) -> None:
    assert PROXIES.client_of(peer, lines) == client


@pytest.mark.parametrize(
    "forged", ["127.0.0.1", "10.9.9.9", "198.51.100.1, 10.9.9.9", "garbage", "", ",,,", "x" * 7000]
)
def test_address_that_a_client_forged_is_left_of_the_one_that_its_proxy_appended(forged: str) -> None:
    assert PROXIES.client_of("10.0.0.1", [f"{forged}, 203.0.113.9"]) == "203.0.113.9"


@pytest.mark.parametrize(
    ("written", "client"),
    [
        ("203.0.113.9:51234", "203.0.113.9"),
        ("2001:db8::9", "2001:db8::9"),
        ("[2001:db8::9]", "2001:db8::9"),
        ("[2001:db8::9]:51234", "2001:db8::9"),
        ("2001:DB8:0:0::9", "2001:db8::9"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("  203.0.113.9\t", "203.0.113.9"),
    ],
)
def test_address_is_parsed_in_every_form_that_proxies_write(written: str, client: str) -> None:
    assert PROXIES.client_of("10.0.0.1", [written]) == client


@pytest.mark.parametrize(
    "written", ["unknown", "_hidden", "", "203.0.113", "203.0.113.9:x:y", "[", "1.2.3.4/8"]
)
def test_text_that_is_no_address_yields_the_proxy_that_wrote_it(written: str) -> None:
    assert PROXIES.client_of("10.0.0.1", [f"198.51.100.1, {written}, 10.0.0.2"]) == "10.0.0.2"


def test_header_with_more_trusted_addresses_than_any_path_has_is_not_read_to_its_beginning() -> None:
    line = ",".join(["203.0.113.9", *["10.9.9.9"] * MAX_HOPS])

    assert PROXIES.client_of("10.0.0.1", [line]) == "10.9.9.9"


def test_proxies_are_recognised_over_ipv6_and_as_mapped_addresses() -> None:
    assert PROXIES.client_of("2001:db8:ffff::1", ["2001:db8::9"]) == "2001:db8::9"
    assert PROXIES.client_of("::ffff:10.0.0.1", ["203.0.113.9"]) == "203.0.113.9"


def test_without_trusted_proxies_the_client_is_the_peer() -> None:
    no_proxies = TrustedProxies(())

    assert no_proxies.client_of("127.0.0.1", ["198.51.100.1"]) == "127.0.0.1"
    assert no_proxies.client_of(None, ["198.51.100.1"]) == ""


@given(lines=st.lists(st.text(), max_size=4), peer=st.ip_addresses().map(str))
def test_any_text_in_the_header_yields_an_address(lines: list[str], peer: str) -> None:
    client = PROXIES.client_of(peer, lines)

    assert rate_limit_key(client)
    if PROXIES.client_of(peer, ["198.51.100.1"]) != "198.51.100.1":
        assert rate_limit_key(client) == rate_limit_key(peer)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no:address", "no:address"),
    ],
)
def test_clients_are_counted_by_ipv4_address_or_ipv6_network(address: str, name: str) -> None:
    assert rate_limit_key(address) == name


@pytest.mark.parametrize(
    ("peer", "headers", "requested"),
    [
        ("203.0.113.9", {}, ("gateway:8080", None)),
        ("203.0.113.9", {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}, ("gateway:8080", None)),
        (None, {"X-Forwarded-Host": "evil.example"}, ("gateway:8080", None)),
        ("10.0.0.1", {}, ("gateway:8080", None)),
        ("10.0.0.1", {"X-Forwarded-Host": "push.example"}, ("push.example", None)),
        ("10.0.0.1", {"X-Forwarded-Proto": "https"}, ("gateway:8080", "https")),
        ("10.0.0.1", {"X-Forwarded-Host": "push.example", "X-Forwarded-Proto": "WSS"}, ("push.example", "https")),
        ("10.0.0.1", {"X-Forwarded-Host": "evil.example, push.example"}, ("gateway:8080", None)),
        ("10.0.0.1", {"X-Forwarded-Proto": "https,http"}, ("gateway:8080", None)),
        ("10.0.0.1", {"X-Forwarded-Proto": "gopher"}, ("gateway:8080", None)),
    ],
)  # fmt: skip
def test_only_a_trusted_proxy_may_name_the_host_and_scheme_of_a_request(
    peer: str | None, headers: dict[str, str], requested: tuple[str, str | None]
) -> None:
    sent = CIMultiDictProxy(CIMultiDict({"Host": "gateway:8080", **headers}))

    assert PROXIES.requested_host(peer, sent) == requested


def test_header_that_comes_twice_names_no_host() -> None:
    sent = CIMultiDict({"Host": "gateway:8080"})
    sent.extend([("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Host", "push.example")])

    assert PROXIES.requested_host("10.0.0.1", CIMultiDictProxy(sent)) == ("gateway:8080", None)
    assert TrustedProxies([]).requested_host("10.0.0.1", CIMultiDictProxy(sent)) == ("gateway:8080", None)
