"""A page on this machine, for this machine's browser: the live picture and a button that quits."""

import json
import threading
import time
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

PAGE = Path(__file__).with_name("page.html")
STALLED = 2.0  # seconds until a browser that reads nothing is given up; leaving the context waits no longer
QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]


class Preview:
    """A page on 127.0.0.1 with the live picture, its rate and latency, and a button that quits.

    Only this machine can reach it, and only its own page can press the button. Another site's request is recognised by
    its Origin, and a foreign name that resolves to 127.0.0.1 by its Host.

    Args:
        port: 0 takes any free one.

    Attributes:
        url: what to open in the browser.

    Raises:
        ValueError: the port is taken.
    """

    def __init__(self, port: int = 0):
        try:
            self._server = _Server(("127.0.0.1", port), _Page)
        except (OSError, OverflowError) as error:
            raise ValueError(f"port={port} of 127.0.0.1 can't be used: {error}") from error
        self._server.preview = self
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
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
        self._server.server_close()  # waits for the browsers' threads, see STALLED

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
    daemon_threads = False  # closing the server waits for them
    preview: Preview


class _Page(BaseHTTPRequestHandler):
    timeout = STALLED
    server: _Server

    def log_message(self, *_) -> None:
        """Print nothing: the terminal belongs to the run."""

    def do_GET(self) -> None:
        preview = self.server.preview
        if not self._is_for_here():
            return
        if self.path == "/":
            self._answer("text/html; charset=utf-8", PAGE.read_bytes())
        elif self.path == "/figures":
            figures = {"fps": preview._fps, "latency": preview._latency}
            self._answer("application/json", json.dumps(figures).encode())
        elif self.path == "/stream":
            with suppress(OSError):  # the browser left or sleeps
                self._stream(preview)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if not self._is_for_here():
            return
        if self.headers.get("Origin") not in {f"http://{host}" for host in self._hosts()}:
            self.send_error(HTTPStatus.FORBIDDEN, "only this page's own button quits")
        elif self.path == "/quit":
            self.server.preview._stop.set()
            self._answer("application/json", b"{}")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _hosts(self) -> set[str]:
        return {f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")}

    def _is_for_here(self) -> bool:
        here = self.headers.get("Host") in self._hosts()
        if not here:
            self.send_error(HTTPStatus.FORBIDDEN, "this page is served to this machine alone")
        return here

    def _answer(self, type: str, body: bytes | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", type)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")  # no other site may show the camera
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
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
