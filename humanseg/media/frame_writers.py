"""Frames as pictures: a PNG for each, for editors, or one animated picture, for web pages. Under which names, and how."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from humanseg.media import images
from humanseg.media.video_reader import Video
from humanseg.media.video_writer import FORMATS, VideoWriter
from humanseg.runs.atomic import replacing

NUMBER = re.compile(r"%0?\d*d")  # the place of a frame's number in the name of a PNG, as in FFmpeg
# By suffix: Pillow's name, the unit of its times in seconds, and the shortest time of a frame in that unit: browsers show
# one that is shorter for 0.1 s.
ANIMATIONS = {".gif": ("GIF", Fraction(1, 100), 2), ".webp": ("WEBP", Fraction(1, 1000), 11)}
WRITTEN = {*FORMATS, *ANIMATIONS, ".png"}
MOST_HELD = 500_000_000  # pixels of an animation: 2 GB as RGBA
OPAQUE, CLEAR = 128, 255  # a GIF's pixel is there, from this alpha on, or has this place in the palette


def refuse_name(path: Path, sixteen_bits: bool = False) -> None:
    """Refuse the name of a PNG that has no place for a number, and one under which 16 bits can't be written.

    Raises:
        ValueError: it is such a name.
    """
    is_sequence = path.suffix.lower() == ".png"
    if is_sequence and len(NUMBER.findall(path.name)) != 1:
        raise ValueError(f"output={path} has no place for the number of a frame: give a name such as cut_%05d.png")
    if sixteen_bits and not is_sequence and path.suffix.lower() != ".mkv":
        raise ValueError(f"output={path} can't hold bits=16: give a .mkv, or numbered pictures, as depth_%05d.png")


def frame_writer(
    path: Path, width: int, height: int, rate: Fraction, source: Video | None = None, keep_metadata: bool = False
) -> "VideoWriter | SequenceWriter | AnimationWriter":
    """What writes frames under a name; the arguments are those of `VideoWriter`."""
    suffix = path.suffix.lower()
    if suffix == ".png":
        return SequenceWriter(path)
    if suffix in ANIMATIONS:
        return AnimationWriter(path, width, height, rate, source)
    return VideoWriter(path, width, height, rate, source, keep_metadata)


def first_file(path: Path) -> Path:
    """The file that is there once all frames are: of numbered pictures the first, else the video itself."""
    return _numbered(path, 1) if path.suffix.lower() == ".png" else path


class SequenceWriter:
    """A PNG for each frame, numbered from 1: uint8 HxW, HxWx3 or HxWx4, or uint16 HxW.

    The first is written last, so that a sequence with a first picture is whole. After an exception no picture is left.

    Args:
        path: with the number's place in its name, as ``cut/%05d.png``.
    """

    def __init__(self, path: Path):
        self.path, self.written, self._first = path, 0, None

    def __enter__(self) -> "SequenceWriter":
        _numbered(self.path, 1).unlink(missing_ok=True)
        return self

    def write(self, frame: np.ndarray) -> None:
        """Write the next frame. ValueError: it can't be written, for example because the disk is full."""
        self.written += 1
        if self.written == 1:
            self._first = frame
        else:
            images.write_image(_numbered(self.path, self.written), frame)

    def __exit__(self, *failure) -> None:
        if failure[0] is None and self._first is None:
            raise ValueError(f"{self.path} was not written: there was not one frame")
        if failure[0] is None:
            images.write_image(_numbered(self.path, 1), self._first)
        kept = self.written if failure[0] is None else 0
        while (more := _numbered(self.path, kept + 1)).exists() or kept < self.written:  # also a longer one's of before
            more.unlink(missing_ok=True)
            kept += 1


class AnimationWriter:
    """An animated GIF or WebP that plays for ever, without sound: uint8 HxW, HxWx3 or HxWx4.

    The file is written when the context is left; after an exception there is none. Frames that would be shown for a
    shorter time than browsers can are left out. All are held in memory: 4 bytes a pixel for WebP, 1 for GIF.

    Args:
        width, height, rate, source: as for `VideoWriter`.

    Raises:
        ValueError: there are too many frames for the memory, or the file can't be written.
    """

    def __init__(self, path: Path, width: int, height: int, rate: Fraction, source: Video | None = None):
        self.path, self.rate, self.source, self.written = path, Fraction(rate), source, 0
        self._format, self._unit, self._shortest = ANIMATIONS[path.suffix.lower()]
        self._frames, self._starts, self._end = [], [], 0
        self._most = MOST_HELD // (width * height)
        if source and (source.frames or 0) > self._most:
            self._refuse()

    def __enter__(self) -> "AnimationWriter":
        return self

    def write(self, frame: np.ndarray) -> None:
        """Hold the next frame."""
        time = self.source.times[self.written] * self.source.time_base if self.source else self.written / self.rate
        start, self._end = round(time / self._unit), round((time + 1 / self.rate) / self._unit)
        self.written += 1
        if self._starts and start - self._starts[-1] < self._shortest:
            return
        if len(self._frames) == self._most:
            self._refuse()
        self._starts.append(start)
        self._frames.append(_with_palette(frame) if self._format == "GIF" else Image.fromarray(frame))

    def __exit__(self, *failure) -> None:
        if failure[0] is not None:
            return
        if not self._frames:
            raise ValueError(f"{self.path} was not written: there was not one frame")
        ends = [*self._starts[1:], max(self._end, self._starts[-1] + self._shortest)]
        milliseconds = int(1000 * self._unit)
        times = [milliseconds * (end - start) for start, end in zip(self._starts, ends, strict=True)]
        first, *others = self._frames
        how = {"lossless": True} if first.mode == "L" else {"quality": 80}
        if "transparency" in first.info:
            how = {"disposal": 2}  # each frame takes the place of the one before, and is not drawn over it
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as temporary:
                first.save(temporary, self._format, save_all=True, append_images=others, duration=times, loop=0, **how)
        except OSError as error:
            raise ValueError(f"{self.path} can't be written: {error.strerror or error}") from error

    def _refuse(self) -> None:
        raise ValueError(
            f"{self.path} would have more than {self._most} frames, too many for an animated picture of this size: "
            "give every=, start= or end=, or another format"
        )


def _with_palette(frame: np.ndarray) -> Image.Image:
    """A frame in 256 colours, those of its thumbnail, which are found in a quarter of the time; one may be transparent."""
    if frame.ndim == 2:
        return Image.fromarray(frame)
    colours = Image.fromarray(np.ascontiguousarray(frame[..., :3]))
    thumbnail = colours.copy()
    thumbnail.thumbnail((160, 160))
    if frame.shape[2] == 3:
        return colours.quantize(palette=thumbnail.quantize(256), dither=Image.Dither.NONE)
    image = colours.quantize(palette=thumbnail.quantize(CLEAR), dither=Image.Dither.NONE)
    image.paste(CLEAR, mask=Image.fromarray(frame[..., 3] < OPAQUE))
    image.info["transparency"] = CLEAR
    return image


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(NUMBER.sub(lambda place: place[0] % number, path.name))
