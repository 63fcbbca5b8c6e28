"""Videos as frames, and frames as videos: time, size, orientation and sound are kept.

PyAV is imported when the first video is opened: whoever has photographs alone does without it.
"""

from humanseg.video.reading import Video, looped
from humanseg.video.writing import VideoWriter

__all__ = ["Video", "VideoWriter", "looped"]
