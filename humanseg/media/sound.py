"""The sound of a video for another file: each track as it is where players take it there, else encoded anew."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

from humanseg.media.video_reader import Video, open_container, pyav

# What players of a format play: FFmpeg would put more into mp4 and mov. Other formats: all that they can hold.
MP4 = {"aac", "ac3", "alac", "eac3", "mp3"}
PCM = {f"pcm_{kind}" for kind in ("alaw", "mulaw", "s16be", "s16le", "s24be", "s24le", "s32be", "s32le", "u8")}
PLAYED = {"mp4": MP4, "mov": MP4 | PCM}
# The layouts in which players know AAC and Opus, by the number of channels. Any other number becomes stereo.
LAYOUTS = {
    "aac": {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"},
    "libopus": {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"},
}
# FFmpeg writes a language into mov under these names alone, and drops it under the ones that other formats have.
IN_MOV = {
    **{"bod": "tib", "cze": "ces", "deu": "ger", "ell": "gre", "fre": "fra", "hye": "arm", "isl": "ice", "kat": "geo"},
    **{"mkd": "mac", "msa": "may", "mya": "bur", "nld": "dut", "rum": "ron", "slo": "slk", "sqi": "alb", "swe": "sve"},
    "zho": "chi",
}


class Sound:
    """All sound tracks of a video, between its `start` and `end`, as packets for another file.

    A damaged piece is left out, and so is a track that FFmpeg has no decoder for.

    Args:
        output: a PyAV container; a stream for each track is added to it.
    """

    def __init__(self, source: Video, output):
        self._source, self._file = source, open_container(source.path)
        known = [track for track in self._file.streams.audio if track.codec_context]
        self._tracks = {track.index: _Track(track, source, output) for track in known}
        self._packets = self._in_order(known)
        self._next = next(self._packets, None)

    def until(self, time: float) -> Iterator:
        """The next packets, up to a time in seconds."""
        while self._next is not None and self._next.dts * self._next.time_base <= time:
            yield self._next
            self._next = next(self._packets, None)

    def close(self) -> None:
        self._file.close()

    def _in_order(self, tracks: list) -> Iterator:
        if not tracks:
            return
        if self._source.start:
            self._file.seek(self._source.ticks(Fraction(1, 1_000_000)))
        packets = self._file.demux(*tracks)
        while (packet := _undamaged(next, packets, None)) and not all(one.ended for one in self._tracks.values()):
            yield from self._tracks[packet.stream.index].take(packet)
        for track in self._tracks.values():
            yield from track.rest()


class _Track:
    """A track on its way from one file into another."""

    def __init__(self, track, source: Video, output):
        self.ended, self._last = False, -math.inf
        self._zero = source.ticks(track.time_base)
        self._end = math.inf
        if source.end is not None:
            self._end = round(Fraction(source.end - source.start) / track.time_base)
        self._from_start = bool(source.start)
        name, holds = track.codec_context.codec.canonical_name, output.supported_codecs
        self._copied = name in holds & PLAYED.get(output.format.name, holds)
        if self._copied:
            self._stream = output.add_stream_from_template(track)
        else:
            codec = pyav().Codec("libopus" if output.format.name == "webm" else "aac", "w")
            rate = min(codec.audio_rates, key=lambda rate: abs(rate - track.rate))
            self._stream = output.add_stream(codec.name, rate, layout=LAYOUTS[codec.name].get(track.channels, "stereo"))
        told = {key: track.metadata[key] for key in ("language", "title") if key in track.metadata}
        if output.format.name == "mov" and told.get("language") in IN_MOV:
            told["language"] = IN_MOV[told["language"]]
        self._stream.metadata.update(told)
        self._kind, self._resampler = None, None

    def take(self, packet) -> Iterator:
        """What a packet of the track becomes."""
        pieces = [packet] if self._copied else _undamaged(packet.decode) or []
        for piece in self._within(pieces):
            if self._copied:
                piece.stream, piece.dts = self._stream, piece.pts
                yield from self._rising([piece])
            else:
                yield from self._encoded(piece)

    def rest(self) -> Iterator:
        """What an encoder has held back."""
        if self._kind:
            yield from self._encoded(None)
            yield from self._rising(self._stream.encode(None))

    def _within(self, pieces: Iterable) -> Iterator:
        """Packets or frames with times from the source's `start` on."""
        for piece in pieces:
            if piece.pts is None:  # the empty packet that ends a stream
                continue
            piece.pts -= self._zero
            self.ended = self.ended or piece.pts >= self._end
            if not self.ended and (piece.pts >= 0 or not self._from_start):
                yield piece

    def _encoded(self, frame) -> Iterator:
        """The packets of a frame. A track may change its rate or its channels on the way: then resampling begins anew."""
        kind = frame and (frame.format.name, frame.layout.name, frame.sample_rate)
        resampled = []
        if self._resampler and kind != self._kind:
            resampled += self._resampler.resample(None)
        if frame and kind != self._kind:
            codec = self._stream.codec_context
            self._kind = kind
            self._resampler = pyav().AudioResampler(codec.format, codec.layout, codec.sample_rate)
        if frame:
            resampled += self._resampler.resample(frame)
        for one in resampled:
            yield from self._rising(self._stream.encode(one))

    def _rising(self, packets: Iterable) -> Iterator:
        """Packets whose times rise. Those of a damaged file may not, and no format takes them."""
        for packet in packets:
            if packet.dts is not None and packet.dts > self._last:
                self._last = packet.dts
                yield packet


def _undamaged(work, *arguments):
    """What a call gives, or None where FFmpeg finds damage."""
    try:
        return work(*arguments)
    except pyav().FFmpegError:
        return None
