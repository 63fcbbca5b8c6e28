"""People drawn procedurally, in the colours, textures and shading of their surroundings: only shape tells them apart.

Whatever is drawn is a list of parts (discs, fill). A part is the convex hull of its discs (x, y, radius), filled with a
colour or a texture.
"""

import cv2
import numpy as np

SKIN = np.array([(66, 42, 32), (124, 80, 56), (178, 122, 88), (214, 162, 126), (242, 206, 178)])
HAIR = np.array([(24, 20, 20), (52, 34, 26), (96, 62, 38), (146, 74, 40), (204, 168, 108), (170, 168, 166)])
SKY, GRASS = np.array([(92, 142, 204), (214, 224, 232)]), np.array([(58, 88, 40), (176, 166, 100)])
DYES = np.array([(120, 24, 30), (232, 150, 50), (60, 120, 50), (236, 234, 230), (50, 100, 200), (40, 30, 70)])
PALETTES = (SKIN, SKIN, SKIN, HAIR, HAIR, DYES, DYES, DYES, 255 - DYES, 255 - DYES)
WEAVES = ("plain", "plain", "plain", "stripes", "bars", "checks", "plaid", "ramp", "blotches", "grain")
CIRCLE = np.stack([np.cos(np.arange(20) * np.pi / 10), np.sin(np.arange(20) * np.pi / 10)], axis=1)
# Poses: angles of the bones from straight down, in radians. ARMS has upper and lower arm, positive outwards. STAND and
# STRIDE have left thigh and shin, then right thigh and shin.
ARMS = ((0.1, 0.0), (0.2, 0.1), (0.2, 0.0), (0.2, -0.3), (0.7, -0.7), (0.3, -2.0), (0.5, 2.5), (2.6, 3.0), (1.3, 2.9))
STAND = ((-0.06, -0.03, 0.06, 0.03), (-0.05, 0.0, 0.12, 0.1), (-0.28, -0.22, 0.28, 0.22), (-0.7, 0.2, 0.7, -0.2))
STRIDE = ((-0.25, -0.55, 0.45, 0.25), (-0.5, -1.3, 0.95, 0.0), (1.3, 0.05, 1.45, 0.2))  # walking, running, sitting


def slab(top, upper, bottom, lower, radius, x=0.0):
    """Four discs: two at height `top`, each `upper` away from x, and two at height `bottom`, each `lower` away."""
    return [(x + side * half, y, radius) for y, half in ((top, upper), (bottom, lower)) for side in (-1, 1)]


# Balls, boxes, poles, lamps, trees and shirts, with the middle at the origin. A part names the first or second fill.
THINGS = (
    [([(0, 0, 0.3)], 0)],
    [(slab(-0.35, 0.3, 0.35, 0.3, 0.03), 0)],
    [([(-0.1, -0.9, 0.05), (0.1, 0.9, 0.05)], 0)],
    [(slab(-0.4, 0, 0.5, 0, 0.02), 1), (slab(-0.5, 0.1, -0.2, 0.2, 0.01), 0), (slab(0.49, 0, 0.5, 0.1, 0.02), 1)],
    [([(0, 0, 0.06), (0, 0.5, 0.07)], 1), ([(-0.2, -0.2, 0.2), (0.1, -0.4, 0.2)], 0), ([(0.2, -0.1, 0.2)], 0)],
    [(slab(-0.3, 0.15, 0.0, 0.3, 0.06), 0), (slab(-0.3, 0.15, 0.3, 0.15, 0.05), 0)],
)


def pick(rng, options):
    """One of the options, each with the same probability (Generator.choice is ten times slower)."""
    return options[int(rng.random() * len(options))]


def colour(rng, tones=None):
    """A colour between two neighbours in `tones`, or in one of PALETTES where that is None; float 3, 0..255."""
    tones = pick(rng, PALETTES) if tones is None else tones
    low = int(rng.random() * (len(tones) - 1))
    return tones[low] + rng.random() * (tones[low + 1] - tones[low])


