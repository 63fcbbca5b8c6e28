"""A page on this machine, for this machine's browser: the live picture and a button that quits."""

import hmac
import json
import math
import secrets
import socket
import sys
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

PAGE = Path(__file__).with_name("page.html")
PATIENCE = 2.0  # seconds that a client has for its whole request, and to take an answer or a picture
MOST = 16  # connections at once, a thread each; a browser has six
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # the address holds the token
    "Cross-Origin-Resource-Policy": "same-origin",  # no other site may show the camera
    "Cross-Origin-Opener-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; img-src 'self' data:; connect-src 'self'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Preview:
    """A page on 127.0.0.1 with the live picture, its rate and latency, and a button that quits.

    Only this machine can reach it, and of its users only who knows the address: a random token is a part of it. Only
    the page itself can press the button. Another site's request is recognised by its Origin, and a foreign name that
    resolves to 127.0.0.1 by its Host. No client delays `show`, or the end.

    Args:
        port: 0 takes any free one.

    Attributes:
        url: what to open in the browser. Who knows it sees the picture, so it belongs in no file.

    Raises:
        ValueError: the port is taken.
    """

    def __init__(self, port: int = 0):
        try:
            self._server = _Server(("127.0.0.1", port), _Page)
        except (OSError, OverflowError) as error:
            raise ValueError(f"port={port} of 127.0.0.1 can't be used: {error}") from error
        self._server.preview = self
        self.token = secrets.token_urlsafe()
        self.url = f"http://127.0.0.1:{self._server.server_port}/{self.token}/"
        self._news, self._number, self._closed = threading.Condition(), 0, False
        self._frame, self._taken = None, 0.0
        self._fps = self._latency = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="preview", daemon=True)

    @property
    def wants_to_stop(self) -> bool:
        """Whether the button was pressed."""
        return self._stop.is_set()

    def __enter__(self) -> "Preview":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._server.shutdown()
        self._thread.join()
        self._server.cut_off_all()
        self._server.server_close()  # waits for the clients' threads, which have nobody to speak to any more

    def show(self, frame: np.ndarray, fps: float, age: float = 0.0) -> None:
        """Put a frame, uint8 HxWx3 RGB, on the page. The thread of each browser that looks encodes it.

        Args:
            fps: frames a second, as the page says.
            age: seconds since the camera took it; the page's latency is this plus the time on the way to the browser.
        """
        with self._news:
            self._frame, self._taken = frame, time.monotonic() - age
            self._fps, self._number = fps, self._number + 1
            self._news.notify_all()

    def _after(self, number: int) -> tuple[int, np.ndarray, float] | None:
        """(number, frame, when taken) of the next frame after the numbered one; None once the page closes."""
        with self._news:
            self._news.wait_for(lambda: self._closed or self._number > number)
            return None if self._closed else (self._number, self._frame, self._taken)


class _Server(ThreadingHTTPServer):
    """Cuts off who has not asked within PATIENCE, and the longest silent one where there are MOST already."""

    daemon_threads = False  # closing the server waits for them
    request_queue_size = 128  # with the few of the default, a crowd would make the browser wait for seconds
    preview: Preview

    def __init__(self, *arguments):
        self._open: dict[socket.socket, float] = {}  # connections, with the time when they are cut off
        self._changed = threading.Condition()
        super().__init__(*arguments)

    def process_request(self, request: socket.socket, client_address: tuple) -> None:
        with self._changed:
            if len(self._open) >= MOST:
                self._cut_off([one for one, until in self._open.items() if until < math.inf][:1])
                self._changed.wait_for(lambda: len(self._open) < MOST, timeout=0.1)
            welcome = len(self._open) < MOST
            if welcome:
                self._open[request] = time.monotonic() + PATIENCE
        super().process_request(request, client_address) if welcome else self.shutdown_request(request)

    def shutdown_request(self, request: socket.socket) -> None:
        with self._changed:
            self._open.pop(request, None)
            self._changed.notify_all()
        super().shutdown_request(request)

    def has_asked(self, request: socket.socket) -> None:
        """A request is whole and holds the token: from now on only what is written has a limit."""
        with self._changed:
            self._open[request] = math.inf

    def service_actions(self) -> None:
        """Called ten times a second."""
        with self._changed:
            self._cut_off([one for one, until in self._open.items() if until < time.monotonic()])

    def cut_off_all(self) -> None:
        """End all connections."""
        with self._changed:
            self._cut_off(list(self._open))

    def _cut_off(self, requests: list[socket.socket]) -> None:
        """Whoever reads from one of them or writes to it gets an error at once."""
        for request in requests:
            with suppress(OSError):  # the client has left already
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: socket.socket, client_address: tuple) -> None:
        """A client that leaves is no error of the run's."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Page(BaseHTTPRequestHandler):
    timeout = PATIENCE  # of one write; that of a whole request is the server's
    policy = "default-src 'none'; frame-ancestors 'none'"
    server: _Server

    def log_message(self, *_) -> None:
        """Print nothing: the terminal belongs to the run."""

    def do_GET(self) -> None:
        preview, asked = self.server.preview, self._asked()
        if asked == "":
            nonce = secrets.token_urlsafe()
            self.policy = POLICY.format(nonce)
            page = PAGE.read_text(encoding="utf-8").replace("{{nonce}}", nonce)
            self._answer("text/html; charset=utf-8", page.encode())
        elif asked == "figures":
            figures = {"fps": preview._fps, "latency": preview._latency}
            self._answer("application/json", json.dumps(figures).encode())
        elif asked == "stream":
            self._stream(preview)
        elif asked is not None:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        asked = self._asked()
        if asked is None:
            return
        if self.headers.get("Origin") not in {f"http://{host}" for host in self._hosts()}:
            self.send_error(HTTPStatus.FORBIDDEN, "only this page's own button quits")
        elif asked == "quit":
            self.server.preview._stop.set()
            self._answer("application/json", b"{}")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _hosts(self) -> set[str]:
        return {f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")}

    def _asked(self) -> str | None:
        """What is asked for behind the token; None where that is missing or another name leads here, which is refused."""
        token, _, asked = self.path.removeprefix("/").partition("/")
        knows = hmac.compare_digest(token.encode(), self.server.preview.token.encode())
        if not (knows and self.headers.get_all("Host", []) in [[host] for host in self._hosts()]):
            self.send_error(HTTPStatus.FORBIDDEN, "open the address that the run has printed")
            return None
        self.server.has_asked(self.connection)
        return asked

    def end_headers(self) -> None:
        for name, value in (HEADERS | {"Content-Security-Policy": self.policy}).items():
            self.send_header(name, value)
        super().end_headers()

    def _answer(self, type: str, body: bytes | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", type)
        if body is not None:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not None:
            self.wfile.write(body)

    def _stream(self, preview: Preview) -> None:
        self._answer("multipart/x-mixed-replace; boundary=frame")
        self.wfile.write(b"--frame\r\n")
        number = 0
        while (news := preview._after(number)) is not None:
            number, frame, taken = news
            jpeg = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), QUALITY)[1].tobytes()
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            self.wfile.write(head + jpeg + b"\r\n--frame\r\n")  # a browser shows it once it has the next boundary
            preview._latency = time.monotonic() - taken
