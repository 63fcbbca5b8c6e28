"""Frames as a video file, with the times and the sound of the video that they come from."""

import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from humanseg.media.images import on_white
from humanseg.media.video_reader import Video, open_container, pyav
from humanseg.runs.atomic import replacing

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
H264 = {"preset": "veryfast", "crf": "20"}
VP9 = {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "crf": "30", "b": "0"}
BT709, LIMITED = 1, 1  # colours are encoded and labelled so: every player shows the same


class VideoWriter:
    """A video file: H.264 in mp4, m4v, mov and mkv, VP9 in webm.

    The whole file appears at `path` when the context is left; after an exception no file appears. H.264 needs even
    sides: an odd one grows by one pixel, a copy of the last.

    Args:
        width, height: of the frames, in pixels.
        rate: frames a second.
        source: the video that the frames come from, in its order. The file then has its times, which may be irregular,
            and its sound. The sound stays as it is where the format takes it, else it becomes AAC or Opus.

    Raises:
        ValueError: the suffix is unknown, or the file can't be written.
    """

    def __init__(self, path: Path | str, width: int, height: int, rate: Fraction | float, source: Video | None = None):
        self.path, self.width, self.height = Path(path), width, height
        self.rate, self.source = Fraction(rate).limit_denominator(100_000), source
        self.time_base = source.time_base if source else 1 / self.rate
        self.written = 0
        self._format = FORMATS.get(self.path.suffix.lower())
        if self._format is None:
            raise ValueError(f"{path} can't be written: a video's name ends in {', '.join(FORMATS)}")
        front = {"movflags": "+faststart"} if self._format in ("mp4", "mov") else {}  # it plays before all is loaded
        with self._explained(), ExitStack() as opening:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = opening.enter_context(replacing(self.path))
            self._file = pyav().open(str(temporary), "w", format=self._format, options=front)
            self._place = opening.pop_all()
        self._stream = self._sound = self._next_sound = None

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: np.ndarray) -> None:
        """Write the next frame, uint8 HxWx3 RGB, HxW or HxWx4 RGBA. webm keeps RGBA, the others show it on white.

        Raises:
            ValueError: it can't be written, for example because the disk is full.
        """
        with self._explained():
            if self._stream is None:
                self._start(alpha=frame.ndim == 3 and frame.shape[2] == 4 and self._format == "webm")
            picture = self._picture(frame)
            picture.time_base = self.time_base
            picture.pts = self.source.times[self.written] if self.source else self.written
            self.written += 1
            self._add(self._stream.encode(picture))
            self._add_sound(picture.pts * self.time_base)

    def __exit__(self, *failure) -> None:
        try:
            if failure[0] is None:
                self._finish()
        except BaseException:
            failure = sys.exc_info()
            raise
        finally:
            if self._sound is not None:
                self._sound.close()
            with suppress(pyav().FFmpegError, OSError):  # a file that is given up may fail at its trailer
                self._file.close()
            with self._explained():
                self._place.__exit__(*failure)

    def _finish(self) -> None:
        with self._explained():
            if self._stream is None:
                raise ValueError(f"{self.path} was not written: there was not one frame")
            self._add(self._stream.encode(None))
            self._add_sound(math.inf)
            self._file.close()

    def _start(self, alpha: bool) -> None:
        """Add the streams at the first frame, which tells if there is alpha. After its packet none can be added."""
        vp9 = self._format == "webm"
        stream = self._file.add_stream(
            "libvpx-vp9" if vp9 else "libx264", self.rate, options=dict(VP9 if vp9 else H264)
        )
        stream.width, stream.height = self.width, self.height
        if not vp9:
            stream.width, stream.height = self.width + self.width % 2, self.height + self.height % 2
        stream.pix_fmt = "yuva420p" if alpha else "yuv420p"
        codec = stream.codec_context
        codec.time_base, codec.thread_count = self.time_base, 0
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED
        if self.source:
            codec.sample_aspect_ratio = self.source.pixel_aspect
            if self.source.has_audio:
                self._sound = _sound(self.source, self._file)
                self._next_sound = next(self._sound, None)
        self._convert = pyav().video.reformatter.VideoReformatter()
        self._stream = stream

    def _picture(self, frame: np.ndarray):
        assert frame.shape[:2] == (self.height, self.width), f"{frame.shape} instead of {self.height}x{self.width}"
        if frame.ndim == 2:
            frame = cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)
        alpha = self._stream.pix_fmt == "yuva420p"
        if frame.shape[2] == 4 and not alpha:
            frame = on_white(frame)
        wider, higher = self._stream.width - self.width, self._stream.height - self.height
        if wider or higher:
            frame = cv2.copyMakeBorder(frame, 0, higher, 0, wider, cv2.BORDER_REPLICATE)
        picture = pyav().VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgba" if alpha else "rgb24")
        return self._convert.reformat(
            picture, format=self._stream.pix_fmt, dst_colorspace=BT709, dst_color_range=LIMITED
        )

    def _add(self, packets: list) -> None:
        for packet in packets:
            packet.duration = round(1 / self.rate / packet.time_base)  # the last frame is shown as long as the others
            self._file.mux(packet)

    def _add_sound(self, until: float) -> None:
        """Write the sound up to a time, in seconds, beside its pictures. Players need that, and it spares memory."""
        while self._next_sound is not None and _seconds(self._next_sound) <= until:
            self._file.mux(self._next_sound)
            self._next_sound = next(self._sound, None)

    @contextmanager
    def _explained(self):
        try:
            yield
        except (pyav().FFmpegError, OSError) as error:
            raise ValueError(f"{self.path} can't be written: {error.strerror or error}") from error


def _seconds(packet) -> float | Fraction:
    time = packet.pts if packet.pts is not None else packet.dts
    return -math.inf if time is None else time * packet.time_base


def _sound(source: Video, output) -> Iterator:
    """Packets of the source's main sound between its `start` and `end`, for a stream that is added to `output`."""
    av = pyav()
    with open_container(source.path) as file:
        track = file.streams.best("audio")
        copied = track.codec_context.codec.canonical_name in output.supported_codecs
        if copied:
            stream = output.add_stream_from_template(track)
        else:
            stream = output.add_stream("libopus" if output.format.name == "webm" else "aac", track.rate)
        if source.start:
            file.seek(source.ticks(Fraction(1, 1_000_000)))
        pieces = file.demux(track) if copied else file.decode(track)
        with suppress(av.FFmpegError):  # sound ends where it is cut off or damaged; the pictures' reader tells the user
            for piece in _within(pieces, source, track.time_base):
                if copied:
                    piece.stream = stream
                    yield piece
                else:
                    yield from stream.encode(piece)
        if not copied:
            yield from stream.encode(None)


def _within(pieces: Iterator, source: Video, time_base: Fraction) -> Iterator:
    """Packets or frames of sound with times from the source's `start` on."""
    zero = source.ticks(time_base)
    end = math.inf if source.end is None else round(Fraction(source.end - source.start) / time_base)
    for piece in pieces:
        if piece.pts is None:  # the empty packet that ends a stream
            continue
        piece.pts -= zero
        if piece.dts is not None and hasattr(piece, "stream"):
            piece.dts -= zero
        if piece.pts >= end:
            return
        if piece.pts >= 0 or not source.start:
            yield piece
