"""Frames go out for editors, with their transparency and 16 bits, and as animated pictures, in time."""

import os
from fractions import Fraction

import cv2
import numpy as np
import pytest
from PIL import Image

from humanseg.media import frame_writers
from humanseg.media.frame_writers import first_file, frame_writer, refuse_name

av = pytest.importorskip("av")


def frames(count: int = 4, alpha: bool = True) -> list[np.ndarray]:
    """48x64, a red square that moves to the right, transparent around it or on black."""
    made = np.zeros((count, 48, 64, 4 if alpha else 3), np.uint8)
    for number, frame in enumerate(made):
        frame[16:32, 8 + 8 * number : 24 + 8 * number] = [200, 40, 40, 255][: frame.shape[2]]
    return list(made)


def written(path, pictures: list[np.ndarray], rate: int = 25):
    with frame_writer(path, pictures[0].shape[1], pictures[0].shape[0], Fraction(rate)) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


def test_a_transparent_mov_is_prores_4444(tmp_path):
    given = [frame[:47, :63] for frame in frames()]
    with av.open(str(written(tmp_path / "a.mov", given))) as file:
        codec, seen = (
            file.streams.video[0].codec_context,
            [one.to_ndarray(format="rgba") for one in file.decode(video=0)],
        )
    assert (codec.name, codec.profile, codec.width, codec.height) == ("prores", "4444", 63, 47)
    for frame, expected in zip(seen, given, strict=True):
        assert np.abs(frame[..., 3].astype(int) - expected[..., 3]).max() <= 1
        inside = expected[..., 3] == 255
        assert np.abs(frame[inside].astype(int) - expected[inside]).max() <= 6


def test_sixteen_bits_are_kept_in_mkv_and_in_pictures(tmp_path):
    given = [np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21 + number for number in range(3)]
    with av.open(str(written(tmp_path / "a.mkv", given))) as file:
        seen = [one.to_ndarray(format="gray16le") for one in file.decode(video=0)]
    assert (np.array(seen) == given).all()
    written(tmp_path / "a_%03d.png", given)
    for number, kept in enumerate(given, 1):
        assert (cv2.imread(str(tmp_path / f"a_{number:03d}.png"), cv2.IMREAD_UNCHANGED) == kept).all()


def test_numbered_pictures_are_whole_where_the_first_is_there(tmp_path):
    path = tmp_path / "cut" / "%03d.png"
    with frame_writer(path, 64, 48, Fraction(25)) as writer:
        for frame in frames():
            writer.write(frame)
        assert not first_file(path).exists()
    names = [f"{number:03d}.png" for number in range(1, 5)]
    assert sorted(os.listdir(path.parent)) == names
    assert (np.asarray(Image.open(path.parent / "002.png")) == frames()[1]).all()
    written(path, frames(2))  # shorter: nothing of the longer one stays
    assert sorted(os.listdir(path.parent)) == names[:2]
    with pytest.raises(RuntimeError), frame_writer(path, 64, 48, Fraction(25)) as writer:
        writer.write(frames()[0])
        writer.write(frames()[1])
        raise RuntimeError
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("suffix", ["gif", "webp"])
@pytest.mark.parametrize("alpha", [True, False])
def test_an_animated_picture_keeps_time_and_transparency(tmp_path, suffix, alpha):
    path = written(tmp_path / f"a.{suffix}", frames(6, alpha), rate=30)
    with Image.open(path) as image:
        durations = []
        for number, expected in enumerate(frames(6)):
            image.seek(number)
            seen = np.asarray(image.convert("RGBA")).astype(int)
            durations.append(image.info["duration"])
            red = expected[..., 3] == 255
            assert np.median(np.abs(seen[red] - expected[red])) <= 15  # WebP halves the resolution of colours
            assert np.median(seen[~red][:, 3]) == (0 if alpha else 255)
        assert image.n_frames == 6 and image.info["loop"] == 0
    assert sum(durations) == pytest.approx(200, abs=5)


def test_frames_that_browsers_can_not_show_in_time_are_left_out(tmp_path):
    with Image.open(written(tmp_path / "a.gif", frames(6, alpha=False), rate=100)) as image:
        assert image.n_frames == 3


def test_an_animation_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_writers, "MOST_HELD", 3 * 64 * 48)
    with pytest.raises(ValueError, match=r"a\.gif would have more than 3 frames.*every="):
        written(tmp_path / "a.gif", frames())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "deep", "why"), [("a.png", False, "number of a frame"), ("a.mp4", True, "bits=16")])
def test_names_that_can_not_hold_the_frames_are_refused(tmp_path, name, deep, why):
    with pytest.raises(ValueError, match=f"output=.*{name}.*{why}"):
        refuse_name(tmp_path / name, deep)
    for fine in ("a.mkv", "a_%05d.png"):
        refuse_name(tmp_path / fine, True)
