"""An issuer of tokens whose key set is fetched over HTTP."""

from __future__ import annotations

import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.ports import free_port


class Issuer:
    """Serves ``key_set``; answers 503 while it is None. Each answer waits until ``answers`` is set."""

    def __init__(self) -> None:
        issuer = self
        self.key_set: str | None = None
        self.redirect: str | None = None
        self.fetches = 0
        self.answers = threading.Event()
        self.answers.set()

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                issuer.answers.wait()
                if issuer.redirect is not None:
                    self.send_response(302)
                    self.send_header("Location", issuer.redirect)
                    self.end_headers()
                    return
                self.send_response(503 if issuer.key_set is None else 200)
                self.end_headers()
                with suppress(ConnectionError):
                    self.wfile.write((issuer.key_set or "").encode())

            def log_message(self, *_arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), Answer)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()
