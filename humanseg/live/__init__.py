"""A camera's newest frames, and a page of this machine's browser that shows what is made of them.

The OpenCV that albumentations brings is the headless one: it opens no window, so the browser is the window.
"""

from humanseg.live.camera import Camera
from humanseg.live.preview import Preview

__all__ = ["Camera", "Preview"]
