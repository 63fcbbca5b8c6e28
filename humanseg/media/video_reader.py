"""A video file as frames: upright, each with its time, and as far as they can be decoded."""

import math
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, repeat
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from humanseg.processes.limits import bounded_growth

# The rotation that makes a frame upright, in degrees counter-clockwise, as phones record it (the display matrix).
TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}
MISSED = 0.25  # seconds by which a video may be shorter than it says: containers round
# FFmpeg's demuxers of files that hold their pictures themselves. Others, such as concat and hls, open any file or the
# network, whatever the name of the file says.
FILES_ALONE = {
    "format_whitelist": "mov,matroska,avi,flv,mpegts,mpeg,mpegvideo,m4v,mxf,ogg,asf",
    "protocol_whitelist": "file",
}
TABLES = 2**30  # bytes that opening a video may take; ten hours of it have tables of 100 MB
MOST_PIXELS = 2**26  # of a frame, as 8192x8192: a decoder keeps many, and a file of a few KB may claim any size


class Video:
    """Frames of a video file, uint8 HxWx3 RGB, upright; decoded as they are asked for, by several threads.

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
            self._turn = TURNS.get(first.rotation % 360)
        self._size = first.width, first.height
        sideways = self._turn in (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE)
        self.width, self.height = self._size[::-1] if sideways else self._size
        self.pixel_aspect = 1 / self.pixel_aspect if sideways else self.pixel_aspect

    def _measure(self, container, stream) -> None:
        self.time_base = stream.time_base
        rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
        self.rate = rate / self.every
        self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        self.has_audio = bool(container.streams.audio)
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
            convert = pyav().video.reformatter.VideoReformatter()  # one for all frames: a new one takes 4 ms to start
            for number, time, frame in self._within(self._decoded(container, stream)):
                if number % self.every == 0:
                    self.times.append(time)
                    image = convert.reformat(frame, *self._size, format="rgb24").to_ndarray()
                    yield image if self._turn is None else cv2.rotate(image, self._turn)
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
                self.trouble = self.trouble or (error.strerror or str(error))
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
    """A video file, opened by PyAV as what it holds itself, and as nothing else.

    Raises:
        av.FFmpegError, OSError: it can't be opened.
    """
    with bounded_growth(TABLES):
        return pyav().open(f"file:{path}", options=FILES_ALONE)


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
    clock = stream.metadata.get("DURATION")  # Matroska's: 00:00:12.245000000
    if not clock:
        return None
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
