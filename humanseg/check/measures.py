"""What is measured on one photograph and its mask: how it looks, and where people are."""

import cv2
import numpy as np

from humanseg.data.transforms import IGNORE, PERSON, resize_image, resize_mask, shrunk_size

SPECK = 0.001  # share of the photograph: smaller parts of a mask are no people
COUNTED_AT = 256  # pixels: the longer side of masks whose parts are counted
CUT = 0.02  # share of a side that people cover where the frame cuts them
UNKNOWN = 128  # grey of what is ignored, in a mask's thumbnail
SIDES = ("top", "bottom", "left", "right")
# The luminance table of JPEG's standard, Annex K, whose multiples are the qualities of the reference encoder.
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)


def brightness(grey: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of uint8 HxW grey, 0 to 255."""
    mean, deviation = cv2.meanStdDev(grey)
    return float(mean[0, 0]), float(deviation[0, 0])


def sharpness(grey: np.ndarray) -> float:
    """The variance of the Laplacian of uint8 HxW grey (Pech-Pacheco et al. 2000): low where nothing is sharp."""
    return float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0] ** 2)


def jpeg_quality(tables: dict[int, list[int]]) -> int:
    """The quality, 1 to 100, that gives such quantisation tables in the reference encoder; 0 without tables."""
    if not tables:
        return 0
    scale = 100 * sum(tables[min(tables)]) / sum(LUMINANCE)
    return int(np.clip(round((200 - scale) / 2 if scale <= 100 else 5000 / scale), 1, 100))


def shares(mask: np.ndarray) -> tuple[float, float]:
    """What part of a mask, uint8 HxW of class ids, is person, and what part is ignored."""
    return np.count_nonzero(mask == PERSON) / mask.size, np.count_nonzero(mask == IGNORE) / mask.size


def people(mask: np.ndarray, whole: float) -> list[float]:
    """The sizes of the connected parts of the person, as shares of the photograph, the largest first; without specks.

    Args:
        whole: the person's share of it, as `shares` has it: no part is more than all have together.
    """
    small = resize_mask(mask, *shrunk_size(*mask.shape, COUNTED_AT))
    _, _, stats, _ = cv2.connectedComponentsWithStats((small == PERSON).view(np.uint8), connectivity=8)
    areas = np.sort(stats[1:, cv2.CC_STAT_AREA])[::-1]
    sizes = areas / max(areas.sum(), 1) * whole
    return sizes[sizes >= SPECK].tolist()


def cut_sides(mask: np.ndarray) -> int:
    """The sides of the frame that cut people, as bits in the order of SIDES."""
    person = mask == PERSON
    lines = person[0], person[-1], person[:, 0], person[:, -1]
    return sum(1 << bit for bit, line in enumerate(lines) if line.mean() > CUT)


def thumbnails(image: np.ndarray, mask: np.ndarray, longest: int) -> tuple[bytes, bytes]:
    """A JPEG of a photograph and a grey PNG of its mask, with 255 for people and 128 for what is ignored."""
    height, width = shrunk_size(*mask.shape, longest)
    small = cv2.cvtColor(resize_image(image, height, width), cv2.COLOR_RGB2BGR)
    photo = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return photo.tobytes(), mask_png(resize_mask(mask, height, width))


def mask_png(mask: np.ndarray) -> bytes:
    """uint8 HxW of class ids as a grey PNG with 255 for people and 128 for what is ignored."""
    shown = np.zeros(256, np.uint8)
    shown[PERSON], shown[IGNORE] = 255, UNKNOWN
    return cv2.imencode(".png", shown[mask])[1].tobytes()
