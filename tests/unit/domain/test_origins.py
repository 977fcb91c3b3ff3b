"""Origins: the spellings of one origin, wildcards, the own host, and names that only look alike."""

from __future__ import annotations

import string
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.origins import parse_allowed_origin, parse_origin

HOST = "push.example.com"
LABELS = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=12)
SPELLINGS = st.tuples(
    st.sampled_from(["https://", "HTTPS://", "wss://", "WSS://"]),
    st.sampled_from([HOST, HOST.upper(), "Push.Example.Com"]),
    st.sampled_from(["", ":443"]),
    st.sampled_from(["", "/"]),
).map("".join)


@given(SPELLINGS)
def test_every_spelling_of_an_origin_has_one_form(spelling: str) -> None:
    origin = parse_origin(spelling)

    assert origin is not None
    assert origin.text == parse_allowed_origin(spelling) == f"https://{HOST}"
    assert origin.is_at(HOST, scheme=None)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("http://localhost:3000", "http://localhost:3000"),
        ("ws://localhost:80", "http://localhost"),
        ("http://localhost:443", "http://localhost:443"),
        ("https://[2001:DB8::0:1]:8443/", "https://[2001:db8::1]:8443"),
        ("http://192.168.0.7", "http://192.168.0.7"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://app.example.", "https://app.example."),
        ("capacitor://localhost", "capacitor://localhost"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ("null", "null"),
        ("file://", "file://"),
        ("file:///", "file://"),
    ],
)
def test_origin_has_the_form_that_browsers_send(text: str, form: str) -> None:
    origin = parse_origin(text)

    assert origin is not None
    assert origin.text == parse_allowed_origin(text) == form


@pytest.mark.parametrize(
    "text",
    [
        "",
        "push.example.com",
        "https://",
        "https:///",
        "https://push.example.com/x",
        "https://push.example.com//",
        "https://push.example.com?",
        "https://push.example.com#x",
        "https://user@push.example.com",
        "https://push.example.com:443@evil.example",
        "https://push.example.com https://evil.example",
        "https://push.example.com,https://evil.example",
        "https://push.example.com\\.evil.example",
        "https://push.example.com\t",
        "https://push.example.com\n",
        "https://push.example.com:",
        "https://push.example.com:0",
        "https://push.example.com:65536",
        "https://push.example.com:+443",
        "https://push.example.com:４４３",
        "https://push.example.\N{KELVIN SIGN}om",
        "https://pu\N{LATIN SMALL LETTER LONG S}h.example.com",
        "https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example",
        "https://*.example.com",
        "https://[::1",
        "https://[::1]x",
        "https://[fe80::1%eth0]",
        "https://[1.2.3.4]",
        "*",
        f"https://{'a' * 300}.example",
    ],
)
def test_text_that_is_not_one_origin_is_none(text: str) -> None:
    assert parse_origin(text) is None


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("https://*.Preview.example.com/", "https://*.preview.example.com"),
        ("wss://*.preview.example.com:443", "https://*.preview.example.com"),
        ("http://*.localhost:3000", "http://*.localhost:3000"),
        ("https://*.com", None),
        ("https://*.", None),
        ("https://*.*.example.com", None),
        ("https://*example.com", None),
        ("https://a.*.example.com", None),
        ("https://*.example.com.", None),
        ("https://*.2.3.4", None),
        ("https://*.[::1]", None),
        ("https://*.u@example.com", None),
        ("*://example.com", None),
        ("*://*.example.com", None),
    ],
)
def test_wildcard_is_one_label_before_a_domain(text: str, form: str | None) -> None:
    if form is not None:
        assert parse_allowed_origin(text) == form
        return
    with pytest.raises(ValueError, match="a wildcard stands for the first label"):
        parse_allowed_origin(text)


@given(LABELS, st.sampled_from(["", ":443", "/"]))
def test_wildcard_allows_each_name_with_one_label_more(label: str, end: str) -> None:
    origin = parse_origin(f"https://{label}.preview.example.com{end}")

    assert origin is not None
    assert origin.wildcard == "https://*.preview.example.com"


LOOKALIKES = [
    "https://preview.example.com",
    "https://.preview.example.com",
    "https://evilpreview.example.com",
    "https://a.b.preview.example.com",
    "https://a.preview.example.com.evil",
    "https://a.preview.example.com.",
    "https://a.preview.example.com:8443",
    "https://a.preview.example.com@evil.example",
    "https://evil.example/a.preview.example.com",
    "https://evil.example#.preview.example.com",
    "https://evil.example?.preview.example.com",
    "https://evil.example:443.preview.example.com",
    "https://evil%2e.preview.example.com",
    "https://a.preview.example.co",
    "http://a.preview.example.com",
    "ftp://a.preview.example.com",
    "null",
    "file://",
]


