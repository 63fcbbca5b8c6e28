"""Frames as a video file, with the times and the sound of the video that they come from."""

import math
import sys
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from humanseg.data.colour import on_white
from humanseg.media.sound import Sound
from humanseg.media.video_reader import Video, pyav
from humanseg.runs.atomic import replacing

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
BT709, LIMITED, FULL = 1, 1, 2  # colours are encoded and labelled so: every player shows the same
OF_ITS_CONTAINER = {"major_brand", "minor_version", "compatible_brands", "encoder"}  # metadata that is no longer true


class Coding(NamedTuple):
    """An encoder, its options, the pixels that it gets, and those that it is handed."""

    encoder: str
    options: dict[str, str]
    pixels: str
    given: str = "rgb24"


H264 = Coding("libx264", {"preset": "veryfast", "crf": "20"}, "yuv420p")
VP9 = Coding("libvpx-vp9", {"deadline": "realtime", "cpu-used": "7", "row-mt": "1", "crf": "30", "b": "0"}, "yuv420p")
CLEAR_VP9 = VP9._replace(pixels="yuva420p", given="rgba")
PRORES = Coding("prores_ks", {"profile": "4444", "vendor": "apl0", "alpha_bits": "16"}, "yuva444p10le", "rgba")
LABELS = "prores_metadata=color_primaries=bt709:color_trc=bt709:colorspace=bt709"  # ProRes has them in each frame
FFV1 = Coding("ffv1", {"level": "3", "slices": "4"}, "gray16le", "gray16le")  # lossless


class VideoWriter:
    """A video file: H.264 in mp4, m4v, mov and mkv, VP9 in webm.

    What is transparent is VP9 in webm and ProRes 4444 in mov; 16 bits are FFV1 in mkv.

    The whole file appears at `path` when the context is left; after an exception no file appears. H.264 needs even
    sides: an odd one grows by one pixel, a copy of the last.

    Args:
        width, height: of the frames, in pixels.
        rate: frames a second.
        source: the video that the frames come from, in its order. The file then has its times, which may be irregular,
            and its sound. The sound stays as it is where players of the format play it, else it becomes AAC or Opus.
        keep_metadata: the file also has what the source says of its making, as time and place.

    Raises:
        ValueError: the suffix is unknown, or the file can't be written.
    """

    def __init__(
        self,
        path: Path | str,
        width: int,
        height: int,
        rate: Fraction | float,
        source: Video | None = None,
        keep_metadata: bool = False,
    ):
        self.path, self.width, self.height = Path(path), width, height
        self.rate, self.source = Fraction(rate).limit_denominator(100_000), source
        self.time_base = source.time_base if source else 1 / self.rate
        self.written = 0
        self._format = FORMATS.get(self.path.suffix.lower())
        if self._format is None:
            raise ValueError(f"{path} can't be written: a video's name ends in {', '.join(FORMATS)}")
        kept = (
            {key: value for key, value in source.metadata.items() if key not in OF_ITS_CONTAINER}
            if keep_metadata
            else {}
        )
        front = {}
        if self._format in ("mp4", "mov"):  # it plays before all is loaded; names of metadata stay those of the source
            front = {"movflags": "+faststart" + "+use_metadata_tags" * bool(kept)}
        with self._explained(), ExitStack() as opening:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = opening.enter_context(replacing(self.path))
            self._file = pyav().open(str(temporary), "w", format=self._format, options=front)
            self._file.metadata.update(kept)
            self._place = opening.pop_all()
        self._stream = self._sound = None

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: np.ndarray) -> None:
        """Write the next frame, uint8 HxWx3 RGB, HxW or HxWx4 RGBA, or uint16 HxW.

        webm and mov keep RGBA, the others show it on white. mkv alone takes 16 bits.

        Raises:
            ValueError: it can't be written, for example because the disk is full.
        """
        with self._explained():
            if self._stream is None:
                self._start(self._coding_of(frame))
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

    def _coding_of(self, frame: np.ndarray) -> Coding:
        if frame.dtype == np.uint16:
            if self._format != "matroska":
                raise ValueError(f"{self.path} can't be written: 16 bits need a .mkv")
            return FFV1
        if frame.ndim == 3 and frame.shape[2] == 4 and self._format in ("webm", "mov"):
            return CLEAR_VP9 if self._format == "webm" else PRORES
        return VP9 if self._format == "webm" else H264

    def _start(self, coding: Coding) -> None:
        """Add the streams at the first frame, which tells the coding. After its packet none can be added."""
        stream = self._file.add_stream(coding.encoder, self.rate, options=dict(coding.options))
        stream.width, stream.height, stream.pix_fmt = self.width, self.height, coding.pixels
        if coding is H264:
            stream.width, stream.height = self.width + self.width % 2, self.height + self.height % 2
        codec = stream.codec_context
        codec.time_base, codec.thread_count = self.time_base, 0
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = self._range = FULL if coding is FFV1 else LIMITED
        if self.source:
            codec.sample_aspect_ratio = self.source.pixel_aspect
            self._sound = Sound(self.source, self._file)
        self._convert = pyav().video.reformatter.VideoReformatter()
        self._labels = pyav().BitStreamFilterContext(LABELS, stream) if coding is PRORES else None
        self._stream, self._coding = stream, coding

    def _picture(self, frame: np.ndarray):
        assert frame.shape[:2] == (self.height, self.width), f"{frame.shape} instead of {self.height}x{self.width}"
        given = self._coding.given
        if frame.ndim == 2 and given == "rgb24":
            frame = cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)
        if frame.ndim == 3 and frame.shape[2] == 4 and given == "rgb24":
            frame = on_white(frame)
        wider, higher = self._stream.width - self.width, self._stream.height - self.height
        if wider or higher:
            frame = cv2.copyMakeBorder(frame, 0, higher, 0, wider, cv2.BORDER_REPLICATE)
        # Not copied: a copy holds Python's lock. The picture keeps the frame in memory.
        picture = pyav().VideoFrame.from_numpy_buffer(np.ascontiguousarray(frame), given)
        return self._convert.reformat(
            picture, format=self._coding.pixels, dst_colorspace=BT709, dst_color_range=self._range
        )

    def _add(self, packets: list) -> None:
        for packet in packets:
            packet.duration = round(1 / self.rate / packet.time_base)  # the last frame is shown as long as the others
            self._file.mux(self._labels.filter(packet) if self._labels else packet)

    def _add_sound(self, until: float) -> None:
        """Write the sound up to a time, in seconds, beside its pictures. Players need that, and it spares memory."""
        if self._sound is not None:
            self._file.mux(self._sound.until(until))

    @contextmanager
    def _explained(self):
        try:
            yield
        except (pyav().FFmpegError, OSError) as error:
            raise ValueError(f"{self.path} can't be written: {error.strerror or error}") from error
