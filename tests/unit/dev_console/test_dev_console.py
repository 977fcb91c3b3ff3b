"""The development page accepts requests of its own user only (Host, Origin, secret), and its responses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from gateway.dev_console import create_app
from gateway.dev_console.guard import Forbidden, Guard
from gateway.domain.errors import BrokerUnavailable
from gateway.domain.messages import Message, PublishResult
from gateway.domain.positions import Position

OTHER_PAGE = {"Origin": "http://evil.example"}


class Recorder:
    """A fake publisher that keeps messages. Unlike a broker it always reports one connection, or is unavailable."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.is_unavailable = False

    async def publish(self, message: Message, dedup_key: None = None) -> PublishResult:
        if self.is_unavailable:
            raise BrokerUnavailable("the broker is unavailable")
        self.messages.append(message)
        return PublishResult(message.id, Position("1-0"), connections=1, exact=True)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def page(recorder: Recorder) -> Any:
    console = create_app(
        publisher=recorder,
        issue_token=lambda user: f"token of {user}",
        hosts=("gateway.test:8080",),
        commands=lambda: {"Push <one>": 'sio-gateway emit user alice hi \'{"a": "<b>"}\''},
        documents=lambda: {"events.d.ts": "type <A> = 1;"},
    )
    app = web.Application()
    app.add_subapp("/dev", console)
    async with TestClient(TestServer(app)) as client:
        yield Page(client)


class Page:
    """A browser at the page: it sends the requests of its JavaScript, with headers that a test may change."""

    def __init__(self, client: TestClient[web.Request, web.Application]) -> None:
        self.client = client
        self.host = client.make_url("/").authority

    async def open(self, path: str = "/dev", **headers: str) -> ClientResponse:
        return await self.client.get(path, headers=headers)

    async def secret(self, user: str = "alice") -> str:
        answer = await self.client.get("/dev", params={"user": user})
        setup: dict[str, str] = json.loads(re.findall(r'id="setup">(.*?)</script>', await answer.text())[0])
        return setup["secret"]

    async def post(self, path: str, content: object, **headers: str | None) -> ClientResponse:
        defaults = {
            "Origin": f"http://{self.host}",
            "X-Dev-Page": await self.secret(),
            "Content-Type": "application/json",
        }
        sent = {name: value for name, value in {**defaults, **headers}.items() if value is not None}
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return await self.client.post(f"/dev/{path}", data=data, headers=sent)


async def status_and_code(answer: ClientResponse) -> tuple[int, str]:
    return answer.status, (await answer.json())["code"]


async def test_page_is_one_document_that_loads_only_from_this_process(page: Page):
    answer = await page.open()
    text = await answer.text()

    assert (answer.status, answer.content_type) == (200, "text/html")
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == [
        "data:,",
        "/dev/documents/events.d.ts",
        "/socket.io/socket.io.js",
    ]
    assert "http://" not in text
    assert "https://" not in text
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_policy_allows_only_the_script_and_the_style_of_the_page(page: Page):
    answer = await page.open()
    text = await answer.text()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))

    def hash_of(tag: str) -> str:
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert len(inline) == 1
        return f"'sha256-{base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()}'"

    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == f"'self' {hash_of('script')}"
    assert policy["style-src"] == hash_of("style")
    assert policy["connect-src"] == f"'self' ws://{page.host} wss://{page.host}"
    assert policy["frame-ancestors"] == "'none'"


async def test_page_shows_the_commands_as_text(page: Page):
    text = await (await page.open()).text()

    assert "Push &lt;one&gt;" in text
    assert "sio-gateway emit user alice hi &#x27;{&quot;a&quot;: &quot;&lt;b&gt;&quot;}&#x27;" in text


async def test_page_links_to_documents_which_are_text(page: Page):
    assert 'href="/dev/documents/events.d.ts"' in await (await page.open()).text()

    document = await page.open("/dev/documents/events.d.ts")

    assert (document.status, document.content_type) == (200, "text/plain")
    assert await document.text() == "type <A> = 1;"
    assert document.headers["X-Content-Type-Options"] == "nosniff"


