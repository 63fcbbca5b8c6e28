"""Small data and a way to call the suite as a user does."""

import os
import subprocess
import sys
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import cv2
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent

torch.set_num_threads(2)

# A run that takes seconds: a small network at 32 px on a handful of drawn people.
TINY = [
    "data.samples=24",
    "data.image_size=32",
    "data.batch_size=4",
    "data.val_split=6",
    "data.num_workers=0",
    "trainer.epochs=2",
    "trainer.steps_per_epoch=2",
    "trainer.precision=fp32",
    "callbacks=none",
]


@pytest.fixture
def cli(tmp_path):
    """Call ``python run.py``; outputs go to tmp_path/outputs."""

    def call(*arguments: str, code: int | None = 0, tiny: bool = True) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "run.py"), *(TINY if tiny else []), f"out={tmp_path}/outputs", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        if code is not None:
            assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return call


def newest(folder: Path, pattern: str = "*/*") -> Path:
    """The newest folder of a mode's date/time folders."""
    return max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)


def write_people(root: Path, count: int = 6, size: tuple[int, int] = (48, 40)) -> Path:
    """A data folder of `count` photographs: bright ellipses on noise, PNG."""
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    height, width = size
    for number in range(count):
        mask = np.zeros(size, np.uint8)
        centre = (
            int(generator.integers(width // 3, 2 * width // 3)),
            int(generator.integers(height // 3, 2 * height // 3)),
        )
        cv2.ellipse(mask, centre, (width // 5, height // 4), 0, 0, 360, 255, -1)
        image = generator.integers(0, 120, (*size, 3), dtype=np.uint8)
        image[mask > 0] += 100
        cv2.imwrite(str(root / "images" / f"{number:03d}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{number:03d}.png"), mask)
    return root
