"""Photographs and videos come in upright and whole as far as they can be read, and go out with all that they had."""

import os
import resource
import tracemalloc
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from humanseg.media.images import find_photographs, kind, on_white, read_photograph, write_image
from humanseg.media.video_reader import Video, looped
from humanseg.media.video_writer import VideoWriter

av = pytest.importorskip("av")
REAL = Path(__file__).parent.parent.parent / "shared" / "video" / "thoughtful.mp4"


def picture(path: Path, size=(8, 6), colour=(200, 30, 30), **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **how)
    return path


def places(typed) -> list[str]:
    return [photograph.place.as_posix() for photograph in find_photographs(typed)]


# What was typed


@pytest.mark.parametrize("typed", [0, "0", "12", "rtsp://host/1", "http://host:81/video", "HTTPS://host/a.mp4"])
def test_numbers_and_urls_are_cameras(typed):
    assert kind(typed) == "camera"


def test_files_are_told_by_their_suffix(tmp_path):
    (tmp_path / "a.MP4").write_bytes(b"")
    (tmp_path / "folder.mp4").mkdir()
    photograph = picture(tmp_path / "a.jpg")
    assert kind(f"{tmp_path}/a.MP4") == "video"
    for typed in (str(photograph), f"{tmp_path}/folder.mp4", f"{tmp_path}/*.jpg", [str(photograph)]):
        assert kind(typed) == "photographs"


@pytest.mark.parametrize("typed", ["nowhere.jpg", "nowhere.mp4", "/no/folder", ""])
def test_what_does_not_exist_is_one_sentence(typed):
    with pytest.raises(ValueError, match="input=.*does not exist"):
        kind(typed)
    with pytest.raises(ValueError, match="input="):
        find_photographs(typed or "nowhere")


def test_a_folder_keeps_its_structure_in_order(tmp_path):
    for name in ("b.jpg", "a.PNG", "x/y/c.webp", "x/d.bmp", "x/e.gif", "x/.hidden.png", ".cache/f.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("b.jpg")
    assert places(str(tmp_path)) == ["a", "b", "x/d", "x/e", "x/y/c"]


def test_no_two_results_share_a_place(tmp_path):
    for name in ("a.jpg", "a.png", "a_png.jpg", "a.b.jpg", "a.b.png"):
        picture(tmp_path / name)
    assert places(str(tmp_path)) == ["a.b", "a.b_png", "a", "a_png", "a_png_jpg"]


def test_globs_lists_and_list_files_are_placed_below_what_they_share(tmp_path, monkeypatch):
    for name in ("one/a.jpg", "one/deep/b.jpg", "two/a.jpg", "two/c.png"):
        picture(tmp_path / name)
    (tmp_path / "list.txt").write_text(f"one/a.jpg\n\n{tmp_path}/two/a.jpg\nmissing.jpg\n")
    monkeypatch.chdir(tmp_path)
    assert places("one/a.jpg") == ["a"]
    assert places("one/*.jpg") == ["a"]
    assert places("*/*.jpg") == places(f"{tmp_path}/*/*.jpg") == ["one/a", "two/a"]
    assert places("**/*.jpg") == ["one/a", "one/deep/b", "two/a"]
    assert places(["one", "two/a.jpg", "one/a.jpg"]) == ["one/a", "one/deep/b", "two/a"]
    assert places("list.txt") == ["one/a", "two/a", "missing"]


def test_all_that_is_missing_is_named_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"first\.jpg, second\.jpg"):
        find_photographs(["first.jpg", str(picture(tmp_path / "a.jpg")), "second.jpg"])


def test_a_folder_without_photographs_names_the_formats(tmp_path):
    for typed in (str(tmp_path), f"{tmp_path}/*.jpg"):
        with pytest.raises(ValueError, match="no photograph.*bmp gif jpeg jpg png webp"):
            find_photographs(typed)


# Photographs in


