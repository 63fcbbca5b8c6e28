"""Drawn people in files, for a benchmark without photographs. JPEG and PNG are decoded as real photographs are."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
from tqdm import tqdm

from humanseg.data.synthetic import Synthetic
from humanseg.processes.hardware import cores

HEIGHT, WIDTH = 800, 600  # of the photographs of EG1800


def draw(root: Path, count: int, seed: int) -> Path:
    """Write `count` photographs and their masks into root/images and root/masks; returns root."""
    source, left = Synthetic(count, HEIGHT, seed), (HEIGHT - WIDTH) // 2
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)

    def write(index: int) -> None:
        image, mask = (plane[:, left : left + WIDTH] for plane in source[index])
        name = source.names[index]
        cv2.imwrite(str(root / "images" / f"{name}.jpg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(root / "masks" / f"{name}.png"), mask * 255)

    with ThreadPoolExecutor(cores()) as pool:
        list(tqdm(pool.map(write, range(count)), "people", count, leave=False, disable=None))
    return root.resolve()
