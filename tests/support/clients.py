"""Clients of other projects: they execute commands and report events. The stock ones run under Node."""

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
    """Runs clients and executes commands for them; ``open`` makes a client."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.ids = itertools.count(1)

    @abstractmethod
    def execute(self, **command: Any) -> None:
        """Execute a command; see ``clients.mjs`` for the commands."""

    @abstractmethod
    def stop(self) -> None:
        """Close every client."""

    @abstractmethod
    def open_together(
        self, url: str, namespaces: list[str], *, token: str, transports: list[str] | None = None
    ) -> list[StockClient]:
        """Open several namespaces on one transport; return a client for each, in the same order."""

    def open(
        self,
        url: str,
        *,
        token: str | None = None,
        namespace: str = "/",
        transports: list[str] | None = None,
        auth: dict[str, Any] | None = None,
        share: StockClient | None = None,
        release: str | None = None,
        **options: Any,
    ) -> StockClient:
        """Open a client, which starts to connect at once; ``options`` are those of ``io()``.

        ``release`` is that of the JavaScript client, such as ``4.0``; without it the newest one.
        """
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
            release=release,
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
        """Stop the Node process (SIGSTOP), like a laptop whose lid is closed."""
        self._script.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the Node process."""
        self._script.signal(signal.SIGCONT)

    def stop(self) -> None:
        self._script.stop()


class StockClient:
    """One client in one namespace."""

    def __init__(self, clients: Clients, client_id: str) -> None:
        self._clients = clients
        self._ack_ids = itertools.count(1)
        self.id = client_id

    @property
    def entries(self) -> list[Entry]:
        """All entries of the journal about this client so far."""
        return [entry for entry in self._clients.journal.entries if entry["id"] == self.id]

    @property
    def sid(self) -> str:
        """The sid of the latest ``authenticated`` event."""
        sid: str = self.events("authenticated")[-1][0]["socketId"]
        return sid

    def answer_all(self, *args: Any, repeat: dict[str, Any] | None = None) -> StockClient:
        """Acknowledge every event from now on with these arguments.

        ``repeat`` makes a further one: ``text``, ``times`` times. Returns once the client does so.
        """
        answer_id = next(self._ack_ids)
        self._clients.execute(do="answerAll", id=self.id, args=args, repeat=repeat, answerId=answer_id)
        self.wait("answering", answerId=answer_id)
        return self

    def answer_kept(self, *args: Any) -> None:
        """Acknowledge the events that were received and not acknowledged."""
        self._clients.execute(do="answerKept", id=self.id, args=args)

    def send_raw(self, text: str) -> None:
        """Send a Socket.IO packet as text, past the client."""
        self._clients.execute(do="sendRaw", id=self.id, text=text)

    def events(self, name: str) -> list[list[Any]]:
        """Return the arguments of every event of that name so far."""
        return [e["args"] for e in self.entries if e["type"] == "event" and e["event"] == name]

    def wait(self, kind: str, *, count: int = 1, timeout: float = TIMEOUT_SECONDS, **fields: Any) -> Entry:
        """Wait for the ``count``-th entry of a kind: connect, connect_error, disconnect, upgrade, event …"""
        seen = itertools.count(1)

        def wanted(entry: Entry) -> bool:
            fits = entry["id"] == self.id and entry["type"] == kind
            return fits and all(entry.get(k) == v for k, v in fields.items()) and next(seen) == count

        return self._clients.journal.wait(wanted, timeout=timeout, of=self.id)

    def connected(self, **options: Any) -> StockClient:
        """Wait for ``authenticated`` and until the engine of the client is open."""
        self.wait("event", event="authenticated", **options)
        self.wait("engine")
        return self

    def event(self, name: str, **options: Any) -> list[Any]:
        """Wait for an event; return its arguments."""
        args: list[Any] = self.wait("event", event=name, **options)["args"]
        return args

    def emit(self, event: str, *args: Any) -> None:
        self._clients.execute(do="emit", id=self.id, event=event, args=args)

    def emit_with_ack(self, event: str, *args: Any) -> Any:
        """Emit, wait for the acknowledgement, and return its first argument."""
        return self.emit_with_acks(event, *args)[0]

    def emit_with_acks(self, event: str, *args: Any) -> list[Any]:
        """Emit, wait for the acknowledgement, and return all its arguments."""
        ack_id = next(self._ack_ids)
        self._clients.execute(do="emitWithAck", id=self.id, event=event, args=args, ackId=ack_id)
        entry = self.wait("ack", ackId=ack_id)
        assert entry.get("error") is None, entry
        answer: list[Any] = entry["answer"]
        return answer

    def emit_with_callback(self, event: str, *args: Any) -> list[Any]:
        """Emit an event with a callback and no timeout, as every release can; return the arguments of its ack."""
        ack_id = next(self._ack_ids)
        self._clients.execute(do="emitWithCallback", id=self.id, event=event, args=args, ackId=ack_id)
        answer: list[Any] = self.wait("ack", ackId=ack_id)["answer"]
        return answer

    def emit_with_retries(self, event: str, *args: Any) -> int:
        """Put an event into the queue of a client with ``retries``; return the ``ackId`` of the entry of its ack."""
        ack_id = next(self._ack_ids)
        self._clients.execute(do="emitWithRetries", id=self.id, event=event, args=args, ackId=ack_id)
        return ack_id

    def disconnect(self) -> None:
        self._clients.execute(do="disconnect", id=self.id)

    def connect(self, **auth: Any) -> None:
        self._clients.execute(do="connect", id=self.id, auth=auth or None)

    def close_engine(self, url: str | None = None) -> None:
        """Close the engine, as a lost network does; the client reconnects by itself, to ``url`` if given."""
        self._clients.execute(do="closeEngine", id=self.id, url=url)

    def set_url(self, url: str) -> None:
        """Reconnect to ``url`` from now on."""
        self._clients.execute(do="setUrl", id=self.id, url=url)