def texture(rng, side, tones=None):
    """Two colours in a weave, uint8 side x side x 3, or one colour, float 3. `tones` get an uneven weave."""
    weave, bands = pick(rng, WEAVES[-3:] if tones is not None else WEAVES), rng.uniform(10, 36)
    first, second = colour(rng, tones), colour(rng, tones)
    if weave == "plain":
        return first
    if cells := {"ramp": 2, "blotches": int(bands / 3), "grain": side // 3}.get(weave):
        threads = cv2.resize(rng.integers(0, 128, (cells, cells), np.uint8), (side, side))
    else:
        x, turn = np.linspace(0, bands, side, dtype=np.float32), pick(rng, (0, 1))
        x, y = (axis.astype(np.uint8) & 1 for axis in (x + turn * x[:, None], x[:, None] + bands - turn * x))
        threads = {"stripes": x * 255, "bars": y * 255, "checks": (x ^ y) * 255, "plaid": (x + y) * 127}[weave]
    return cv2.applyColorMap(threads, np.linspace(first, second, 256)[:, None].astype(np.uint8))


class Canvas:
    """Image, mask and shading of one picture, all side x side, painted from back to front."""

    def __init__(self, side, light):
        self.side, self.light = side, light
        self.image, self.mask, self.shade = (np.zeros((side, side, *deep), np.uint8) for deep in ((3,), (), ()))

    def paint(self, parts, scale, at, value=0):
        """Paint parts at the place `at`; `scale` (x, y) is in sides of the picture, `value` goes into the mask."""
        discs = np.array([disc for discs, _ in parts for disc in discs]) * (*scale, min(np.abs(scale))) + (*at, 0)
        lit = discs * (1, 1, 0.66) + discs[:, 2:] * (*self.light, 0)  # the bright side of a round body
        both = np.stack([discs, lit])[:, :, None] * (4 * self.side)  # OpenCV takes quarters of a pixel: shift=2
        points, end = (both[..., :2] + both[..., 2:] * CIRCLE).astype(np.int32), 0
        for discs, fill in parts:
            start, end = end, end + len(discs)
            rim, core = (cv2.convexHull(outline[start:end].reshape(-1, 2)) for outline in points)
            if fill.ndim == 3:
                cv2.copyTo(fill, cv2.fillConvexPoly(np.zeros_like(self.mask), rim, 255, shift=2), self.image)
            else:
                cv2.fillConvexPoly(self.image, rim, fill.tolist(), shift=2)
            for plane, outline, grey in ((self.mask, rim, value), (self.shade, rim, 150), (self.shade, core, 228)):
                cv2.fillConvexPoly(plane, outline, grey, shift=2)


def joints(start, angles, lengths):
    """The joints of a limb: where each bone begins, and where the last one ends; bones + 1 arrays of 2."""
    return np.cumsum([start, *(np.stack([np.sin(angles), np.cos(angles)]) * lengths).T], axis=0)


def tube(a, b, wide, narrow, reach=1.0):
    """Two discs: one at joint `a`, one at the share `reach` of the way to joint `b`."""
    return [(*a, wide), (*(a + reach * (b - a)), narrow)]


def legs(rng, skin, cloth, width):
    """Legs and shoes, with trousers, shorts or a skirt."""
    striding, shoe, worn = rng.random() < 0.4, colour(rng), rng.random()
    pose, parts, waist = pick(rng, STRIDE if striding else STAND), [], slab(-0.03, 0.07 * width, 0, 0.07 * width, 0.04)
    for sign, angles in ((-1, pose[:2]), (1, pose[2:])):
        hip, knee, ankle = joints((sign * 0.05 * width, 0), angles + rng.uniform(-0.1, 0.1, 2), (0.245, 0.235))
        thigh, shin = tube(hip, knee, 0.057, 0.04), tube(knee, ankle, 0.037, 0.024)
        parts.append((tube(ankle, ankle + (0.055 if striding else 0.02 * sign, 0.016), 0.023, 0.017), shoe))
        parts += [(shin, cloth if worn < 0.5 else skin), (thigh, cloth if worn < 0.8 else skin)]
        waist += tube(hip, knee, 0.06, 0.05, 0.85) if worn > 0.8 else []
    return [*parts, (waist, cloth)]


def arms(rng, skin, cloth, width):
    """Arms: bare, in short sleeves or in long ones."""
    worn, parts = rng.random(), []
    for sign in (-1, 1):
        angles = sign * (pick(rng, ARMS) + rng.uniform(-0.15, 0.15, 2))
        shoulder, elbow, wrist = joints((sign * 0.112 * width, -0.285), angles, (0.155, 0.14))
        parts.append((tube(wrist, wrist + 0.14 * (wrist - elbow), 0.015, 0.021), skin))
        upper, lower = tube(shoulder, elbow, 0.035, 0.028), tube(elbow, wrist, 0.025, 0.018)
        parts += [(upper, cloth if worn > 0.15 else skin), (lower, cloth if worn > 0.6 else skin)]
    return parts


def head(rng, skin, hair):
    """Head with hair of several cuts and a face that looks to one side or is turned away."""
    style, away, x = rng.random(), rng.random() < 0.12, rng.uniform(-0.012, 0.012)
    parts = [([(x, -0.425, 0.05), (1.3 * x, -0.392, 0.037)], hair if away else skin)]
    if style > 0.12:
        parts = [(slab(-0.432, 0, -0.41, 0, 0.058, -x), hair), *parts, (slab(-0.468, 0, -0.45, 0.035, 0.019, -x), hair)]
    if not away:
        parts.append((slab(-0.387, 0.011, -0.385, 0.007, 0.0035, 2 * x), skin * (0.75, 0.5, 0.5)))
        for eye in (2 * x - 0.02, 2 * x + 0.02):
            parts += [([(eye, -0.42, 0.0065)], HAIR[0]), (slab(-0.434, 0.008, -0.435, 0.006, 0.002, eye), HAIR[1])]
    return parts


def person(rng, side):
    """Parts of a figure of height 1, hips at the origin."""
    skin, hair, shirt, width = colour(rng, SKIN), colour(rng, HAIR), texture(rng, side), rng.uniform(0.75, 1.15)
    mane = [(slab(-0.42, 0.04, -0.31, 0.05, 0.02), hair)] if rng.random() < 0.3 else []
    trunk = [*slab(-0.28, 0.1 * width, -0.03, 0.065 * width, 0.038), (0, -0.31, 0.035)]
    neck, collar = slab(-0.37, 0, -0.31, 0, 0.03), slab(-0.325, 0.02, rng.uniform(-0.32, -0.27), 0, 0.012)
    body = [*legs(rng, skin, texture(rng, side), width), *mane, (trunk, shirt), (neck, skin), (collar, skin)]
    return [*body, *head(rng, skin, hair), *arms(rng, skin, shirt, width)]


def things(rng, canvas, count, size):
    """Paint things anywhere, in the colours and textures of people."""
    for _ in range(count):
        fills, height = (texture(rng, canvas.side), colour(rng)), rng.uniform(0.3, 1.0) * size
        parts = [(discs, fills[which]) for discs, which in pick(rng, THINGS)]
        canvas.paint(parts, (height * rng.uniform(0.6, 1.2), height), (rng.random(), rng.uniform(0.2, 0.9)))


def people(rng, canvas, count):
    """Paint people side by side, from full length to head and shoulders."""
    for place in rng.permutation(count):
        near, x = rng.random() - 0.25 * (count - 1), (place + 0.5) / count + rng.uniform(-0.15, 0.15)
        height = rng.uniform(*((2.0, 3.0) if near > 0.75 else (1.1, 1.9) if near > 0.4 else (0.8, 1.0)))
        y = rng.uniform(0.06, 0.25) + 0.49 * height if near > 0.4 else rng.uniform(0.86, 1.02) - 0.5 * height
        canvas.paint(person(rng, canvas.side), (height * pick(rng, (-1, 1)), height), (x, y), 255)


class Synthetic:
    """People drawn procedurally, the same for the same seed: uint8 HxWx3 RGB and uint8 HxW, 1 where a person is."""

    def __init__(self, samples: int, size: int, seed: int):
        self.size, self.seed = size, seed
        self.names = [f"synthetic_{index:06d}" for index in range(samples)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.seed, range(len(self))[index]])  # range raises IndexError
        canvas = Canvas(2 * self.size, rng.uniform(-0.25, 0.25, 2))
        above, below = (texture(rng, canvas.side, tones) for tones in pick(rng, 2 * [(None, None)] + [(SKY, GRASS)]))
        canvas.paint(
            [(slab(-2, 2, 0, 2, 0), above), (slab(0, 2, 2, 2, 0), below)], (1, 1), (0.5, rng.uniform(0.4, 1.1))
        )
        things(rng, canvas, pick(rng, (1, 2, 3)), 0.7)
        # The background is out of focus and hazy. The tests have only a minute of training, and with a sharp background
        # that ends at IoU 0.6.
        blur, haze = (1 + int(rng.uniform(0.03, 0.12) * canvas.side),) * 2, rng.uniform(0.5, 0.85)
        tint = 0.5 * haze * (colour(rng) + rng.uniform(110, 210))
        canvas.image = cv2.add(cv2.convertScaleAbs(cv2.blur(canvas.image, blur), alpha=1 - haze), (*tint, 0))
        canvas.shade = cv2.blur(canvas.shade, blur)
        people(rng, canvas, pick(rng, (0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3)))
        things(rng, canvas, rng.random() < 0.2, 0.4)
        size, planes = (self.size, self.size), (canvas.image, canvas.mask, canvas.shade)
        image, mask, shade = (cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes)
        light = cv2.resize(rng.uniform(0.8, 1.15) + rng.uniform(-0.15, 0.15, (3, 3)), size) / 228
        light = (light * cv2.blur(shade, (self.size // 48 | 1,) * 2)).astype(np.float32)
        image = cv2.blur(image * light[..., None], pick(rng, ((1, 1), (1, 1), (2, 2))))
        image += rng.standard_normal((*size, 1), np.float32) * np.float32(rng.uniform(1, 4))
        return np.clip(image, 0, 255).astype(np.uint8), (mask > 127).astype(np.uint8)


def synthetic(samples: int, size: int, seed: int) -> dict[str, Synthetic]:
    """The source of conf/data/synthetic.yaml; `data.val_split` and `data.test_split` divide it."""
    return {"train": Synthetic(samples, size, seed)}