def test_a_photograph_is_read_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = picture(tmp_path / "a.jpg", (8, 6), exif=exif)
    image, note = read_photograph(path)
    assert image.shape == (8, 6, 3) and image.dtype == np.uint8 and note is None
    image, _ = read_photograph(path, most_pixels=12)
    assert image.shape == (4, 3, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif"])
def test_one_pixel_is_a_photograph(tmp_path, suffix):
    image, note = read_photograph(picture(tmp_path / f"a.{suffix}", (1, 1)))
    assert image.shape == (1, 1, 3) and note is None


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_the_first_picture_of_an_animation_is_used_and_said(tmp_path, suffix):
    red, blue = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (8, 6), "blue")
    red.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[blue])
    image, note = read_photograph(tmp_path / f"a.{suffix}")
    assert image.shape == (6, 8, 3) and image[..., 0].min() > 200 and image[..., 2].max() < 50
    assert "animated" in note


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16", "1"])
def test_a_large_photograph_is_scaled_down_and_says_so(tmp_path, mode):
    grey = Image.new("L", (400, 200), 100)
    image = Image.fromarray(np.full((200, 400), 100 * 257, np.uint16)) if mode == "I;16" else grey.convert(mode)
    image.save(tmp_path / "a.png")
    small, note = read_photograph(tmp_path / "a.png", most_pixels=20_000)
    assert small.shape == (100, 200, 3)
    assert "400x200" in note and "200x100" in note
    if mode != "1":
        assert np.abs(small.astype(int) - 100).max() <= 2


def test_a_file_that_claims_to_be_huge_is_refused(tmp_path):
    with open(tmp_path / "a.bmp", "wb") as file:
        Image.new("1", (8, 8)).save(file, "bmp")
        file.seek(18)
        file.write((60_000).to_bytes(4, "little") * 2)
    with pytest.raises(ValueError, match="60000x60000"):
        read_photograph(tmp_path / "a.bmp")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif"])
