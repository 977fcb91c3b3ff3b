"""Start load processes, pin them to cores and divide clients among them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

from benchmarks.machine import ROOT, on_cores
from benchmarks.servers import Server

PAUSE_SECONDS = 0.02
"""See ``backends.publish``."""
EVENTS_PAUSE_SECONDS = 0.005
Answer = dict[str, Any]


class Worker:
    """One load process; see ``benchmarks.load.worker`` for the commands."""

    def __init__(self, core: int) -> None:
        with on_cores({core}):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.load.worker"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self.first = self.clients = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, do: str, **arguments: Any) -> None:
        """Send a command; read its result with ``read_result``."""
        assert self._process.stdin is not None  # noqa: S101  # opened as a pipe
        self._process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
        self._process.stdin.flush()

    def read_result(self) -> Answer:
        """Read the result of the oldest command whose result was not read.

        Raises:
            RuntimeError: the process ended.
        """
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a load process ended with status {self._process.wait()}")
        answer: Answer = json.loads(line)
        return answer

    def execute(self, do: str, **arguments: Any) -> Answer:
        """Send a command and return its result."""
        self.send(do, **arguments)
        return self.read_result()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdout.close()


class LoadGenerator:
    """The clients and backends of one server, users ``u0`` and up, in one process for each core of the load.

    Used as a context: the processes end with it. ``publisher``: the replica that backends push to, if it is another one
    than that of the clients.
    """

    def __init__(
        self, server: Server, cores: list[int], *, at_least: int = 1, publisher: Server | None = None
    ) -> None:
        self._server = server
        self._publisher = publisher or server
        count = max(len(cores), at_least)
        self.workers = [Worker(cores[index % len(cores)]) for index in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for worker in self.workers:
            worker.stop()

    def connect(self, count: int, *, at_once: int = 300, **options: Any) -> None:
        """Connect ``count`` clients; each worker has a contiguous range of users. See ``start_connect``."""
        share = -(-count // len(self.workers))
        for index, worker in enumerate(self.workers):
            worker.first = index * share
            worker.clients = max(0, min(share, count - index * share))
            self.start_connect(worker, at_once=at_once // len(self.workers), **options)
        for worker in self.workers:
            _check(worker.read_result(), worker.clients)

    def start_connect(
        self,
        worker: Worker,
        *,
        role: str | None = None,
        rooms: int = 0,
        deflate: bool = False,
        stamped: bool = False,
        at_once: int = 300,
    ) -> None:
        """Send one worker the command to connect its users; read the result with ``read_result``.

        ``stamped``: latencies end when the kernel received a message, not when the load generator read it.
        """
        worker.send(
            "connect",
            port=self._server.port,
            first=worker.first,
            count=worker.clients,
            secret=self._server.jwt_secret,
            at_once=at_once,
            deflate=deflate,
            role=role,
            rooms=rooms,
            stamped=stamped,
        )

    def compressed(self) -> int:
        """Return how many clients negotiated permessage-deflate."""
        return sum(worker.execute("count")["compressed"] for worker in self.workers)

    def broadcast(
        self,
        count: int,
        *,
        size: int = 64,
        window: int = 48,
        rate: float = 0.0,
        connections: int = 48,
        pause: float = PAUSE_SECONDS,
    ) -> Answer:
        """Broadcast from the worker with the most clients; ``deliveries`` and ``seconds`` are those of all workers.

        ``window`` is about the clients of that worker.
        """
        publisher = max(self.workers, key=lambda worker: worker.clients)
        for worker in self.workers:
            worker.execute("expect", messages=count, clients=worker.clients)
        options: dict[str, Any] = {"window": window, "rate": rate, "pause": 0.0 if rate else pause}
        options["connections"] = connections
        answer = self._publish(publisher, count, size=size, users=range(0), **options)
        expected = count * sum(worker.clients for worker in self.workers)
        others, deadline = self._count_but(publisher), time.monotonic() + 10
        while answer["deliveries"] + sum(each["deliveries"] for each in others) < expected:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
            others = self._count_but(publisher)
        every = [answer, *others]
        answer["deliveries"] = sum(each["deliveries"] for each in every)
        answer["seconds"] = max(each["last_at"] for each in every) - answer["began_at"]
        answer["missing"] = expected - answer["deliveries"]
        return answer

    def emit(self, count: int, *, connections: int, rate: float = 0.0, size: int = 64) -> Answer:
        """Push to the users of the first worker in turn, one message for each."""
        return self.emit_to(self.workers[0], count, connections=connections, rate=rate, size=size)

    def emit_to(
        self, worker: Worker, count: int, *, connections: int = 32, rate: float = 0.0, size: int = 64
    ) -> Answer:
        """Do the same as ``emit`` with any worker."""
        worker.execute("expect", messages=count, clients=1)
        users = range(worker.first, worker.first + min(worker.clients, 1000))
        options: dict[str, Any] = {"connections": connections, "window": 0, "rate": rate, "pause": 0.0}
        answer = self._publish(worker, count, size=size, users=users, **options)
        answer["missing"] = count - answer["deliveries"]
        return answer

    def emit_batches(self, count: int, *, together: int, connections: int, size: int = 64) -> Answer:
        """Push ``count`` messages to the users of the first worker in turn, ``together`` in each request."""
        return self._emit_several(count, 1, together=together, connections=connections, size=size)

    def emit_to_users(self, count: int, *, recipients: int, connections: int, size: int = 64) -> Answer:
        """Push ``count`` messages, each to ``recipients`` users of the first worker."""
        return self._emit_several(
            count, recipients, recipients=recipients, connections=connections, size=size
        )

    def emit_to_rooms(self, count: int, *, rooms: int, connections: int, size: int = 64) -> Answer:
        """Push ``count`` messages, each to ``rooms`` rooms with one client of the first worker in each."""
        return self._emit_several(
            count, rooms, recipients=rooms, rooms=True, connections=connections, size=size
        )

    def _emit_several(self, count: int, clients: int, **options: Any) -> Answer:
        worker = self.workers[0]
        worker.execute("expect", messages=count, clients=clients)
        users = range(worker.first, worker.first + min(worker.clients, 1000))
        answer = self._publish(worker, count, users=users, window=0, rate=0.0, pause=0.0, **options)
        answer["missing"] = count * clients - answer["deliveries"]
        return answer

    def join(self, per_room: int, *, at_once: int = 300) -> None:
        """Let each client of the first worker join a room, ``per_room`` clients in each."""
        answer = self.workers[0].execute("join", per_room=per_room, at_once=at_once)
        self._check_accepted(answer)

    def emit_events(
        self,
        event: str,
        count: int,
        *,
        per_room: int,
        relayed: bool,
        window: int,
        rate: float = 0.0,
        size: int = 64,
    ) -> Answer:
        """Let the clients of the first worker emit events in turn.

        ``relayed``: each event reaches every client of the room of its sender; else it is acknowledged.
        """
        worker = self.workers[0]
        worker.execute("expect", messages=count, clients=per_room if relayed else 1)
        pause = EVENTS_PAUSE_SECONDS if relayed and not rate else 0.0
        answer = worker.execute(
            "emit",
            event=event,
            count=count,
            size=size,
            per_room=per_room,
            ack=not relayed,
            window=window,
            rate=rate,
            pause=pause,
        )
        self._check_accepted(answer)
        answer["missing"] = count * (per_room if relayed else 1) - answer["deliveries"]
        return answer

    def _check_accepted(self, answer: Answer) -> None:
        if answer["rejected_acks"]:
            raise RuntimeError(
                f"{self._server.name} rejected {answer['rejected_acks']} events: {answer['first_rejected']}"
            )

    def _publish(self, worker: Worker, count: int, *, users: range, **more: Any) -> Answer:
        answer = worker.execute(
            "publish",
            port=self._publisher.port,
            count=count,
            users=[users.start, users.stop],
            key=self._publisher.ingest_key,
            **more,
        )
        if answer["bad"]:
            raise RuntimeError(
                f"{self._publisher.name} rejected {answer['bad']} requests: {answer['first_bad'][0]}"
            )
        return answer

    def _count_but(self, publisher: Worker) -> list[Answer]:
        return [worker.execute("count") for worker in self.workers if worker is not publisher]


def _check(answer: Answer, clients: int) -> None:
    if answer["failed"] or answer["disconnected"] or answer["connected"] < clients:
        raise RuntimeError(f"not every client is connected: {answer}")
