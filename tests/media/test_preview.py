"""The page of a live picture: it shows each frame, to who knows its address alone, and no client delays it."""

import http.client
import json
import re
import socket
import threading
import time

import cv2
import numpy as np
import pytest

from humanseg.media import preview
from humanseg.media.preview import Preview


def address(page) -> tuple[str, int]:
    return "127.0.0.1", int(re.search(r":(\d+)/", page.url)[1])


def ask(page, path, method="GET", token=None, **headers):
    """An answer; `path` is behind the token, as in the page itself."""
    connection = http.client.HTTPConnection(*address(page), timeout=60)
    connection.request(method, f"/{page.token if token is None else token}{path}", headers=headers)
    return connection.getresponse()


def origin(page) -> str:
    return "http://{}:{}".format(*address(page))


def next_picture(stream) -> np.ndarray:
    while not (line := stream.readline()).startswith(b"Content-Length"):
        assert line, "the stream ended"
    stream.readline()
    return cv2.imdecode(np.frombuffer(stream.read(int(line.split()[1])), np.uint8), cv2.IMREAD_COLOR_RGB)


def test_the_page_shows_frames_their_rate_and_their_latency():
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 250
    with Preview() as page:
        assert page.url.startswith("http://127.0.0.1:")
        assert b"<img" in ask(page, "/").read()
        began = time.monotonic()
        page.show(red, 12.5, age=0.25)
        stream = ask(page, "/stream")
        assert "multipart/x-mixed-replace" in stream.headers["Content-Type"]
        assert np.abs(next_picture(stream).astype(int) - red).max() < 12
        page.show(255 - red, 12.5, age=0.25)
        assert np.abs(next_picture(stream).astype(int) - (255 - red)).max() < 12
        figures = json.loads(ask(page, "/figures").read())
        assert figures["fps"] == 12.5 and 0.25 <= figures["latency"] <= 0.25 + time.monotonic() - began
        stream.close()


def test_the_button_stops():
    with Preview() as page:
        assert not page.wants_to_stop
        assert ask(page, "/quit", "POST", Origin=origin(page)).status == 200
        assert page.wants_to_stop


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {}),
        ("POST", {"Origin": "http://evil.example"}),
        ("POST", {"Origin": "null"}),
        ("POST", {"Origin": "http://127.0.0.1:1"}),
        ("GET", {}),
    ],
    ids=["no origin", "another site", "a sandbox", "another port", "a link"],
)
def test_another_site_can_not_press_the_button(method, headers):
    with Preview() as page:
        assert ask(page, "/quit", method, **headers).status in (403, 404)
        assert not page.wants_to_stop


@pytest.mark.parametrize("path", ["/", "/stream", "/figures"])
def test_a_foreign_name_that_leads_here_is_refused(path):
    with Preview() as page:
        page.show(np.zeros((4, 4, 3), np.uint8), 1.0)
        assert ask(page, path, Host="evil.example").status == 403


def test_who_does_not_know_the_address_sees_nothing():
    with Preview() as page, Preview() as another:
        for token in ("", "x", page.token[:-1], page.token + "x", another.token):
            for path in ("", "/", "/stream", "/figures", "/quit"):
                assert ask(page, path, token=token).status == 403
            assert ask(page, "/quit", "POST", token=token, Origin=origin(page)).status == 403
        assert not page.wants_to_stop


def test_no_answer_is_kept_or_shown_elsewhere():
    with Preview() as page:
        answers = [ask(page, "/"), ask(page, "/figures"), ask(page, "/nowhere"), ask(page, "/", token="x")]
        for answer in answers:
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        nonce = re.search("script-src 'nonce-([^']+)'", answers[0].headers["Content-Security-Policy"])[1]
        assert f'<script nonce="{nonce}">' in answers[0].read().decode()


def wait_until(condition) -> None:
    """A minute is enough on a busy machine too."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def silent(page) -> socket.socket:
    return socket.create_connection(address(page))


def test_the_page_closes_at_once_although_clients_are_connected(monkeypatch):
    monkeypatch.setattr(preview, "PATIENCE", 600)
    monkeypatch.setattr(preview._Page, "timeout", 600)
    before = set(threading.enumerate())
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    with Preview() as page:
        page.show(noise, 1.0)
        watching = ask(page, "/stream")
        next_picture(watching)
        unread = ask(page, "/stream")
        for _ in range(20):
            page.show(noise, 30.0)
        nothing, half = silent(page), silent(page)
        half.sendall(b"GET /" + page.token.encode())
    assert set(threading.enumerate()) <= before  # or the test would have waited for ten minutes
    for client in (unread, nothing, half):
        client.close()


def test_a_client_that_drips_is_cut_off(monkeypatch):
    monkeypatch.setattr(preview, "PATIENCE", 0.3)
    with Preview() as page:
        client = silent(page)
        client.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):  # noqa: PT011  whichever way the connection is gone
            for _ in range(1000):  # each byte comes long before the patience is over
                client.sendall(b"x")
                time.sleep(0.02)


def test_silent_clients_take_no_threads_without_bound_and_no_turn(monkeypatch):
    monkeypatch.setattr(preview, "PATIENCE", 600)
    with Preview() as page:
        before = set(threading.enumerate())
        crowd = [silent(page) for _ in range(5 * preview.MOST)]
        assert ask(page, "/figures").status == 200
        wait_until(lambda: len(set(threading.enumerate()) - before) <= preview.MOST)  # who is cut off is soon gone
        for client in crowd:
            client.close()


def test_who_watches_keeps_the_turn(monkeypatch):
    picture = np.zeros((48, 64, 3), np.uint8)
    with Preview() as page:
        page.show(picture, 1.0)
        stream = ask(page, "/stream")
        next_picture(stream)
        monkeypatch.setattr(preview, "PATIENCE", 0.2)
        crowd = [silent(page) for _ in range(5 * preview.MOST)]
        time.sleep(0.5)  # longer than a request may take
        page.show(picture, 1.0)
        assert next_picture(stream).shape == picture.shape
        for client in crowd:
            client.close()


def test_a_browser_that_takes_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(preview._Page, "timeout", 1.0)
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    with Preview() as page:
        before = set(threading.enumerate())
        held = ask(page, "/stream")  # and never reads
        wait_until(lambda: page.show(noise, 30.0) or set(threading.enumerate()) <= before)
    held.close()


def test_a_taken_port_is_one_sentence():
    with Preview() as page, pytest.raises(ValueError, match="port="):
        Preview(address(page)[1])
