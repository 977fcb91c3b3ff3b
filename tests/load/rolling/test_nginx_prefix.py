"""Debian's nginx that strips a prefix, as docs/how-to/use-a-load-balancer.md configures it: signatures stay valid."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.backend import Answer, Backend
from tests.support.gateway_process import KEY_ID, KEY_SECRET, GatewayProcess
from tests.support.nginx import start
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.waiter import TIMEOUT_SECONDS

pytestmark = [pytest.mark.proxies, pytest.mark.timeout(200)]

PAGE = (ROOT / "docs/how-to/use-a-load-balancer.md").read_text(encoding="utf-8")
USERS = ["ann@example.com", "a/b", "ü", "a b", "a+b", "a%2Fb", "100%", "a//b", "~a:b;c=d", "🙂", "..a", "?#"]
DECODING = "location /push/ { proxy_pass http://ingest/; }"


def recipe() -> str:
    """Return the block of nginx that the page recommends."""
    [block] = [each for each in re.findall(r"```nginx\n(.*?)```", PAGE, re.DOTALL) if "/push/" in each]
    return block


@contextmanager
def nginx_with(location: str, gateway: GatewayProcess) -> Iterator[str]:
    """Run nginx with one location in front of a gateway; the value is its URL."""
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="nginx-"))
    (folder / "nginx.conf").write_text(
        f"pid {folder}/pid;\nevents {{}}\nhttp {{\n"
        f"access_log off;\nclient_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\n"
        f"upstream ingest {{ server {gateway.ingest_url.removeprefix('http://')}; }}\n"
        f"server {{ listen 127.0.0.1:{port};\n{location}\n}}\n}}\n"
    )
    process = start(folder, ("127.0.0.1", port))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(TIMEOUT_SECONDS)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayProcess]:
    process = GatewayProcess(ingest_path_prefix="/push", dev=True, ingest_port=free_port())
    yield process
    process.stop()


def push(url: str, user: str) -> Answer:
    backend = Backend(url, KEY_ID, KEY_SECRET)
    return backend.post(f"/push/emit/user/{quote(user, safe='')}", {"event": "e"})


def test_recipe_with_a_prefix_passes_every_user_unchanged(gateway: GatewayProcess) -> None:
    with nginx_with(recipe(), gateway) as url:
        answers = {user: push(url, user) for user in USERS}
        presence = Backend(url, KEY_ID, KEY_SECRET).send("GET", "/push/presence/ann%40example.com?")

    assert {user: answer.status for user, answer in answers.items()} == dict.fromkeys(USERS, 200)
    assert {user: answer.body["room"] for user, answer in answers.items()} == {
        user: f"user:{user}" for user in USERS
    }
    assert presence.status == 200


def test_nginx_that_encodes_the_path_a_second_time_is_named_as_the_mistake(gateway: GatewayProcess) -> None:
    location = recipe().replace("^/push(?<target>/.*)$) { }", "^/push(/.*)$) { set $target $1; }")
    with nginx_with(location, gateway) as url:
        answer = push(url, "ann@example.com")

    assert "set $target $1" in location
    assert "before a proxy encoded it a second time" in answer.body["mistake"]


def test_nginx_that_decodes_the_path_is_named_as_the_mistake(gateway: GatewayProcess) -> None:
    with nginx_with(DECODING, gateway) as url:
        answers = [push(url, user) for user in ("ann@example.com", "ü")]

    assert answers[0].body["code"] == "bad_signature"
    assert "which a proxy has decoded" in answers[0].body["mistake"]
    assert "/push/emit/user/ann%40example.com" in answers[0].body["mistake"]
