"""The newest frames of a camera, of a stream, or of a video file that stands in for a camera."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import cv2
import numpy as np

from humanseg.media.video_reader import FILES_ALONE

PATIENCE = 5.0  # seconds until a camera that gives no frame is given up


class Camera:
    """The newest frame of a camera, uint8 HxWx3 RGB. Frames that it takes while the caller is busy are dropped.

    Args:
        typed: a camera's number, a stream's URL, or a video file, which is played at its own rate to its end.

    Attributes:
        trouble: after an iteration, None or a sentence: why a camera or a stream went silent.

    Raises:
        ValueError: there is no such camera, or it gives no picture.
    """

    def __init__(self, typed: int | str):
        self.name, self.trouble = str(typed), None
        self._plays_file = not self.name.isdigit() and ("://" not in self.name or self.name.startswith("file:"))
        with _quiet(), _files_alone() if self._plays_file else nullcontext():
            if self.name.isdigit():
                self._capture = cv2.VideoCapture(int(self.name))
            else:
                patience = int(PATIENCE * 1000)
                limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, patience, cv2.CAP_PROP_READ_TIMEOUT_MSEC, patience]
                self._capture = cv2.VideoCapture(os.fsencode(self.name), cv2.CAP_FFMPEG, limits)
            there, first = self._capture.read()
        if not there:
            self._capture.release()
            raise ValueError(f"input={self.name}: this camera, stream or video isn't there or gives no picture")
        self._taken = time.monotonic()
        self._newest: tuple[float, np.ndarray] | None = (self._taken, first)
        self._news, self._leaving, self._ended = threading.Condition(), threading.Event(), False
        self._reader = threading.Thread(target=self._read, name="camera", daemon=True)

    @property
    def age(self) -> float:
        """Seconds since the frame that was given last was taken."""
        return time.monotonic() - self._taken

    def __enter__(self) -> "Camera":
        self._reader.start()
        return self

    def __exit__(self, *_) -> None:
        self._leaving.set()
        self._reader.join(PATIENCE)
        if not self._reader.is_alive():  # a device that hangs can't be closed while its thread reads
            self._capture.release()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._newest is not None or self._ended, PATIENCE)
                newest, self._newest = self._newest, None
            if newest is None:
                if not self._plays_file:
                    self.trouble = f"input={self.name} gives no pictures any more"
                return
            self._taken, frame = newest
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def _read(self) -> None:
        began = time.monotonic()
        while not self._leaving.is_set():
            there, frame = self._capture.read()
            if not there:
                break
            if self._plays_file:
                due = began + self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                self._leaving.wait(max(due - time.monotonic(), 0))
            with self._news:
                self._newest = time.monotonic(), frame
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


@contextmanager
def _files_alone():
    """Have OpenCV's FFmpeg open a file as what it holds itself, and as nothing else."""
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    before = os.environ.get(name)
    os.environ[name] = "|".join(f"{option};{value}" for option, value in FILES_ALONE.items())
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


@contextmanager
def _quiet():
    """Silence OpenCV and its FFmpeg. They print a page about a camera that isn't there; our error is one sentence."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
