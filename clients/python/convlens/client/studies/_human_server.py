"""Serves the page on which a person labels pictures, to whoever has its address on this machine."""

import hmac
import json
import secrets
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any, cast

from convlens.client.studies._human_game import Game
from convlens.client.studies._reading import small

HOST = "127.0.0.1"
# Seconds that a request may take to come, its bytes, and the longer side of a picture in pixels.
PATIENCE, MOST_BYTES, LONGEST = 20, 4096, 1024
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",
}


class PageServer(ThreadingHTTPServer):
    """A page and its game at a free port of this machine, below a path that nobody can guess."""

    daemon_threads = True

    def __init__(self, game: Game, page: str) -> None:
        self.game = game
        self.page = page.encode()
        self.token = secrets.token_urlsafe(24)
        super().__init__((HOST, 0), _Handler)

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no news."""


@contextmanager
def serving(game: Game, page: str) -> Generator[str, None, None]:
    """The address of the page, for as long as the block takes."""
    with PageServer(game, page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.address
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: PageServer  # pyright: ignore[reportIncompatibleVariableOverride]
    timeout = PATIENCE
    server_version, sys_version = "ConvLens", ""

    def do_GET(self) -> None:
        match self._asked():
            case [""]:
                self._send(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
            case ["state"]:
                self._send_state()
            case ["picture", number] if number.isdecimal() and len(number) < 10:
                self._send_picture(int(number))
            case _:
                self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        asked, game = self._asked(), self.server.game
        if asked not in (["answer"], ["undo"], ["enough"]) or not self._is_own():
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        body = self._body()
        if body is None:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        try:
            match asked, body:
                case ["answer"], {"number": int(number), "classes": [*classes]}:
                    chosen = [each for each in classes if type(each) is int]
                    done = len(chosen) == len(classes) and game.answer(number, chosen)
                case ["undo"], {"number": int(number)}:
                    done = game.take_back(number)
                case ["enough"], _:
                    done = game.end()
                case _:
                    done = False
        except Exception:
            # The game keeps the reason for whoever started it.
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        try:
            # Of two clicks, or two pages, the second one sees where things are.
            self._send_state(HTTPStatus.OK if done else HTTPStatus.CONFLICT)
        finally:
            if game.is_over:
                game.part()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the terminal is the person's."""

    def _asked(self) -> list[str]:
        """What is asked for below the token; nothing of who has not got it, or came elsewhere."""
        here = {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        token, slash, rest = self.path.removeprefix("/").partition("/")
        known = hmac.compare_digest(token.encode(), self.server.token.encode())
        # A page of another name that resolves to this machine must not be answered.
        if not known or not slash or self.headers.get("Host") not in here:
            return []
        return rest.split("/")

    def _is_own(self) -> bool:
        origin = self.headers.get("Origin")
        return origin in (None, f"http://{self.headers.get('Host')}") and (
            self.headers.get_content_type() == "application/json"
        )

    def _body(self) -> dict[str, Any] | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            return None
        try:
            found: object = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            return None
        return cast(dict[str, Any], found) if isinstance(found, dict) else None

    def _send_state(self, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, "application/json", json.dumps(self.server.game.state()).encode())

    def _send_picture(self, number: int) -> None:
        game = self.server.game
        # Drawn anew: a file may say in itself what it shows.
        image = small(game.questions[number].picture, LONGEST) if game.is_seen(number) else None
        if image is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        out = BytesIO()
        image.info.clear()
        image.save(out, "PNG", compress_level=1)
        self._send(HTTPStatus.OK, "image/png", out.getvalue())

    def _refuse(self, status: HTTPStatus) -> None:
        self._send(status, "text/plain; charset=utf-8", status.phrase.encode())

    def _send(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            **HEADERS,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
