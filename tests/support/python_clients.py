"""python-socketio's own clients, on an event loop in a thread; they execute the same commands as the stock ones."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlencode

import aiohttp
import socketio

from tests.support.clients import Clients, StockClient
from tests.support.journal import Journal
from tests.support.waiter import TIMEOUT_SECONDS

_REASONS = {
    "server disconnect": "io server disconnect",
    "client disconnect": "io client disconnect",
}
"""Reasons of a disconnect: of python-socketio, and of the JavaScript client for the same."""


class PythonClients(Clients):
    """An AsyncClient for each opened client."""

    def __init__(self) -> None:
        super().__init__(Journal("python-socketio's clients"))
        self._loop = asyncio.new_event_loop()
        self._sockets: dict[str, tuple[socketio.AsyncClient, str]] = {}
        self._connect_ended: dict[str, asyncio.Event] = {}
        self._answers: dict[str, tuple[Any, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._http = self._do(_session())

    def open_together(
        self, url: str, namespaces: list[str], *, token: str, transports: list[str] | None = None
    ) -> list[StockClient]:
        clients = {namespace: StockClient(self, str(next(self.ids))) for namespace in namespaces}
        ids = {namespace: client.id for namespace, client in clients.items()}
        options = {"auth": {"token": token}} | ({"transports": transports} if transports else {})
        self._start(lambda: self._connect(ids, url, options))
        return list(clients.values())

    def execute(self, **command: Any) -> None:
        self._start(lambda: self._execute(command))

    def stop(self) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _execute(self, command: dict[str, Any]) -> None:
        client_id = command["id"]
        if command["do"] == "open":
            await self._connect({command["namespace"]: client_id}, command["url"], command["options"])
            return
        client, namespace = self._sockets[client_id]
        await self._connect_ended[client_id].wait()  # AsyncClient accepts no calls while it connects
        match command["do"]:
            case "emit":
                await client.emit(command["event"], tuple(command["args"]), namespace=namespace)
            case "emitWithAck":
                answer = await client.call(
                    command["event"], tuple(command["args"]), namespace=namespace, timeout=TIMEOUT_SECONDS
                )
                self.journal.add(
                    {"id": client_id, "type": "ack", "ackId": command["ackId"], "answer": [answer]}
                )
            case "answerAll":
                self._answers[client_id] = tuple(command["args"])
                self.journal.add({"id": client_id, "type": "answering", "answerId": command["answerId"]})
            case "disconnect":
                await client.shutdown()
            case unknown:
                raise NotImplementedError(unknown)

    async def _connect(self, ids: dict[str, str], url: str, options: dict[str, Any]) -> None:
        client = socketio.AsyncClient(
            reconnection_delay=0.05,
            reconnection_delay_max=0.5,
            randomization_factor=0,
            http_session=self._http,
        )
        for namespace, client_id in ids.items():
            self._sockets[client_id] = client, namespace
            self._connect_ended[client_id] = asyncio.Event()
            self._watch(client, namespace, client_id)
        # With recovery its handlers would get the position as one more argument; see docs/explanation/recovery.md.
        query = {"recovery": "0"} | (options.get("query") or {})
        try:
            await client.connect(
                f"{url}/?{urlencode(query)}",
                headers=options.get("extraHeaders", {}),
                auth=options.get("auth"),
                transports=options.get("transports"),
                namespaces=list(ids),
                wait_timeout=TIMEOUT_SECONDS,
                retry=True,
            )
        except socketio.exceptions.ConnectionError:
            return  # `connect_error` was reported
        finally:
            for client_id in ids.values():
                self._connect_ended[client_id].set()
        for client_id in ids.values():
            self.journal.add({"id": client_id, "type": "engine", "transport": client.transport()})

    def _watch(self, client: socketio.AsyncClient, namespace: str, client_id: str) -> None:
        def report(kind: str, **more: Any) -> None:
            self.journal.add({"id": client_id, "type": kind, **more})

        def on_error(error: Any = None) -> None:
            known = isinstance(error, dict) and "message" in error
            report(
                "connect_error",
                **({"data": None} | error if known else {"message": str(error), "data": None}),
            )

        client.on("connect", lambda: report("connect", sid=client.get_sid(namespace)), namespace=namespace)
        client.on("connect_error", on_error, namespace=namespace)
        client.on(
            "disconnect",
            lambda reason: report("disconnect", reason=_REASONS.get(reason, reason)),
            namespace=namespace,
        )

        def on_event(event: str, *args: Any) -> tuple[Any, ...] | None:
            report("event", event=event, args=list(args))
            return self._answers.get(client_id)

        client.on("*", on_event, namespace=namespace)

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a coroutine on the loop of the thread. Coroutines run in the order of the calls until they wait."""

        def start() -> None:
            task = self._loop.create_task(work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(start)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_SECONDS)

    async def _close(self) -> None:
        for client, _ in self._sockets.values():
            await client.shutdown()
        # Tasks of the clients as well: an AsyncClient that the server disconnected over polling leaves some behind.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.close()


class _ReadResponse(aiohttp.ClientResponse):
    """A response whose body is read if it is an error: python-engineio drops such a response with its connection."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        response = await super().start(connection)
        if response.status >= 400:
            await response.read()
        return response


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), response_class=_ReadResponse)