@pytest.mark.parametrize("text", LOOKALIKES)
def test_lookalike_has_another_wildcard(text: str) -> None:
    origin = parse_origin(text)

    assert origin is None or origin.wildcard != "https://*.preview.example.com"


HEADERS = st.one_of(
    st.text(max_size=60),
    st.text("aA.:/@[]#?*%-_ \\,0443previewxmlcot", max_size=60).map("https://".__add__),
    st.tuples(st.sampled_from(LOOKALIKES), st.text("a.:/@#?\\ 0", max_size=5)).map("".join),
    st.tuples(LABELS, st.text("a.:/@#?\\ 0", max_size=5)).map(
        lambda parts: f"https://{parts[0]}{parts[1]}.preview.example.com"
    ),
)


@given(HEADERS)
def test_only_names_below_the_domain_match_its_wildcard(text: str) -> None:
    """An oracle that knows nothing of the parser: the URL parser of the standard library."""
    origin = parse_origin(text)
    if origin is None or origin.wildcard != "https://*.preview.example.com":
        return

    parts = urlsplit(text)
    assert parts.scheme in {"https", "wss"}
    assert parts.port in {None, 443}
    assert (parts.username, parts.password, parts.query, parts.fragment) == (None, None, "", "")
    assert parts.path in {"", "/"}
    assert parts.hostname is not None
    label, _, rest = parts.hostname.partition(".")
    assert label
    assert rest == "preview.example.com"


@given(HEADERS)
def test_form_of_an_origin_is_parsed_to_itself(text: str) -> None:
    origin = parse_origin(text)

    assert origin is None or parse_origin(origin.text) == origin


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "expected"),
    [
        ("https://push.example.com", "push.example.com", None, True),
        ("https://push.example.com/", "PUSH.example.com:443", None, True),
        ("wss://push.example.com:443", "push.example.com", "https", True),
        ("http://push.example.com", "push.example.com:80", None, True),
        ("http://push.example.com", "push.example.com", "http", True),
        ("https://push.example.com:8443", "push.example.com:8443", None, True),
        ("http://[::1]:8080", "[0:0:0:0:0:0:0:1]:8080", None, True),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", None, True),
        ("https://push.example.com.", "push.example.com.", None, True),
        # A proxy behind the one that ends TLS often writes http.
        ("https://push.example.com", "push.example.com", "http", True),
        # The network may have changed a page without TLS.
        ("http://push.example.com", "push.example.com", "https", False),
        ("ws://push.example.com", "push.example.com", "https", False),
        ("https://push.example.com", "push.example.com:80", None, False),
        ("https://push.example.com:8443", "push.example.com", None, False),
        ("https://push.example.com", "push.example.com:8443", None, False),
        ("https://push.example.com.", "push.example.com", None, False),
        ("https://a.push.example.com", "push.example.com", None, False),
        ("https://evilpush.example.com", "push.example.com", None, False),
        ("https://push.example.com.evil", "push.example.com", None, False),
        ("capacitor://push.example.com", "push.example.com", None, False),
        ("https://push.example.com", "", None, False),
        ("https://push.example.com", "push.example.com,evil.example", None, False),
        ("https://push.example.com", "user@push.example.com", None, False),
        ("https://push.example.com", "push.example.\N{KELVIN SIGN}om", None, False),
        ("http://[::1]", "::1", None, False),
        ("null", "", None, False),
        ("file://", "", None, False),
    ],
)
def test_origin_of_the_own_host_has_its_name_and_port(
    origin: str, host: str, scheme: str | None, expected: bool
) -> None:
    parsed = parse_origin(origin)

    assert parsed is not None
    assert parsed.is_at(host, scheme=scheme) is expected


@given(HEADERS, st.sampled_from(["push.example.com", "a.preview.example.com:443", "[::1]:8080", "", "x"]))
def test_only_the_same_host_and_port_are_the_own_host(text: str, host: str) -> None:
    origin = parse_origin(text)
    if origin is None or not origin.is_at(host, scheme=None):
        return

    page, server = urlsplit(text), urlsplit(f"{origin.scheme}://{host}")
    default = {"http": 80, "https": 443}[origin.scheme]
    assert (page.hostname, page.port or default) == (server.hostname, server.port or default)
