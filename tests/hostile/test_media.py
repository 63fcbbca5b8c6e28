"""Videos and lists that come from a stranger open nothing else, and are told in a sentence."""

import io
import os
import resource
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from humanseg.data.files import pairs
from humanseg.media.camera import Camera
from humanseg.media.images import find_photographs
from humanseg.media.video_reader import Video

av = pytest.importorskip("av")


@pytest.fixture
def film(tmp_path) -> Path:
    with av.open(str(tmp_path / "film.mp4"), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(5):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * level, np.uint8), "rgb24")
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    return tmp_path / "film.mp4"


LEADING = {
    "concat.mp4": "ffconcat version 1.0\nfile film.mp4\n",
    "hls.ts": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfilm.mp4\n#EXT-X-ENDLIST\n",
    "session.mov": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "titles.mkv": "1\n00:00:01,000 --> 00:00:02,000\nhello\n",
    "subtitles.avi": "[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,,,0,0,0,,x\n",
    "still_%d.mp4": "P6 1 1 255 abc",
    "half.mp4": None,
    "noise.webm": "\x1a\x45\xdf\xa3" * 99,
}


@pytest.mark.parametrize("name", LEADING)
def test_a_video_leads_nowhere(film, tmp_path, name):
    text = LEADING[name]
    (tmp_path / name).write_bytes(film.read_bytes()[:600] if text is None else text.encode("latin-1"))
    for reader in (Video, Camera):
        with pytest.raises(ValueError, match=name.replace("%", ".")) as error:
            reader(tmp_path / name)
        assert "\n" not in str(error.value)


def test_an_honest_video_with_a_strange_name_is_read(film, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:film.mp4", "12:30.mp4", "http:film.mp4", "image_%02d.mp4"):
        film.rename(name)
        assert len(list(Video(name))) == 5
        Path(name).rename(film)
    with Camera(str(film)) as camera:
        assert next(iter(camera)).shape == (48, 64, 3)


def of_jpegs(path: Path, *sizes: tuple[int, int]) -> Path:
    """A video of Motion JPEG whose frames have these sizes."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24"))
        for number, size in enumerate(sizes):
            picture = io.BytesIO()
            Image.new("L", (16, 16)).save(picture, "JPEG")
            data = bytearray(picture.getvalue())
            at = data.index(b"\xff\xc0") + 5  # height and width in the header
            data[at : at + 4] = size[1].to_bytes(2) + size[0].to_bytes(2)
            packet = av.Packet(bytes(data))
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            file.mux(packet)
    return path


def test_a_frame_of_absurd_size_takes_no_memory(tmp_path):
    with pytest.raises(ValueError, match="a.avi( has frames of 60000x60000 pixels|: no frame)"):
        Video(of_jpegs(tmp_path / "a.avi", (60000, 60000)))
    video = Video(of_jpegs(tmp_path / "b.avi", (64, 48), (30000, 30000), (64, 48)))
    assert {frame.shape for frame in video} == {(48, 64, 3)} and "b.avi is damaged" in video.trouble


def test_a_table_of_frames_that_are_not_there_takes_no_memory(film):
    """The table has one size for all frames and their number, so 12 bytes claim 10 GB."""
    data = bytearray(film.read_bytes())
    sizes, chunks = data.index(b"stsz"), data.index(b"stsc")
    data[sizes + 8 : sizes + 16] = struct.pack(">II", 1, 2**28)
    data[chunks + 16 : chunks + 20] = struct.pack(">I", 2**28)
    film.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="film.mp4"):
        Video(film)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1.5e6  # kB
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY


LISTS = {
    "binary": b"\x00\x01\x02\xff" * 500,
    "a NUL": b"a.png\x00, b.png\n",
    "a long line": b"x" * 10**6 + b", b.png\n",
    "long cells": b'"' + (b"x" * 10_000 + b"\n") * 30 + b'", b.png',
    "no UTF-8": b"\xff\xfe\xfa, b.png\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_other_things_than_names_is_one_sentence(tmp_path, kind):
    path = tmp_path / "list.txt"
    path.write_bytes(LISTS[kind])
    with pytest.raises(ValueError, match="list.txt") as error:
        pairs(str(path))
    assert len(str(error.value)) < 2000
    if kind not in ("no UTF-8", "long cells"):  # names may be any bytes
        with pytest.raises(ValueError, match="list.txt is no list of files"):
            find_photographs(str(path))


def test_a_list_is_a_file_of_a_bounded_size(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    (tmp_path / "proc.txt").symlink_to("/proc/self/environ")
    with (tmp_path / "large.txt").open("wb") as sparse:
        sparse.truncate(10 * 2**30)
    for name, sentence in (
        ("pipe.txt", "no regular file"),
        ("zero.txt", "no regular file"),
        ("large.txt", "has 10737 MB"),
        ("proc.txt", "names no photograph"),
    ):
        with pytest.raises(ValueError, match=sentence):
            find_photographs(str(tmp_path / name))
        with pytest.raises(ValueError, match=f"{name}( has 10737 MB| holds no line|: no such file)"):
            pairs(str(tmp_path / name))