def test_a_photograph_that_can_not_be_read_is_one_sentence(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for data in (b"", whole[: len(whole) // 2], b"no image at all"):
        path.write_bytes(data)
        for most in (50_000_000, 100):
            with pytest.raises(ValueError, match=str(path)) as error:
                read_photograph(path, most)
            assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="No such file"):
        read_photograph(tmp_path / "nowhere.jpg")
    with pytest.raises(ValueError, match="can't be read"):
        read_photograph(tmp_path)


# Pictures out


@pytest.fixture
def rgba() -> np.ndarray:
    image = np.zeros((6, 8, 4), np.uint8)
    image[:, :4] = (200, 30, 30, 255)
    return image


@pytest.mark.parametrize("suffix", ["png", "PNG", "webp", "jpg", "jpeg", "bmp"])
def test_transparency_is_kept_or_white(tmp_path, rgba, suffix):
    path = tmp_path / "new" / "folder" / f"a.{suffix}"
    write_image(path, rgba)
    with Image.open(path) as image:
        assert image.mode == ("RGBA" if suffix.lower() in ("png", "webp") else "RGB")
        values = np.asarray(image).astype(int)
    assert np.abs(values[:, :3, :3] - (200, 30, 30)).max() < 30
    assert (values[:, 6:, 3] == 0).all() if values.shape[2] == 4 else (values[:, 6:] > 240).all()
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp"])
def test_masks_are_written_to_the_bit(tmp_path, suffix):
    mask = np.random.default_rng(0).integers(0, 2, (60, 80), dtype=np.uint8) * 255
    write_image(tmp_path / f"a.{suffix}", mask)
    assert (np.asarray(Image.open(tmp_path / f"a.{suffix}").convert("L")) == mask).all()


def test_png_holds_16_bits_and_nothing_else_does(tmp_path):
    values = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000
    write_image(tmp_path / "a.png", values)
    assert (np.asarray(Image.open(tmp_path / "a.png")) == values).all()
    with pytest.raises(ValueError, match=r"a\.jpg.*png"):
        write_image(tmp_path / "a.jpg", values)


def test_what_can_not_be_written_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    image = np.zeros((4, 4, 3), np.uint8)
    for name in ("a.tiff", "a", "a.jpg/b.jpg"):
        (tmp_path / "a.jpg").write_bytes(b"a file, no folder")
        with pytest.raises(ValueError, match=name):
            write_image(tmp_path / name, image)
    with pytest.raises(ValueError, match=r"wide\.webp"):
        write_image(tmp_path / "wide.webp", np.zeros((1, 20_000, 3), np.uint8))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ValueError, match=r"a\.jpg can't be written: No space left"):
        write_image(tmp_path / "a.jpg", image)
    assert os.listdir(tmp_path) == ["a.jpg"] and (tmp_path / "a.jpg").read_bytes() == b"a file, no folder"


def test_on_white_mixes_by_alpha():
    pixels = np.array([[[0, 100, 200, 255], [0, 100, 200, 0], [0, 0, 0, 51]]], np.uint8)
    assert on_white(pixels).tolist() == [[[0, 100, 200], [255, 255, 255], [204, 204, 204]]]


# Videos


def film(
    path: Path, frames: int = 50, rate: int | Fraction = 25, sound: str | None = "aac", turn: int = 0, times=None
) -> Path:
    """64x48, the upper half red on black, with a bar at the right of brightness 4 n in frame n, modulo 256, and a tone as long.

    It is made by PyAV, not by what is tested.
    """
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as file:
        vp9 = path.suffix == ".webm"
        video = file.add_stream("libvpx-vp9" if vp9 else "libx264", rate=rate, options={"g": "10"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        if times:
            video.codec_context.time_base = Fraction(1, 1000)
        if turn:
            video.set_display_rotation(turn)
        tone = file.add_stream(sound, rate=48_000) if sound else None
        for number in range(frames):
            image = np.zeros((48, 64, 3), np.uint8)
            image[:24] = (250, 0, 0)
            image[:, 48:] = 4 * number % 256
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (times[number], Fraction(1, 1000)) if times else (number, 1 / Fraction(rate))
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if tone:
            wave = np.sin(np.arange(int(48_000 * frames / rate)) * 2 * np.pi * 440 / 48_000)
            samples = av.AudioFrame.from_ndarray((wave * 9000).astype(np.int16)[None], format="s16", layout="mono")
            samples.rate, samples.pts, samples.time_base = 48_000, 0, Fraction(1, 48_000)
            file.mux(tone.encode(samples))
            file.mux(tone.encode(None))
    return path


def bars(video) -> list[int]:
    """The number that each frame of a film carries."""
    return [round(float(frame[:, 54:60].mean()) / 4) for frame in video]


def copied(source: Video, path: Path) -> Path:
    with source, VideoWriter(path, source.width, source.height, source.rate, source) as writer:
        for frame in source:
            writer.write(frame)
    return path


def streams(path: Path) -> dict[str, tuple[str, float, float, int]]:
    """(codec, begins at, ends at, packets) of each kind of stream; in seconds, by its packets."""
    found = {}
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.pts is not None:
                begin = float(packet.pts * packet.time_base)
                span = begin, begin + float((packet.duration or 0) * packet.time_base)
                codec, first, last, count = found.get(packet.stream.type, ("", *span, 0))
                codec = packet.stream.codec_context.codec.canonical_name
                found[packet.stream.type] = codec, min(first, span[0]), max(last, span[1]), count + 1
    return found


@pytest.fixture(scope="module")
def talk(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("films") / "talk.mp4")


def test_a_video_says_what_it_is(talk):
    with Video(talk) as video:
        assert (video.width, video.height, video.rate, video.frames) == (64, 48, 25, 50)
        assert video.seconds == pytest.approx(2, abs=0.05) and video.has_audio
        frames = list(video)
    assert frames[0].shape == (48, 64, 3) and frames[0].dtype == np.uint8 and video.trouble is None
    assert np.abs(frames[0][10, 10].astype(int) - (250, 0, 0)).max() < 12
    assert bars(frames) == list(range(50))


@pytest.mark.parametrize("every", [1, 3])
def test_a_part_of_a_video_holds_the_frames_of_that_part(talk, every):
    with Video(talk, start=0.52, end=1.2, every=every) as video:
        assert bars(video) == list(range(13, 30, every))
        assert video.frames == len(range(13, 30, every)) and video.rate == Fraction(25, every)
        assert video.seconds == pytest.approx(0.68) and video.trouble is None


def test_start_does_not_decode_what_comes_before(tmp_path):
    long = film(tmp_path / "long.mp4", 60, sound=None)
    decoded = []
    video = Video(long, start=2.2)
    inner = video._decoded
    video._decoded = lambda *args: (decoded.append(frame) or frame for frame in inner(*args))
    assert bars(video)[0] == 55 and len(decoded) <= 15


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_rate_length_and_sound_are_kept(talk, tmp_path, suffix):
    made = copied(Video(talk), tmp_path / f"out.{suffix}")
    found, before = streams(made), streams(talk)
    assert found["video"][0] == ("vp9" if suffix == "webm" else "h264")
    assert found["audio"][0] == ("opus" if suffix == "webm" else "aac")
    late = 0.021 if suffix == "mkv" else 0  # nothing begins before 0 there, AAC's first packet included
    assert found["video"][1:3] == pytest.approx((late, 2 + late), abs=0.005) and found["video"][3] == 50
    assert found["audio"][1:3] == pytest.approx(np.add(before["audio"][1:3], late), abs=0.03)
    assert Video(made).rate == 25
    assert np.abs(np.subtract(bars(Video(made)), range(50))).max() <= 1
    assert os.listdir(tmp_path) == [made.name]


def test_sound_is_copied_as_it_is(talk, tmp_path):
    def sound(path):
        with av.open(str(path)) as file:
            return [bytes(packet) for packet in file.demux(audio=0) if packet.size]

    assert sound(copied(Video(talk), tmp_path / "out.mp4")) == sound(talk)


def test_every_other_frame_lasts_twice_as_long(talk, tmp_path):
    made = copied(Video(talk, every=2), tmp_path / "out.mp4")
    found = streams(made)
    assert found["video"][1:] == pytest.approx((0, 2, 25), abs=0.005) and Video(made).rate == Fraction(25, 2)
    assert found["audio"][2] == pytest.approx(2, abs=0.03)


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_a_part_has_its_own_sound(talk, tmp_path, suffix):
    found = streams(copied(Video(talk, start=0.52, end=1.2), tmp_path / f"out.{suffix}"))
    assert found["video"][1:3] == pytest.approx((0, 0.68), abs=0.005)
    assert found["audio"][1:3] == pytest.approx((0, 0.68), abs=0.03)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_irregular_times_are_kept(tmp_path, suffix):
    times = [0, 40, 80, 500, 510, 900, 1000, 1400]
    made = copied(Video(film(tmp_path / "in.mp4", 8, 8, None, times=times)), tmp_path / f"out.{suffix}")
    with av.open(str(made)) as file:
        assert [round(float(frame.time) * 1000) for frame in file.decode(video=0)] == times


@pytest.mark.parametrize(("turn", "red"), [(90, np.s_[:, :20]), (-90, np.s_[:, 28:]), (180, np.s_[28:, 20:])])
def test_a_turned_video_is_shown_upright_and_stays_so(tmp_path, turn, red):
    source = Video(film(tmp_path / "in.mp4", 5, turn=turn))
    shape = (48, 64) if turn == 180 else (64, 48)
    assert (source.height, source.width) == shape
    for video in (source, Video(copied(source, tmp_path / "out.mp4"))):
        frame = next(iter(video))
        assert frame.shape == (*shape, 3)
        assert np.median(frame[red][..., 0]) > 230 and np.median(frame[red][..., 1]) < 15


@pytest.mark.parametrize("suffix", ["mpg", "ts", "avi", "mkv"])
def test_old_containers_are_read_and_their_sound_kept(tmp_path, suffix):
    source = Video(film(tmp_path / f"in.{suffix}", sound="mp2" if suffix in ("mpg", "avi") else "aac"))
    made = copied(source, tmp_path / "out.mp4")
    found = streams(made)
    assert source.trouble is None and found["video"][3] == 50
    assert found["video"][2] - found["video"][1] == pytest.approx(2, abs=0.041)
    assert found["audio"][2] - found["audio"][1] == pytest.approx(2, abs=0.06)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_truncated_video_gives_what_is_there_and_says_where_it_stopped(tmp_path, suffix):
    path = film(tmp_path / f"in.{suffix}", 250, sound=None)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    source = Video(path)
    made = copied(source, tmp_path / "out.mp4")
    assert 50 < len(list(Video(made))) < 220
    assert "in." in source.trouble and "\n" not in source.trouble
    if suffix == "mp4":
        assert "of 10.00 s" in source.trouble


def test_a_damaged_video_goes_on_after_the_damage(tmp_path):
    path = film(tmp_path / "in.mkv", 100, sound=None)
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    data[at : at + 20] = bytes(20)
    path.write_bytes(data)
    source = Video(path)
    assert len(list(source)) > 90
    assert str(path) in source.trouble and "damaged" in source.trouble


def test_what_is_no_video_is_one_sentence(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video at all" * 100)
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        tone = file.add_stream("aac", rate=48_000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        samples.rate = 48_000
        file.mux(tone.encode(samples))
        file.mux(tone.encode(None))
    for name, why in [
        ("empty", "is empty"),
        ("text", "can't be read"),
        ("sound", "only audio"),
        ("no", "No such file"),
    ]:
        with pytest.raises(ValueError, match=rf"{name}\.mp4.*{why}"):
            Video(tmp_path / f"{name}.mp4")


@pytest.mark.parametrize("how", [{"start": 2.5}, {"start": 1, "end": 0.5}, {"every": 0}, {"start": -1}])
def test_an_impossible_part_is_one_sentence(talk, how):
    with pytest.raises(ValueError, match="=".join(map(str, list(how.items())[-1]))):
        Video(talk, **how)


def test_memory_does_not_grow_with_length(tmp_path):
    path = film(tmp_path / "in.mp4", 300, sound=None)
    peaks = []
    for end in (2, 12):
        tracemalloc.start()
        copied(Video(path, end=end), tmp_path / "out.mp4")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


def test_leaving_ends_an_iteration(talk):
    with Video(talk) as video:
        frames = iter(video)
        next(frames)
    assert list(frames) == [] and video.trouble is None


def test_a_background_video_goes_on_for_ever(talk):
    assert bars(islice(looped(talk), 120)) == [*range(50), *range(50), *range(20)]


@pytest.mark.parametrize(("suffix", "size"), [("mp4", (64, 48)), ("mkv", (64, 48)), ("webm", (63, 47))])
def test_odd_sizes_masks_and_transparency_can_be_written(tmp_path, suffix, size):
    grey, clear = np.full((47, 63), 255, np.uint8), np.zeros((47, 63, 4), np.uint8)
    for name, frame in (("mask", grey), ("clear", clear)):
        with VideoWriter(tmp_path / f"{name}.{suffix}", 63, 47, 10) as writer:
            for _ in range(3):
                writer.write(frame)
        video = Video(tmp_path / f"{name}.{suffix}")
        seen = list(video)
        assert (video.width, video.height, video.rate, len(seen)) == (*size, 10, 3)
        assert seen[0].min() > 250 or (name == "clear" and suffix == "webm")  # others show it on white


def test_webm_keeps_transparency(tmp_path):
    frame = np.zeros((48, 64, 4), np.uint8)
    frame[:, :32] = (200, 0, 0, 255)
    with VideoWriter(tmp_path / "a.webm", 64, 48, 10) as writer:
        writer.write(frame)
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(tmp_path / "a.webm")) as file:
        (seen,) = [seen for packet in file.demux(video=0) for seen in decoder.decode(packet)]
    alpha = seen.to_ndarray(format="rgba")[..., 3]
    assert alpha[:, :28].min() > 240 and alpha[:, 36:].max() < 15


def test_a_video_that_is_given_up_leaves_nothing(talk, tmp_path):
    with (
        pytest.raises(RuntimeError),
        Video(talk) as source,
        VideoWriter(tmp_path / "a.mp4", 64, 48, 25, source) as made,
    ):
        made.write(next(iter(source)))
        assert os.listdir(tmp_path) == ["a.mp4.part"]
        raise RuntimeError
    with pytest.raises(ValueError, match="not one frame"), VideoWriter(tmp_path / "a.mp4", 64, 48, 25):
        pass
    assert os.listdir(tmp_path) == []


def test_a_video_that_can_not_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for name, why in [("a.gif", r"ends in \.mp4"), ("file/a.mp4", "can't be written")]:
        with pytest.raises(ValueError, match=f"{name}.*{why}"):
            VideoWriter(tmp_path / name, 64, 48, 25)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (30, 240, 320, 3), dtype=np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        expected = pytest.raises(ValueError, match=r"a\.mp4 can't be written: File too large")
        with expected, VideoWriter(tmp_path / "a.mp4", 320, 240, 25) as writer:
            for frame in noise:
                writer.write(frame)
        with pytest.raises(ValueError, match=r"a\.png can't be written: File too large"):
            write_image(tmp_path / "a.png", noise[0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


def test_a_missing_package_names_what_to_install(talk, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ValueError, match=r"pip install -e .*\[video\]"):
        Video(talk)


@pytest.mark.skipif(not REAL.exists(), reason="needs the shared video")
def test_a_real_video_keeps_its_times_and_colours(tmp_path):
    source = Video(REAL, end=1)
    made = Video(copied(source, tmp_path / "out.mp4"))
    assert (made.width, made.height, made.rate, made.frames) == (640, 360, Fraction(30_000, 1001), 30)
    differences = [cv2.absdiff(one, other).mean() for one, other in zip(source, made, strict=True)]
    assert np.mean(differences) < 3