async def test_other_documents_and_other_hosts_are_rejected(page: Page):
    assert (await page.open("/dev/documents/passwords")).status == 404
    assert (await page.open("/dev/documents/events.d.ts", Host="attacker.example")).status == 403


async def test_user_id_is_escaped(page: Page):
    answer = await page.client.get("/dev/", params={"user": "</script><b>{{secret}}"})
    text = await answer.text()

    assert "<b>{{secret}}" not in text
    assert '\\u003c/script>\\u003cb>{{secret}}"' in text
    assert (await page.client.get("/dev", params={"user": "a\nb"})).status == 422


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "gateway.test:8080"]
)
async def test_page_opens_under_the_names_of_this_machine(page: Page, host: str):
    assert (await page.open(Host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "127.0.0.2",
        ),
        *(
            "gateway.test",
            "gateway.test:81",
            "localhost@evil.example",
            "evil.example@localhost",
            "localhost/x",
        ),
        *("", "localhost:x", "[::1", "0.0.0.0:8080", "localhost;a", "localhost 127.0.0.1"),
    ],
)
async def test_foreign_host_name_is_rejected(page: Page, host: str):
    answer = await page.open(Host=host)

    assert await status_and_code(answer) == (403, "host_rejected")
    assert "Content-Security-Policy" not in answer.headers
    assert await status_and_code(
        await page.post("token", {"user": "alice"}, Host=host, Origin=f"http://{host}")
    ) == (
        403,
        "host_rejected",
    )


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For",
        "x-forwarded-host",
        "X-Forwarded-Proto",
        "Forwarded",
        "X-Real-IP",
        "Via",
        "CF-Connecting-IP",
        "True-Client-IP",
    ],
)
async def test_page_is_not_served_through_a_proxy_that_adds_a_header(
    page: Page, recorder: Recorder, header: str
):
    passed_on = {header: "192.0.2.7"}
    answers = [
        await page.open(Host="localhost", **passed_on),
        await page.open("/dev/documents/events.d.ts", Host="localhost", **passed_on),
        await page.post("token", {"user": "alice"}, **passed_on),
        await page.post("push", {"user": "alice", "event": "x"}, **passed_on),
    ]

    assert [await status_and_code(answer) for answer in answers] == [(403, "proxy_rejected")] * 4
    assert recorder.messages == []


