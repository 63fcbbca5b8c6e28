"""A video file as frames: upright, each with its time, and as far as they can be decoded."""

import math
import re
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import cv2
import numpy as np

from humanseg.media.video_colour import ToRGB
from humanseg.processes.limits import bounded_growth

MISSED = 0.25  # seconds by which a video may be shorter than it says: containers round
# FFmpeg's demuxers of files that hold their pictures themselves. Others, such as concat and hls, open any file or the
# network, whatever the name of the file says.
FILES_ALONE = {
    "format_whitelist": "mov,matroska,avi,flv,mpegts,mpeg,mpegvideo,m4v,mxf,ogg,asf",
    "protocol_whitelist": "file",
}
TABLES = 2**30  # bytes that opening a video may take; ten hours of it have tables of 100 MB
MOST_PIXELS = 2**26  # of a frame, as 8192x8192: a decoder keeps many, and a file of a few KB may claim any size


class Turn(NamedTuple):
    """How a decoded frame becomes upright, as phones record it: transposed, then mirrored."""

    transposed: bool = False
    across: bool = False  # left and right change places
    down: bool = False  # top and bottom

    def __call__(self, image: np.ndarray) -> np.ndarray:
        if self.transposed:
            image = cv2.transpose(image)
        if self.across or self.down:
            image = cv2.flip(image, {(True, False): 1, (False, True): 0, (True, True): -1}[self[1:]])
        return image


class Video:
    """Frames of a video file, uint8 HxWx3 RGB for a BT.709 screen, upright; decoded as they are asked for, by several threads.

    Leaving the context ends an iteration that is still under way, also in another thread. Each iteration starts over.

    Args:
        start, end: seconds from the beginning; frames from `start` on and before `end` are given.
        every: give one frame in so many.

    Attributes:
        width, height: in pixels, upright.
        rate: frames given a second, on average.
        frames: how many to expect, None where the file doesn't say.
        seconds: from `start` to `end`, None where the file doesn't say.
        has_audio: whether there is sound.
        metadata: what the file says of its making: the time, the place, a title.
        trouble: after an iteration, None or a sentence: where and why it stopped early, or how the file is damaged.
        times: when each frame given so far is shown, in `time_base` from `start` on. Eight bytes a frame.

    Raises:
        ValueError: there is no video that can be decoded, or `start` and `end` leave nothing of it.
    """

    def __init__(self, path: Path | str, start: float | None = None, end: float | None = None, every: int = 1):
        if every < 1 or (start or 0) < 0:
            raise ValueError(f"every={every} must be 1 or more, and start={start} 0 or more")
        if end is not None and end <= (start or 0):
            raise ValueError(f"end={end} must be after start={start or 0} (seconds)")
        self.path, self.start, self.end, self.every = Path(path), start or 0, end, every
        self.times, self.trouble, self._left = array("q"), None, False
        with self._opened() as (container, stream):
            self._measure(container, stream)
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise ValueError(f"{path}: no frame of this video can be decoded")
            self._turn = _turn(first)
            self._to_rgb = ToRGB()
            try:
                self._to_rgb(first, stream.codec_context, first.width, first.height)
            except pyav().FFmpegError as error:
                raise ValueError(f"{path}: FFmpeg can't bring its colours to BT.709: {error.strerror}") from error
        self._size = first.width, first.height
        sideways = self._turn.transposed
        self.width, self.height = self._size[::-1] if sideways else self._size
        self.pixel_aspect = 1 / self.pixel_aspect if sideways else self.pixel_aspect

    def _measure(self, container, stream) -> None:
        self.time_base = stream.time_base
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        self.rate = rate / self.every
        self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        self.has_audio = bool(container.streams.audio)
        self.metadata = dict(container.metadata)
        self.origin = Fraction(container.start_time or 0, 1_000_000)  # where players begin, often not at 0
        self._steady = container.format.name == "avi"  # AVI has a rate, but its times are in the order of decoding
        self._length = _length(stream)
        whole = self._length or (container.duration and container.duration / 1e6)
        if whole is not None and self.start >= whole:
            raise ValueError(f"start={self.start} is not within {self.path}, which lasts {whole:.2f} s")
        if whole is None:
            self.seconds = self.end - self.start if self.end else None
        else:
            self.seconds = min(self.end or math.inf, whole) - self.start
        within = round(self.seconds * rate) if self.seconds else None
        if stream.frames and not self.start and not self.end:
            within = stream.frames
        self.frames = math.ceil(within / self.every) if within else None

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_) -> None:
        self._left = True

    def __iter__(self) -> Iterator[np.ndarray]:
        self.times, self.trouble, self._left = array("q"), None, False
        with self._opened() as (container, stream):
            if self.start:
                container.seek(self.ticks(self.time_base), stream=stream)  # to the key frame before
            for number, time, frame in self._within(self._decoded(container, stream)):
                if number % self.every == 0:
                    try:
                        image = self._to_rgb(frame, stream.codec_context, *self._size)
                    except pyav().FFmpegError as error:
                        self.trouble = self.trouble or str(error.strerror)
                        continue
                    self.times.append(time)
                    yield self._turn(image)
                if self._left:
                    return

    def ticks(self, time_base: Fraction) -> int:
        """`start` on the file's own clock, in `time_base`."""
        return round((self.origin + Fraction(self.start)) / time_base)

    def _within(self, frames: Iterator) -> Iterator[tuple[int, int, object]]:
        """(number, time from `start` on, frame) of each frame between `start` and `end`; times always rise."""
        zero, end = self.ticks(self.time_base), None
        if self.end is not None:
            end = round(Fraction(self.end - self.start) / self.time_base)
        step = max(round(1 / (self.rate * self.every) / self.time_base), 1)
        number, time, lasts = 0, -step, step
        for frame in frames:
            now = time + step if frame.pts is None or (number and self._steady) else frame.pts - zero
            if self.start and now < 0:
                continue  # between the key frame and `start`
            if end is not None and now >= end:
                time = end
                break
            time, lasts = max(now, time + 1) if number else now, max(frame.duration or 0, step)
            yield number, time, frame
            number += 1
        if not self._left:
            self._note_end(float((time + lasts) * self.time_base) + self.start)

    def _note_end(self, reached: float) -> None:
        expected = min(self.end or math.inf, self._length or 0)
        if reached < expected - MISSED:
            reason = f": {self.trouble}" if self.trouble else ", because the file ends there"
            self.trouble = f"{self.path} stops at {reached:.2f} s of {expected:.2f} s{reason}"
        elif self.trouble:
            self.trouble = f"{self.path} is damaged, but goes on to its end: {self.trouble}"

    def _decoded(self, container, stream) -> Iterator:
        """Every frame that can be decoded. A damaged one is skipped, and `trouble` says so."""
        av = pyav()
        packets, more = container.demux(stream), True
        while more and not self._left:
            frames = []
            try:
                packet = next(packets, None)
                more = packet is not None and packet.size > 0  # the last one is empty: it asks for the frames held back
                frames = stream.decode(packet)
            except av.FFmpegError as error:
                self.trouble = self.trouble or str(error.strerror)
            yield from frames

    @contextmanager
    def _opened(self):
        av = pyav()
        if self.path.is_file() and self.path.stat().st_size == 0:
            raise ValueError(f"{self.path} is empty")
        try:
            container = open_container(self.path)
        except (av.FFmpegError, OSError) as error:
            refused = isinstance(error, av.ArgumentError)  # FFmpeg's word for a demuxer that is not named
            reason = "it is none of a kind that is read" if refused else error.strerror or error
            raise ValueError(f"{self.path} can't be read as a video: {reason}") from error
        with container:
            covers = av.stream.Disposition.attached_pic  # a song's cover is a video stream, too
            stream = next((one for one in container.streams.video if not one.disposition & covers), None)
            if stream is None:
                raise ValueError(f"{self.path} has no video, only {_kinds(container) or 'nothing'}")
            if stream.codec_context is None:
                raise ValueError(f"{self.path} has a video that FFmpeg has no decoder for")
            if stream.width * stream.height > MOST_PIXELS:
                size = f"{stream.width}x{stream.height}"
                raise ValueError(f"{self.path} has frames of {size} pixels, and at most {MOST_PIXELS} can be read")
            stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # a later frame may be larger
            stream.thread_type = "AUTO"
            yield container, stream


