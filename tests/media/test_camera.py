"""A camera, which a file or a stream plays here, gives its newest frame, ends, and is left without a wait."""

import socket
import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from humanseg.media import camera
from humanseg.media.camera import Camera
from humanseg.media.video_writer import VideoWriter


def film(path, rate: int | Fraction = 20):
    """Ten frames, 64x48; frame n is as bright as 20 n."""
    with VideoWriter(path, 64, 48, rate) as writer:
        for number in range(10):
            writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    return path


def brightness(frame) -> int:
    return round(float(frame.mean()) / 20)


def test_a_file_plays_the_camera_at_its_own_rate_and_ends(tmp_path):
    path, began = film(tmp_path / "film.mp4"), time.monotonic()
    with Camera(path) as played:
        seen = [brightness(frame) for frame in played]
    assert time.monotonic() - began >= 0.4  # its last frame is due after 0.45 s; there is no bound above
    assert seen[-1] == 9 and seen == sorted(set(seen)) and played.trouble is None


def test_frames_that_came_while_the_caller_was_busy_are_dropped(tmp_path):
    seen = []
    with Camera(str(film(tmp_path / "film.mp4"))) as played:
        for frame in played:
            assert frame.shape == (48, 64, 3)
            seen.append(brightness(frame))
            began = time.monotonic()
            played._reader.join()  # busy until the file has been played
            ended = time.monotonic()
            if len(seen) == 1:
                busy = began, ended
        assert busy[0] <= time.monotonic() - played.age <= busy[1]  # since it was taken, not since it was given
    assert len(seen) == 2 and seen[1] == 9


def test_a_camera_is_left_without_waiting_for_its_next_frame(tmp_path):
    before = set(threading.enumerate())
    with Camera(film(tmp_path / "film.mp4", rate=Fraction(1, 60))) as played:  # the next one is due in a minute
        next(iter(played))
    assert set(threading.enumerate()) <= before  # one that waits would still be there


@pytest.mark.parametrize("typed", [77, "77", "rtsp://127.0.0.1:9/none", "http://127.0.0.1:9/none.mjpg", "/no/file.mp4"])
def test_a_camera_that_is_not_there_is_one_sentence(typed, capfd):
    with pytest.raises(ValueError, match=f"input={typed}"):
        Camera(typed)
    assert capfd.readouterr() == ("", "")


def test_a_stream_that_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(camera, "PATIENCE", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))  # it takes the call; without a limit the test would not end
    with silent, pytest.raises(ValueError, match="gives no picture"):
        Camera(f"http://127.0.0.1:{silent.getsockname()[1]}/a.mjpg")
