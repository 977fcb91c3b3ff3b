"""The generated declarations, compiled: they accept a front end, and reject uses that are wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.events import load_catalogue
from gateway.events.typescript import Acks, typescript
from tests.support.paths import ROOT
from tests.unit.events.catalogues import CHAT

HERE = Path(__file__).parent
MODULES = ROOT / "tests" / "integration" / "frontend" / "node_modules"
OPTIONS = [
    "--strict --noEmit --noUnusedLocals --exactOptionalPropertyTypes --noUncheckedIndexedAccess",
    "--target es2022 --lib es2023,dom --module esnext --moduleResolution bundler --skipLibCheck false",
]
HEAD = 'import { io } from "socket.io-client";\nimport type { ChatSocket, MainSocket } from "./gateway-events";\n'
HEAD += 'const chat: ChatSocket = io("/chat");\nexport const main: MainSocket = io("/");\n'
WRONG = (
    'chat.emit("joinRom", "lobby");',
    'chat.emit("joinRoom");',
    'chat.emit("joinRoom", 7);',
    'chat.emit("message", { text: "hi" });',
    'chat.emit("message", { text: "hi", room: "lobby", txt: "" });',
    'chat.emit("joinRoom", "lobby", (answer: number) => answer);',
    'chat.emit("joinRoom", "lobby", (answer) => answer.room);',
    'chat.emitWithAck("joinRoom", { room: "lobby" });',
    'chat.emitWithAck("joinRoom", "lobby").then((answer: string) => answer);',
    'chat.timeout(9).emit("joinRoom", 7, () => undefined);',
    'chat.on("onlineUser", () => undefined);',
    'chat.on("userJoined", (user: string) => user);',
    'chat.on("userJoined", ({ user }) => user);',
    'chat.on("message", (message) => message.text);',
    'chat.on("authenticated", ({ socketid }) => socketid);',
    'chat.on("onlineUsers", ([{ user }]) => user);',
    'chat.on("onlineUsers", (users) => users.user);',
    'chat.on("onlineUsers", (users, { truncated }) => truncated);',
    'chat.on("user:online", () => undefined);',
    'main.on("user:online", ({ user }) => user);',
    'main.on("user:offline", ({ userId }) => userId.toFixed());',
)

Compile = Callable[..., list[str]]


@pytest.fixture
def compile_files(tmp_path: Path) -> Compile:
    """Compile files, given as name and text, in a folder with socket.io-client. Returns the lines of tsc."""
    compiler = MODULES / "typescript" / "bin" / "tsc"
    assert compiler.exists(), "the packages of tests/integration/frontend are missing: run `make install-dev`"
    (tmp_path / "node_modules").symlink_to(MODULES)

    def compile_(**files: str) -> list[str]:
        names = []
        for name, text in files.items():
            names.append(name.replace("_d_ts", ".d.ts").replace("_ts", ".ts").replace("_", "-"))
            (tmp_path / names[-1]).write_text(text, encoding="utf-8")
        command = [sys.executable, str(ROOT / "tools" / "node.py"), str(compiler), *" ".join(OPTIONS).split()]
        done = subprocess.run(
            [*command, "--types", "", *names], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
        assert (done.returncode == 0) is (not lines), done
        return lines

    return compile_


def example(acks: Acks = "optional") -> str:
    """Return the declarations of examples/nestjs."""
    text = (ROOT / "examples" / "nestjs" / "events.yaml").read_text(encoding="utf-8")
    return typescript(load_catalogue(text, namespaces=None, webhooks=None), acks=acks)


def test_a_front_end_compiles(compile_files: Compile) -> None:
    front_end = (HERE / "chat.ts").read_text(encoding="utf-8")

    assert compile_files(gateway_events_d_ts=example(), chat_ts=front_end) == []


BUFFERS = """
version: 1
schemas:
  File: {type: object, required: [content], properties: {content: {type: string, format: byte}}}
namespaces:
  /:
    broadcast: anyone
    client_events:
      share:
        args: [{$ref: "#/schemas/File"}]
        emit: [{to: everyone, event: shared, data: {file: $0.content}}]
        ack: $0.content
"""
BUFFERS_HEAD = 'import { io } from "socket.io-client";\nimport type { MainSocket } from "./gateway-events";\n'
BUFFERS_HEAD += 'const main: MainSocket = io("/");\n'
BUFFER_USES = (
    'main.emit("share", { content: new ArrayBuffer(2) });',
    'main.emit("share", { content: new Uint8Array([0, 1]) });',
    'main.on("shared", ({ file }) => new Blob([file as Uint8Array<ArrayBuffer>]));',
    'main.on("shared", ({ file }) => file.byteLength);',
    'main.emit("share", { content: new Uint8Array(2) }, (answer) => "error" in answer || answer.byteLength);',
)
WRONG_BUFFER_USES = (
    'main.emit("share", { content: "AAE=" });',
    'main.emit("share", { content: [0, 1] });',
    'main.on("shared", ({ file }) => file.charCodeAt(0));',
)


def test_buffers_are_accepted_and_got_and_base64_is_an_error(compile_files: Compile) -> None:
    declarations = typescript(load_catalogue(BUFFERS, namespaces=None, webhooks=None))
    uses = BUFFERS_HEAD + "\n".join(BUFFER_USES)
    wrong = BUFFERS_HEAD + "\n".join(WRONG_BUFFER_USES)

    assert compile_files(gateway_events_d_ts=declarations, use_ts=uses) == []
    errors = compile_files(gateway_events_d_ts=declarations, wrong_ts=wrong)

    lines = {int(error.removeprefix("wrong.ts(").partition(",")[0]) for error in errors}
    first = BUFFERS_HEAD.count("\n") + 1
    assert lines == set(range(first, first + len(WRONG_BUFFER_USES))), errors


def test_each_wrong_use_is_an_error_on_its_line(compile_files: Compile) -> None:
    errors = compile_files(gateway_events_d_ts=example(), wrong_ts=HEAD + "\n".join(WRONG))

    lines = {int(error.removeprefix("wrong.ts(").partition(",")[0]) for error in errors}
    first = HEAD.count("\n") + 1
    assert lines == set(range(first, first + len(WRONG))), errors


@pytest.mark.parametrize("acks", ["optional", "required", "none"])
def test_declarations_of_every_grammar_compile(compile_files: Compile, acks: Acks) -> None:
    assert compile_files(chat_d_ts=typescript(CHAT, acks=acks), example_d_ts=example(acks)) == []


def test_with_required_acknowledgements_an_emit_without_one_is_an_error(compile_files: Compile) -> None:
    uses = 'chat.emit("joinRoom", "lobby", () => undefined);\nchat.emit("joinRoom", "lobby");'

    [error] = compile_files(gateway_events_d_ts=example("required"), use_ts=HEAD + uses)
    assert error.startswith("use.ts(6,")


def test_without_acknowledgements_a_callback_is_an_error(compile_files: Compile) -> None:
    uses = 'chat.emit("joinRoom", "lobby");\nchat.emit("joinRoom", "lobby", () => undefined);'

    [error] = compile_files(gateway_events_d_ts=example("none"), use_ts=HEAD + uses)
    assert error.startswith("use.ts(6,")