def looped(path: Path | str) -> Iterator[np.ndarray]:
    """The frames of a video again and again, uint8 HxWx3 RGB.

    Raises:
        ValueError: there is no video that can be decoded.
    """
    return chain.from_iterable(repeat(Video(path)))


def open_container(path: Path):
    """A video file, opened by PyAV as what it holds itself, and as nothing else. Its metadata may be in any encoding.

    Raises:
        av.FFmpegError, OSError: it can't be opened.
    """
    with bounded_growth(TABLES):
        return pyav().open(f"file:{path}", container_options=FILES_ALONE, metadata_errors="replace")


def pyav() -> ModuleType:
    """The package `av`, imported when the first video is opened.

    Raises:
        ValueError: it isn't installed.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError('videos need PyAV: pip install -e ".[video]"') from error
    return av


def _kinds(container) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams}))


def _length(stream) -> float | None:
    """Seconds of the stream itself. The container may be longer, because its sound is."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    clock = re.fullmatch(
        r"(\d+):(\d+):(\d+(\.\d+)?)", stream.metadata.get("DURATION", "")
    )  # Matroska's: 00:00:12.245000000
    return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]) if clock else None


def _turn(frame) -> Turn:
    """What a frame's display matrix asks for, to the nearest quarter turn: players show no other."""
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV refuses all of it where one kind is newer than itself, as in spatial video
        return {90: Turn(True, False, True), 180: Turn(False, True, True), 270: Turn(True, True, False)}.get(
            frame.rotation % 360, Turn()
        )
    if matrix is None:
        return Turn()
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()  # x' = ax + cy, y' = bx + dy; y points down
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(True, c < 0, b < 0)
    return Turn(False, a < 0, d < 0)
