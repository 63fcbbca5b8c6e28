"""A camera played by a file gives its newest frames in time; the page shows them, to this machine alone."""

import http.client
import json
import socket
import threading
import time

import cv2
import numpy as np
import pytest

from humanseg.media.camera import Camera
from humanseg.media.preview import Preview
from humanseg.media.video_writer import VideoWriter


@pytest.fixture
def film(tmp_path):
    """Half a second at 20 frames/s, 64x48; frame n is as bright as 20 n."""
    with VideoWriter(tmp_path / "film.mp4", 64, 48, 20) as writer:
        for number in range(10):
            writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    return tmp_path / "film.mp4"


def brightness(frame) -> int:
    return round(float(frame.mean()) / 20)


def test_a_file_plays_the_camera_at_its_own_rate_and_ends(film):
    began = time.monotonic()
    with Camera(film) as camera:
        seen = [brightness(frame) for frame in camera]
    assert 0.4 <= time.monotonic() - began < 1.5
    assert seen[0] == 0 and seen[-1] == 9 and seen == sorted(set(seen))
    assert camera.trouble is None


def test_frames_that_came_while_the_caller_was_busy_are_dropped(film):
    seen = []
    with Camera(str(film)) as camera:
        for frame in camera:
            seen.append(brightness(frame))
            assert frame.shape == (48, 64, 3) and camera.age < 0.2
            time.sleep(0.18)
    assert seen[0] == 0 and 3 <= len(seen) <= 6


def test_a_camera_is_left_at_once(film):
    before = threading.active_count()
    with Camera(film) as camera:
        next(iter(camera))
        began = time.monotonic()
    assert time.monotonic() - began < 0.3 and threading.active_count() == before


@pytest.mark.parametrize("typed", [77, "77", "rtsp://127.0.0.1:9/none", "http://127.0.0.1:9/none.mjpg", "/no/file.mp4"])
def test_a_camera_that_is_not_there_is_one_sentence_within_seconds(typed, capfd):
    began = time.monotonic()
    with pytest.raises(ValueError, match=f"input={typed}"):
        Camera(typed)
    assert time.monotonic() - began < 5
    assert capfd.readouterr() == ("", "")


def ask(preview, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", int(preview.url.rsplit(":")[-1].strip("/")), timeout=5)
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
    with Preview() as preview:
        assert preview.url.startswith("http://127.0.0.1:")
        assert b"<img" in ask(preview, "/").read()
        preview.show(red, 12.5, age=0.25)
        stream = ask(preview, "/stream")
        assert "multipart/x-mixed-replace" in stream.headers["Content-Type"]
        assert np.abs(next_picture(stream).astype(int) - red).max() < 12
        preview.show(255 - red, 12.5, age=0.25)
        assert np.abs(next_picture(stream).astype(int) - (255 - red)).max() < 12
        time.sleep(0.05)
        figures = json.loads(ask(preview, "/figures").read())
        assert figures["fps"] == 12.5 and 0.25 <= figures["latency"] < 0.5
        stream.close()


def test_the_button_stops():
    with Preview() as preview:
        assert not preview.wants_to_stop
        assert ask(preview, "/quit", "POST", Origin=preview.url.rstrip("/")).status == 200
        assert preview.wants_to_stop


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
    with Preview() as preview:
        assert ask(preview, "/quit", method, **headers).status in (403, 404)
        assert not preview.wants_to_stop


@pytest.mark.parametrize("path", ["/", "/stream", "/figures"])
def test_a_foreign_name_that_leads_here_is_refused(path):
    with Preview() as preview:
        preview.show(np.zeros((4, 4, 3), np.uint8), 1.0)
        assert ask(preview, path, Host="evil.example").status == 403


def test_the_page_closes_although_browsers_are_connected():
    before = threading.active_count()
    with Preview() as preview:
        preview.show(np.zeros((48, 64, 3), np.uint8), 1.0)
        watching = ask(preview, "/stream")
        next_picture(watching)
        silent = socket.create_connection(("127.0.0.1", int(preview.url.rsplit(":")[-1].strip("/"))))  # asks nothing
        began = time.monotonic()
    assert time.monotonic() - began < 4
    assert threading.active_count() == before
    silent.close()


def test_a_browser_that_takes_nothing_delays_nobody():
    noise = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    with Preview() as preview:
        held = ask(preview, "/stream")  # and never reads
        began = time.monotonic()
        for _ in range(20):
            preview.show(noise, 30.0)
            time.sleep(0.01)
        assert time.monotonic() - began < 1
        leaving = time.monotonic()
    assert time.monotonic() - leaving < 4
    held.close()


def test_a_taken_port_is_one_sentence():
    with Preview() as preview, pytest.raises(ValueError, match="port="):
        Preview(int(preview.url.rsplit(":")[-1].strip("/")))
