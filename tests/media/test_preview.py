"""The page of a live picture: it shows each frame, to this machine alone, and no browser delays it."""

import http.client
import json
import socket
import threading
import time

import cv2
import numpy as np
import pytest

from humanseg.media import preview
from humanseg.media.preview import Preview


def ask(page, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", int(page.url.rsplit(":")[-1].strip("/")), timeout=5)
    connection.request(method, path, headers=headers)
    return connection.getresponse()


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
        assert ask(page, "/quit", "POST", Origin=page.url.rstrip("/")).status == 200
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


def test_the_page_closes_although_browsers_are_connected(monkeypatch):
    monkeypatch.setattr(preview._Page, "timeout", 0.2)
    before = threading.active_count()
    with Preview() as page:
        page.show(np.zeros((48, 64, 3), np.uint8), 1.0)
        watching = ask(page, "/stream")
        next_picture(watching)
        silent = socket.create_connection(("127.0.0.1", int(page.url.rsplit(":")[-1].strip("/"))))  # asks nothing
    assert threading.active_count() == before
    silent.close()


@pytest.mark.parametrize("patience", [60, 0.2])
def test_a_browser_that_takes_nothing_delays_nobody(monkeypatch, patience):
    monkeypatch.setattr(preview._Page, "timeout", patience)
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    before = threading.active_count()
    with Preview() as page:
        held = ask(page, "/stream")  # and never reads
        began = time.monotonic()
        for _ in range(20):
            page.show(noise, 30.0)
        if patience == 60:
            assert time.monotonic() - began < patience  # none has waited for it
            held.close()  # or leaving would wait a minute
    assert threading.active_count() == before  # after its patience nobody waits for it any more
    held.close()


def test_a_taken_port_is_one_sentence():
    with Preview() as page, pytest.raises(ValueError, match="port="):
        Preview(int(page.url.rsplit(":")[-1].strip("/")))
