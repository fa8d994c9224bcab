"""A Triton that traces by itself goes on with the traces of the calls."""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from convlens.client import Client
from convlens.server.triton.local import LocalTriton
from tests.collector import collecting
from tests.conftest import running_server


@contextmanager
def collecting_json() -> Generator[tuple[str, list[Any]]]:
    """A collector of OTLP over HTTP, which is what Triton speaks, and what it got."""
    found: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/traces", found
        finally:
            server.shutdown()


@pytest.mark.slow
def test_triton_goes_on_with_the_trace_of_a_call(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = LocalTriton._flags
    with collecting() as collector, collecting_json() as (url, found):
        more = ["mode=opentelemetry", f"opentelemetry,url={url}", "level=TIMESTAMPS"]
        # None of those that begin there, such as the server's own questions.
        more.append("rate=1000000")

        def traced(triton: LocalTriton, home: Any, models: list[str]) -> list[str]:
            own = [f"--trace-config={each}" for each in more]
            return [*flags(triton, home, models), *own]

        monkeypatch.setattr(LocalTriton, "_flags", traced)
        with (
            running_server(engine="triton-local", traces=collector.url) as server,
            Client(server.address) as client,
        ):
            client.classify(pictures[0])
        # At its end Triton has sent what it had.
        [call] = [span for span in collector.spans if span.name.endswith("/Classify")]
    scopes = [scope for each in found for of in each["resourceSpans"] for scope in of["scopeSpans"]]
    spans = [span for scope in scopes for span in scope["spans"]]
    assert {span["traceId"].lower() for span in spans} == {call.trace_id.hex()}
    parents = {span["name"]: span.get("parentSpanId", "").lower() for span in spans}
    assert parents["InferRequest"] == call.span_id.hex()
    assert "shapes@1-inference" in parents
