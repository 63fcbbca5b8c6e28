"""Frames of any video as RGB for a BT.709 screen. Numbers of matrices, transfers and primaries are those of ITU-T H.273."""

import numpy as np

UNTAGGED, BT709, BT601 = {2, 3}, 1, 6  # matrices
HDR = {16: "smpte2084", 18: "arib-std-b67"}  # transfers: PQ and HLG
WIDE = {9: "bt2020", 11: "smpte431", 12: "smpte432"}  # primaries: BT.2020, DCI-P3, Display P3
TO_BT709 = {
    **{"out_transfer": "bt709", "out_primaries": "bt709", "out_color_matrix": "bt709", "out_range": "full"},
    "flags": "bilinear",
}


class ToRGB:
    """Brings the frames of a video to RGB. It is made once for a video: it takes 4 ms to start, and 2 s for HDR.

    HDR is tone-mapped and wide primaries are brought to BT.709 by FFmpeg's ``scale``: diffuse white (203 nits in PQ, 75 % in
    HLG) is white, what is brighter clips. A frame without a matrix is read as players read it: BT.709 in HD, BT.601 below.
    """

    def __init__(self):
        from av.video.reformatter import VideoReformatter  # it is installed: it has opened the video

        self._convert = VideoReformatter()
        self._filters, self._made_for = None, None

    def __call__(self, frame, codec, width: int, height: int) -> np.ndarray:
        """A decoded frame -> uint8 height x width x 3, RGB.

        Args:
            codec: PyAV's codec context that has decoded it, and knows its transfer and primaries.

        Raises:
            av.FFmpegError: FFmpeg knows no way from these colours to BT.709.
        """
        transfer, primaries = HDR.get(codec.color_trc), WIDE.get(codec.color_primaries)
        matrix = None
        if transfer or primaries:
            others = "bt709" if codec.color_primaries == BT709 else "bt2020"  # HDR has BT.2020 unless it says so
            frame = self._to_bt709(frame, transfer or "bt709", primaries or others)
        elif frame.colorspace in UNTAGGED:
            matrix = BT709 if _is_hd(frame) else BT601
        return self._convert.reformat(frame, width, height, format="rgb24", src_colorspace=matrix).to_ndarray()

    def _to_bt709(self, frame, transfer: str, primaries: str):
        size, pixels = f"{frame.width}x{frame.height}", frame.format.name
        kind = size, pixels, frame.colorspace, frame.color_range, transfer, primaries
        if kind != self._made_for:
            named = {"in_transfer": transfer, "in_primaries": primaries}
            if frame.colorspace in UNTAGGED:
                named["in_color_matrix"] = "bt2020"
            source = {"video_size": size, "pix_fmt": pixels, "time_base": "1/1", "range": str(frame.color_range)}
            source |= {} if frame.colorspace in UNTAGGED else {"colorspace": str(frame.colorspace)}
            self._filters, self._made_for = _filters(source, TO_BT709 | named), kind
        self._filters.push(frame)
        return self._filters.pull()


def _filters(source: dict[str, str], scale: dict[str, str]):
    from av.filter import Graph

    graph = Graph()
    steps = ("buffer", source), ("scale", scale), ("format", {"pix_fmts": "rgb24"}), ("buffersink", {})
    graph.link_nodes(*(graph.add(name, **options) for name, options in steps)).configure()
    return graph


def _is_hd(frame) -> bool:
    """Whether players take a frame without a matrix for HD: mpv and VLC draw the line above PAL's 576 lines."""
    return frame.width >= 1280 or frame.height > 576
