"""Colours of a video are those that players show, and the labels of a result are true."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from humanseg.media.frame_writers import frame_writer
from humanseg.media.video_reader import Video

av = pytest.importorskip("av")

PATCHES = [(255, 0, 0), (0, 0, 255), (200, 120, 90), (40, 90, 160)]
WEIGHTS = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114), "bt2020": (0.2627, 0.0593)}  # of red and blue in luma
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
BT709, BT2020, PQ, HLG, LIMITED, FULL = 1, 9, 16, 18, 1, 2  # ITU-T H.273, and FFmpeg's ranges


def coded(rgb: np.ndarray, matrix: str, bits: int, full: bool) -> list[int]:
    """Y, Cb and Cr of RGB in [0, 1], as BT.709 and its relatives define them."""
    red, blue = WEIGHTS[matrix]
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    chroma = (rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)
    step, top = 2 ** (bits - 8), 2**bits - 1
    if full:
        return [round(luma * top), *(min(round(one * top + 128 * step), top) for one in chroma)]
    return [round((219 * luma + 16) * step), *(round((224 * one + 128) * step) for one in chroma)]


def film(path: Path, colours: list[list[int]], size=(64, 48), bits: int = 8, **labels) -> Path:
    """A frame for each colour, without loss. FFV1 keeps no labels in its frames, so Matroska's count."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p" if bits == 8 else f"yuv444p{bits}le"
        for name, value in labels.items():
            setattr(stream.codec_context, name, value)
        for number, values in enumerate(colours):
            frame = av.VideoFrame(*size, stream.pix_fmt)
            for plane, value in zip(frame.planes, values, strict=True):
                kind = np.dtype(np.uint8 if bits == 8 else np.uint16)
                plane.update(np.full(plane.buffer_size // kind.itemsize, value, kind).tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def seen(path: Path) -> np.ndarray:
    """The colours in the middle of all frames, as they are read."""
    return np.array([frame[frame.shape[0] // 2, frame.shape[1] // 2] for frame in Video(path)]).astype(int)


@pytest.mark.parametrize(
    ("matrix", "size", "bits", "full", "labels"),
    [
        ("bt709", (1280, 720), 8, False, {}),
        ("bt709", (608, 1080), 10, False, {}),  # upright, as phones film
        ("bt601", (720, 576), 8, False, {}),
        ("bt709", (64, 48), 8, False, {"colorspace": BT709}),
        ("bt601", (1280, 720), 8, False, {"colorspace": 6}),
        ("bt709", (64, 48), 8, True, {"colorspace": BT709, "color_range": FULL}),
        ("bt709", (64, 48), 10, True, {"colorspace": BT709, "color_range": FULL}),
        ("bt709", (64, 48), 12, False, {"colorspace": BT709, "color_range": LIMITED}),
    ],
    ids=["HD", "HD upright", "SD", "labelled 709", "labelled 601", "full", "full 10 bits", "12 bits"],
)
def test_the_matrix_and_the_range_are_the_label_s_or_those_that_players_guess(
    tmp_path, matrix, size, bits, full, labels
):
    colours = [coded(np.array(patch) / 255, matrix, bits, full) for patch in PATCHES]
    assert np.abs(seen(film(tmp_path / "a.mkv", colours, size, bits, **labels)) - PATCHES).max() <= 4


def pq(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084"""
    power = (np.asarray(nits) / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(nits: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 for grey: the camera's signal of a light that a display of 1000 nits shows"""
    scene = (np.asarray(nits) / 1000) ** (1 / 1.2)
    bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)


@pytest.mark.parametrize(("transfer", "curve"), [(PQ, pq), (HLG, hlg)], ids=["PQ", "HLG"])
def test_hdr_shows_diffuse_white_as_white_and_clips_what_is_brighter(tmp_path, transfer, curve):
    labels = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": transfer, "color_range": LIMITED}
    nits = np.array([0, 5, 50, 203, 1000])
    colours = [coded(np.full(3, curve(one)), "bt2020", 10, False) for one in nits]
    expected = np.minimum(255 * (nits / 203) ** (1 / 2.4), 255)  # BT.1886, the curve of a BT.709 display
    found = seen(film(tmp_path / "a.mkv", colours, bits=10, **labels))
    assert np.abs(found - expected[:, None]).max() <= 3


def test_wide_colours_become_those_of_bt709(tmp_path):
    labels = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": BT709, "color_range": LIMITED}
    light = (np.array(PATCHES[2:]) / 255) ** 2.4 @ TO_BT2020.T
    colours = [coded(one, "bt2020", 10, False) for one in light ** (1 / 2.4)]
    assert np.abs(seen(film(tmp_path / "a.mkv", colours, bits=10, **labels)) - PATCHES[2:]).max() <= 6


def test_colours_that_nobody_can_convert_are_one_sentence(tmp_path):
    labels = {"colorspace": 14, "color_primaries": BT2020, "color_trc": PQ, "color_range": LIMITED}  # ICtCp
    with pytest.raises(ValueError, match=r"a\.mkv: FFmpeg can't bring its colours to BT\.709"):
        Video(film(tmp_path / "a.mkv", [[500, 512, 512]], bits=10, **labels))


@pytest.mark.parametrize(("suffix", "channels"), [("mp4", 3), ("mkv", 3), ("webm", 3), ("mov", 3), ("mov", 4)])
def test_a_result_is_labelled_as_what_it_is(tmp_path, suffix, channels):
    path = tmp_path / f"a.{suffix}"
    with frame_writer(path, 64, 48, Fraction(25)) as writer:
        for patch in PATCHES:
            writer.write(np.full((48, 64, channels), [*patch, 255][:channels], np.uint8))
    assert np.abs(seen(path) - PATCHES).max() <= 4
    with av.open(str(path)) as file:
        frame, codec = next(file.decode(video=0)), file.streams.video[0].codec_context
        assert (frame.colorspace, frame.color_range) == (BT709, LIMITED)
        assert (codec.color_trc, codec.color_primaries) == (BT709, BT709)
