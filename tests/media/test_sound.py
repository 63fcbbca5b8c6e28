"""Sound that players of the format can't play is encoded anew; no track and no language is lost, time and place are."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from humanseg.media.frame_writers import frame_writer
from humanseg.media.video_reader import Video

av = pytest.importorskip("av")

MADE = {"creation_time": "2020-01-02T03:04:05.000000Z", "location": "+48.8577+002.2950/", "title": "Holiday"}


def film(path: Path, *tracks: tuple[str, str, int, str | None], made: dict[str, str] | None = None) -> Path:
    """Half a second of black with a tone in each track: (codec, layout, rate, language)."""
    with av.open(str(path), "w") as file:
        file.metadata.update(made or {})
        video = file.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        tones = [
            file.add_stream(codec, rate, layout=layout, options={"strict": "-2"}) for codec, layout, rate, _ in tracks
        ]
        for tone, (*_, language) in zip(tones, tracks, strict=True):
            tone.metadata.update({"language": language} if language else {})
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
            frame.pts, frame.time_base = number, Fraction(1, 10)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        for tone, (_, layout, rate, _) in zip(tones, tracks, strict=True):
            wave = (np.sin(np.arange(rate // 2) * 2 * np.pi * 440 / rate) * 9000).astype(np.int16)
            wave = np.tile(wave, (av.AudioLayout(layout).nb_channels, 1))
            samples = av.AudioFrame.from_ndarray(wave, "s16p", layout)
            samples.sample_rate, samples.pts, samples.time_base = rate, 0, Fraction(1, rate)
            file.mux(tone.encode(samples))
            file.mux(tone.encode(None))
    return path


def copied(source: Path, path: Path, keep_metadata: bool = False) -> Path:
    with Video(source) as video, frame_writer(path, 32, 32, video.rate, video, keep_metadata) as writer:
        for frame in video:
            writer.write(frame)
    return path


def tracks(path: Path) -> list[tuple[str, int, str | None]]:
    """(codec, channels, language) of each sound track; each can be decoded, and lasts as long as the film."""
    found = []
    for index in range(len(av.open(str(path)).streams.audio)):
        with av.open(str(path)) as file:
            track = file.streams.audio[index]
            seconds = sum(frame.samples for frame in file.decode(track)) / track.rate
            assert seconds == pytest.approx(0.5, abs=0.05)
            found.append((track.codec_context.codec.canonical_name, track.channels, track.metadata.get("language")))
    return found


@pytest.mark.parametrize(
    ("codec", "layout", "rate", "becomes"),
    [
        ("pcm_s16le", "stereo", 48_000, {"mp4": "aac", "m4v": "aac", "mov": "pcm_s16le", "webm": "opus"}),
        ("pcm_s24le", "mono", 192_000, {"mp4": "aac"}),  # more than AAC can have
        ("pcm_s16le", "4 channels", 48_000, {"mp4": "aac", "webm": "opus"}),  # whose places nobody names
        ("pcm_s16le", "5.1(side)", 48_000, {"mp4": "aac"}),
        ("flac", "stereo", 44_100, {"mp4": "aac", "mov": "aac", "mkv": "flac", "webm": "opus"}),
        ("vorbis", "stereo", 44_100, {"mp4": "aac", "webm": "vorbis"}),
        ("libopus", "stereo", 48_000, {"mp4": "aac", "mkv": "opus"}),
        ("alac", "stereo", 44_100, {"mp4": "alac", "webm": "opus"}),
    ],
)
def test_sound_is_what_players_of_the_format_play(tmp_path, codec, layout, rate, becomes):
    source = film(tmp_path / "in.mkv", (codec, layout, rate, None))
    channels = av.AudioLayout(layout).nb_channels
    for suffix, expected in becomes.items():
        assert [track[:2] for track in tracks(copied(source, tmp_path / f"out.{suffix}"))] == [(expected, channels)]


@pytest.mark.parametrize(("suffix", "german"), [("mp4", "deu"), ("mov", "ger"), ("mkv", "deu"), ("webm", "deu")])
def test_all_tracks_and_their_languages_are_kept(tmp_path, suffix, german):
    given = [("aac", "stereo", 48_000, "eng"), ("pcm_s16le", "mono", 48_000, "deu"), ("ac3", "stereo", 48_000, "fra")]
    found = tracks(copied(film(tmp_path / "in.mkv", *given), tmp_path / f"out.{suffix}"))
    assert [(channels, language) for _, channels, language in found] == [(2, "eng"), (1, german), (2, "fra")]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_time_and_place_are_dropped_unless_they_are_to_be_kept(tmp_path, suffix):
    source = film(tmp_path / f"in.{suffix}", ("aac", "mono", 48_000, None), made=MADE)
    for keep in (False, True):
        path = copied(source, tmp_path / f"out.{suffix}", keep)
        with av.open(str(path)) as file:
            told = {name.lower(): value for name, value in file.metadata.items()}
        assert {name: told[name] for name in MADE if name in told} == (MADE if keep else {})
        assert keep or b"48.8577" not in path.read_bytes()
