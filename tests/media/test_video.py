"""Videos come in upright and whole as far as they can be read, and go out with their times, their sound and their size."""

import os
import resource
import tracemalloc
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from humanseg.media.images import write_image
from humanseg.media.video_reader import Video, looped
from humanseg.media.video_writer import VideoWriter

av = pytest.importorskip("av")
REAL = ROOT.parent / "shared" / "video" / "thoughtful.mp4"


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


@pytest.mark.parametrize("a, b, c, d", [(1, 0, 0, -1), (-1, 0, 0, 1), (0, 1, 1, 0), (0, -1, -1, 0), (0, 1, -1, 0)])
def test_a_display_matrix_that_mirrors_is_shown_as_players_do(tmp_path, a, b, c, d):
    plain = film(tmp_path / "plain.mp4", 21)
    data = bytearray(plain.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 2**14], ">i4").tobytes()  # 16.16; only signs are looked at
    (tmp_path / "turned.mp4").write_bytes(data)
    stored = list(Video(plain))[20]
    rows, columns = np.indices(stored.shape[:2])
    across, down = a * columns + c * rows, b * columns + d * rows
    expected = np.zeros((np.ptp(down) + 1, np.ptp(across) + 1, 3), np.uint8)
    expected[down - down.min(), across - across.min()] = stored
    assert (list(Video(tmp_path / "turned.mp4"))[20] == expected).all()


def test_side_data_that_pyav_has_no_name_for_hides_no_turn(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn clockwise; FFmpeg hands on the EXIF data itself, too
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jpg", exif=exif)
    with av.open(str(tmp_path / "a.avi"), "w") as file:
        stream = file.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        packet = av.Packet((tmp_path / "a.jpg").read_bytes())
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 25)
        file.mux(packet)
    with Video(tmp_path / "a.avi") as video:
        assert (video.width, video.height) == (48, 64)


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
    unknown = film(tmp_path / "unknown.mp4", 5, sound=None)
    unknown.write_bytes(unknown.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    for name, why in [
        ("unknown", "FFmpeg has no decoder for"),
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
        (unfinished,) = os.listdir(tmp_path)
        assert unfinished.endswith(".part")
        raise RuntimeError
    with pytest.raises(ValueError, match="not one frame"), VideoWriter(tmp_path / "a.mp4", 64, 48, 25):
        pass
    assert os.listdir(tmp_path) == []


def test_a_video_that_can_not_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for name, why in [("a.avi", r"ends in \.mp4"), ("file/a.mp4", "can't be written")]:
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


CASES = ROOT.parent / "shared" / "cases" / "video"


@pytest.mark.skipif(not CASES.exists(), reason=f"needs the files in {CASES}")
def test_files_that_went_wrong_have_the_values_that_players_show(tmp_path):
    mirrored = next(iter(Video(CASES / "hflip.mp4")))
    assert mirrored[5, -5, 0] > 200 and mirrored[5, 5].max() < 50
    white = next(iter(Video(CASES / "pq_white.mp4")))
    assert white.min() >= 245
    assert streams(copied(Video(CASES / "camera_pcm.mov"), tmp_path / "out.mp4"))["audio"][0] == "aac"


@pytest.mark.skipif(not REAL.exists(), reason=f"needs the video {REAL}")
def test_a_real_video_keeps_its_times_and_colours(tmp_path):
    source = Video(REAL, end=1)
    made = Video(copied(source, tmp_path / "out.mp4"))
    assert (made.width, made.height, made.rate, made.frames) == (640, 360, Fraction(30_000, 1001), 30)
    differences = [cv2.absdiff(one, other).mean() for one, other in zip(source, made, strict=True)]
    assert np.mean(differences) < 3