async def test_page_is_not_served_through_nginx_with_its_defaults(page: Page):
    """``proxy_pass`` alone adds no header, writes the address of the gateway into ``Host``, and HTTP/1.0."""
    address = page.client.make_url("/")
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(f"GET /dev HTTP/1.0\r\nHost: {page.host}\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()

    assert answer.split(" ")[1] == "403"
    assert "proxy_rejected" in answer


@pytest.mark.parametrize(
    "origin", [None, "null", "", "http://evil.example", "http://localhost:1", "https://127.0.0.1", "file://"]
)
@pytest.mark.parametrize("path", ["token", "push"])
async def test_requests_of_other_pages_are_rejected(
    page: Page, recorder: Recorder, origin: str | None, path: str
):
    answer = await page.post(path, {"user": "alice", "event": "x"}, Origin=origin)

    assert await status_and_code(answer) == (403, "origin_rejected")
    assert recorder.messages == []


@pytest.mark.parametrize("secret", [None, "", "0" * 64, "é", "secret of bob"])
@pytest.mark.parametrize("path", ["token", "push"])
async def test_requests_without_the_secret_of_the_page_are_rejected(
    page: Page, recorder: Recorder, secret: str | None, path: str
):
    headers = {"X-Dev-Page": await page.secret("bob") if secret == "secret of bob" else secret}

    answer = await page.post(path, {"user": "alice", "event": "x"}, **headers)

    assert await status_and_code(answer) == (403, "secret_rejected")
    assert recorder.messages == []


async def test_responses_have_no_cors_headers(page: Page):
    answers = [
        await page.open(**OTHER_PAGE),
        await page.post("token", {"user": "alice"}),
        await page.post("token", {"user": "alice"}, **OTHER_PAGE),
        await page.client.options(
            "/dev/push", headers={**OTHER_PAGE, "Access-Control-Request-Method": "POST"}
        ),
    ]

    assert [answer.status for answer in answers] == [200, 200, 403, 405]
    assert [
        name for answer in answers for name in answer.headers if name.lower().startswith("access-control")
    ] == []


async def test_page_gets_a_token_for_its_user(page: Page):
    answer = await page.post("token", {"user": "alice"})

    assert answer.status == 200
    assert await answer.json() == {"token": "token of alice"}
    assert answer.headers["Cache-Control"] == "no-store"


async def test_page_of_another_user_gets_a_token_for_that_user(page: Page):
    answer = await page.post("token", {"user": "bob/ü"}, **{"X-Dev-Page": await page.secret("bob/ü")})

    assert await answer.json() == {"token": "token of bob/ü"}


async def test_push_is_published_to_the_user_of_the_page(page: Page, recorder: Recorder):
    answer = await page.post("push", {"user": "alice", "event": "hi", "data": {"a": [1, "ü", None]}})

    (message,) = recorder.messages
    assert await answer.json() == {
        "id": message.id,
        "room": "user:alice",
        "online": True,
        "connections": 1,
        "recoverable": 0,
    }
    assert (message.namespace, message.rooms, message.event) == ("/", ("user:alice",), "hi")
    assert [json.loads(argument) for argument in message.arguments] == [{"a": [1, "ü", None]}]


async def test_push_without_data_has_no_argument(page: Page, recorder: Recorder):
    await page.post("push", {"user": "alice", "event": "hi"})
    await page.post("push", {"user": "alice", "event": "hi", "data": None})

    assert [message.arguments for message in recorder.messages] == [(), ("null",)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", (400, "invalid_json")),
        (b"{", (400, "invalid_json")),
        (b"\xff", (400, "invalid_json")),
        (b'{"user":"alice","event":"x","data":NaN}', (400, "invalid_json")),
        (b'{"user":"alice","event":"x","data":"\\ud800"}', (400, "invalid_json")),
        (
            b'{"user":"alice","event":"x","data":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
            (400, "invalid_json"),
        ),
        (b"[]", (422, "invalid_body")),
        ({"event": "x"}, (422, "invalid_name")),
        ({"user": 5, "event": "x"}, (422, "invalid_name")),
        ({"user": "alice"}, (422, "invalid_name")),
        ({"user": "alice", "event": ""}, (422, "invalid_name")),
        ({"user": "alice", "event": "connect"}, (422, "invalid_name")),
        ({"user": "alice", "event": "x", "data": "x" * 70_000}, (413, "body_too_large")),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_invalid_body_is_rejected_with_its_code(
    page: Page, recorder: Recorder, content: object, expected: tuple[int, str]
):
    assert await status_and_code(await page.post("push", content)) == expected
    assert recorder.messages == []


@pytest.mark.parametrize(
    "headers", [{"Content-Type": "text/plain"}, {"Content-Type": "application/x-www-form-urlencoded"}]
)
async def test_media_types_of_html_forms_are_rejected(page: Page, headers: dict[str, str]):
    answer = await page.post("push", {"user": "alice", "event": "x"}, **headers)

    assert await status_and_code(answer) == (415, "unsupported_media_type")


async def test_unavailable_broker_is_answered_with_503(page: Page, recorder: Recorder):
    recorder.is_unavailable = True

    answer = await page.post("push", {"user": "alice", "event": "x"})

    assert await status_and_code(answer) == (503, "broker_unavailable")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_loopback_peer_may_open_the_page(address: str):
    Guard().check_peer(address)


@pytest.mark.parametrize(
    "address", [None, "", "192.0.2.2", "10.88.0.1", "2001:db8::1", "::ffff:192.0.2.2", "localhost"]
)
def test_other_peers_are_rejected(address: str | None):
    with pytest.raises(Forbidden) as error:
        Guard().check_peer(address)

    assert error.value.code == "peer_rejected"
