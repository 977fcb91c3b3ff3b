"""Clients of other people: commands go in, what happens to them comes out. The stock ones run under Node."""

from __future__ import annotations

import itertools
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from tests.support.journal import Entry, Journal
from tests.support.node_script import NodeScript
from tests.support.waiter import TIMEOUT_SECONDS

SCRIPT = Path(__file__).with_name("clients.mjs")


class Clients(ABC):
    """Something that runs clients and takes commands for them; ``open`` makes one."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.ids = itertools.count(1)

    @abstractmethod
    def execute(self, **command: Any) -> None:
        """Have something done; see ``clients.mjs`` for the commands."""

    @abstractmethod
    def stop(self) -> None:
        """Close every client."""

    @abstractmethod
    def open_together(
        self, url: str, namespaces: list[str], *, token: str, transports: list[str] | None = None
    ) -> list[StockClient]:
        """A client in several namespaces on one transport: one for each namespace, in that order."""

    def open(
        self,
        url: str,
        *,
        token: str | None = None,
        namespace: str = "/",
        transports: list[str] | None = None,
        auth: dict[str, Any] | None = None,
        share: StockClient | None = None,
        **options: Any,
    ) -> StockClient:
        """A client that starts to connect at once; ``options`` are those of ``io()``."""
        if token is not None:
            auth = {"token": token}
        if auth is not None:
            options["auth"] = auth
        if transports is not None:
            options["transports"] = transports
        client = StockClient(self, str(next(self.ids)))
        self.execute(
            do="open",
            id=client.id,
            url=url,
            namespace=namespace,
            options=options,
            manager=share.id if share else None,
        )
        return client


class NodeClients(Clients):
    """The stock clients, all in one Node process."""

    def __init__(self) -> None:
        super().__init__(Journal("the stock clients"))
        self._script = NodeScript(SCRIPT, self.journal)
        self._script.ready()

    def open_together(
        self, url: str, namespaces: list[str], *, token: str, transports: list[str] | None = None
    ) -> list[StockClient]:
        first = self.open(url, token=token, namespace=namespaces[0], transports=transports)
        others = [self.open(url, token=token, namespace=each, share=first) for each in namespaces[1:]]
        return [first, *others]

    def execute(self, **command: Any) -> None:
        self._script.send(command)

    def pause(self) -> None:
        """Let all of them stand still, as a laptop does whose lid is closed."""
        self._script.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._script.signal(signal.SIGCONT)

    def stop(self) -> None:
        self._script.stop()


class StockClient:
    """One client in one namespace."""

    def __init__(self, clients: Clients, client_id: str) -> None:
        self._clients = clients
        self._asks = itertools.count(1)
        self.id = client_id

    @property
    def entries(self) -> list[Entry]:
        """Everything that happened to this client so far."""
        return [entry for entry in self._clients.journal.entries if entry["id"] == self.id]

    @property
    def sid(self) -> str:
        """That of the last greeting."""
        sid: str = self.events("authenticated")[-1][0]["socketId"]
        return sid

    def events(self, name: str) -> list[list[Any]]:
        """The arguments of every event of that name so far."""
        return [e["args"] for e in self.entries if e["type"] == "event" and e["event"] == name]

    def wait(self, kind: str, *, count: int = 1, timeout: float = TIMEOUT_SECONDS, **fields: Any) -> Entry:
        """The ``count``-th thing of that kind: connect, connect_error, disconnect, upgrade, event …"""
        seen = itertools.count(1)

        def wanted(entry: Entry) -> bool:
            fits = entry["id"] == self.id and entry["type"] == kind
            return fits and all(entry.get(k) == v for k, v in fields.items()) and next(seen) == count

        return self._clients.journal.wait(wanted, timeout=timeout, of=self.id)

    def connected(self, **options: Any) -> StockClient:
        """Wait until it is in and was greeted, and its library has noticed."""
        self.wait("event", event="authenticated", **options)
        self.wait("engine")
        return self

    def event(self, name: str, **options: Any) -> list[Any]:
        """The arguments of an event, once it came."""
        args: list[Any] = self.wait("event", event=name, **options)["args"]
        return args

    def emit(self, event: str, *args: Any) -> None:
        self._clients.execute(do="emit", id=self.id, event=event, args=args)

    def emit_with_ack(self, event: str, *args: Any) -> Any:
        """Emit with an acknowledgement and wait for it; its first argument."""
        ask = next(self._asks)
        self._clients.execute(do="ask", id=self.id, event=event, args=args, ask=ask)
        entry = self.wait("ack", ask=ask)
        assert entry.get("error") is None, entry
        return entry["answer"][0]

    def disconnect(self) -> None:
        self._clients.execute(do="disconnect", id=self.id)

    def connect(self, **auth: Any) -> None:
        self._clients.execute(do="connect", id=self.id, auth=auth or None)

    def close_engine(self, url: str | None = None) -> None:
        """Close the engine under it, as a lost network does; it reconnects by itself, to ``url`` if that is given."""
        self._clients.execute(do="cut", id=self.id, url=url)

    def set_url(self, url: str) -> None:
        """Whenever it reconnects, it goes there."""
        self._clients.execute(do="move", id=self.id, url=url)
