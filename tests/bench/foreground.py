"""How far the colours along the edge are from the person's own, with `foreground=keep` and with `estimate`. By hand:

    python tests/bench/foreground.py SHARED/data [CKPT]

People of SHARED/data/cutouts stand on green, on white and on photographs of SHARED/data/scenes, 640x360. So the person's
colours and alpha are known. Errors are in levels of 255, over the pixels whose alpha is between 0.05 and 0.95: of the
colours, and of what is seen when the person is put on another colour. With CKPT the network finds the alpha. Of its edge,
the pixels count for the colours that show something of the person.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import cv2
import numpy as np

from humanseg.compositing import composite, foreground
from humanseg.predictor import Predictor

WIDTH, HEIGHT = 640, 360
ELSEWHERE = np.array((200, 120, 160))
PLAIN = {"green": (0, 177, 64), "white": (255, 255, 255)}


def composites(data: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """(background, photograph, the person's alpha, the person's colours)."""
    generator, scenes = np.random.default_rng(0), sorted((data / "scenes").glob("*.jpg"))
    for number, path in enumerate(sorted((data / "cutouts").glob("*.png"))):
        cut = cv2.cvtColor(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA)
        height, width = cut.shape[:2]
        left = int(generator.integers(0, WIDTH - width + 1))
        person = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        person[HEIGHT - height :, left : left + width] = cut
        share = person[..., 3].astype(np.float32) / 255
        scene = cv2.cvtColor(cv2.imread(str(scenes[number % len(scenes)])), cv2.COLOR_BGR2RGB)
        for name, behind in (PLAIN | {"scenes": composite.covering(scene, HEIGHT, WIDTH)}).items():
            mixed = share[..., None] * person[..., :3] + (1 - share[..., None]) * behind
            yield name, np.rint(mixed).astype(np.uint8), share, person[..., :3]


def estimated(image: np.ndarray, share: np.ndarray) -> np.ndarray:
    return foreground.estimated(image, share.__getitem__)(slice(0, len(image)))


def on(colours: np.ndarray, share: np.ndarray) -> np.ndarray:
    return share[..., None] * colours + (1 - share[..., None]) * ELSEWHERE


def main(data: str, ckpt: str | None = None) -> None:
    predictor = Predictor(ckpt, precision="fp32", backend="torch") if ckpt else None
    errors, seen, best = defaultdict(list), defaultdict(list), defaultdict(lambda: float("inf"))
    for number, (name, image, truth, colours) in enumerate(composites(Path(data))):
        shares = {"own alpha": truth} | ({"network's": composite.alpha(predictor(image))} if predictor else {})
        for whose, share in shares.items():
            edge = (share > 0.05) & (share < 0.95)
            for way in ("keep", "estimate"):
                found = estimated(image, share) if way == "estimate" else image
                wrong = np.abs(found.astype(float) - colours)
                errors[whose, name, way] += wrong[edge & (truth > 0.05)].mean(1).tolist()
                seen[whose, name, way] += np.abs(on(found, share) - on(colours, truth))[edge].mean(1).tolist()
        for _ in range(5 if number % 20 == 0 else 0):
            began = time.perf_counter()
            estimated(image, truth)
            best[number] = min(best[number], time.perf_counter() - began)
    for (whose, name, way), some in errors.items():
        kept = np.mean(errors[whose, name, "keep"])
        print(
            f"{whose:10} {name:7} {way:9} colours {np.mean(some):5.1f}, {np.mean(some) / kept:.2f} of keep's; "
            f"seen {np.mean(seen[whose, name, way]):5.1f}"
        )
    print(f"{1000 * np.mean([*best.values()]):.1f} ms for {WIDTH}x{HEIGHT}, {1000 * max(best.values()):.1f} at most")


if __name__ == "__main__":
    main(*sys.argv[1:])
