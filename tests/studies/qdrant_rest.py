"""As much of Qdrant's REST interface as an index calls, over HTTP, answered by its local mode.

Qdrant's own server is no package of the registries that tests are installed from. What is sent
here was written by its client for a server, and is read by the models that client has of it.
"""

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from qdrant_client import QdrantClient, models


@contextmanager
def qdrant_server(key: str = "") -> Generator[str]:
    """The URL of a server that is empty, and wants this key."""
    local = QdrantClient(":memory:", force_disable_check_same_thread=True)
    turn = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            sent = json.loads(self.rfile.read(length) or "null")
            if key and self.headers.get("api-key") != key:
                self.reply(401, {"status": {"error": "Must provide an API key"}})
                return
            path = self.path.partition("?")[0].strip("/").split("/")
            with turn:
                try:
                    result = called(local, self.command, path[1], path[2:], sent)
                except ValueError as error:
                    self.reply(400, {"status": {"error": str(error)}})
                    return
            self.reply(200, {"result": result, "status": "ok", "time": 0.0})

        def reply(self, status: int, document: Any) -> None:
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        local.close()


def called(local: QdrantClient, method: str, name: str, path: list[str], sent: Any) -> Any:
    """What the server answers, as JSON; by local mode."""
    done = {"operation_id": 0, "status": "completed"}
    match method, *path:
        case "GET", "exists":
            return {"exists": local.collection_exists(name)}
        case "GET", *rest if not rest:
            return local.get_collection(name).model_dump(mode="json")
        case "PUT", *rest if not rest:
            form = models.CreateCollection.model_validate(sent)
            return local.create_collection(name, form.vectors, metadata=form.metadata)
        case "PUT", "index":
            return done
        case "PUT", "points":
            local.upsert(name, models.PointsList.model_validate(sent).points)
            return done
        case "POST", "points":
            asked = models.PointRequest.model_validate(sent)
            found = local.retrieve(name, asked.ids, with_payload=True)
            return [each.model_dump(mode="json") for each in found]
        case "POST", "points", "count":
            return {"count": local.count(name).count}
        case "POST", "points", "query", "batch":
            searches = models.QueryRequestBatch.model_validate(sent).searches
            answers = local.query_batch_points(name, searches)
            return [each.model_dump(mode="json") for each in answers]
        case "POST", "facet":
            asked = models.FacetRequest.model_validate(sent)
            return local.facet(name, asked.key, limit=asked.limit or 10).model_dump(mode="json")
        case _:
            raise ValueError(f"{method} {path} is not among the calls that are known here")
