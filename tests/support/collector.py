"""A collector of traces: receives OTLP over HTTP, as the OpenTelemetry Collector does on its port 4318."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.journal import Entry, Journal
from tests.support.ports import free_port

TRACES = "/v1/traces"


class Collector:
    """Keeps the spans that it receives, as entries of ``spans``."""

    def __init__(self) -> None:
        self.spans = Journal("the collector")
        self.bodies: list[bytes] = []
        """Each received body, uncompressed."""
        self.answers = threading.Event()
        """Cleared: requests are received and not answered."""
        self.answers.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def span(self, kind: str, *, replica: str | None = None, **attributes: Any) -> Entry:
        """Wait for the first span of this kind (SERVER, PRODUCER, CONSUMER) with these attributes, and return it.

        Dots in names of attributes are written as double underscores.
        """
        wanted = {name.replace("__", "."): value for name, value in attributes.items()}
        return self.spans.wait(
            lambda span: (
                span["kind"] == kind
                and replica in (None, span["resource"]["service.instance.id"])
                and wanted.items() <= span["attributes"].items()
            )
        )

    def stop(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == TRACES, self.path
                assert self.headers["Content-Type"] == "application/x-protobuf", self.headers
                collector.bodies.append(body)
                for span in _spans(ExportTraceServiceRequest.FromString(body)):
                    collector.spans.add(span)
                collector.answers.wait(60)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Write nothing: the journal has every request."""

        return Handler


@contextmanager
def collector() -> Iterator[Collector]:
    """Run a collector while the context is open."""
    running = Collector()
    try:
        yield running
    finally:
        running.stop()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Entry]:
    for of_resource in request.resource_spans:
        resource = _values(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield {
                    "resource": resource,
                    "name": span.name,
                    "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "failed": span.status.code == 2,
                    "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    "attributes": _values(span.attributes),
                }


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
