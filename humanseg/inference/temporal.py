"""Steadier masks in video: where the picture stands still, the network's logits are averaged over time."""

import cv2
import numpy as np
import torch
from torch import Tensor

from humanseg.metrics import person_probability

STILL = 6.0  # grey levels by which noise and compression change a picture that stands still
BLUR = 5  # pixels over which the picture is averaged before its change is judged
HELD_FOR = 0.85  # share of the earlier logits that is kept where nothing moves: a change shows in half a dozen frames


class Smoother:
    """Takes the logits of one frame after the other; ``temporal=ema`` averages them where the picture stands still.

    Where the picture moves, the logits stay as they are, so that an edge does not lag behind the person. The smoother
    also measures flicker, before and after: the mean change of the mask between frames where the picture stands still.
    """

    def __init__(self, temporal: str):
        self.smooths = temporal == "ema"
        self.grey = self.held = self.masks = None
        self.changes: list[tuple[float, float]] = []

    def __call__(self, square: Tensor, logits: Tensor) -> Tensor:
        """uint8 SxSx3 and its float32 CxSxS logits -> logits of the same shape."""
        logits = held = logits.cpu()
        grey = cv2.blur(cv2.cvtColor(square.numpy(), cv2.COLOR_RGB2GRAY).astype(np.float32), (BLUR,) * 2)
        moved = None if self.grey is None else np.abs(grey - self.grey)
        if moved is not None and self.smooths:
            share = HELD_FOR * torch.from_numpy(np.exp(-((moved / STILL) ** 2)))
            held = share * self.held + (1 - share) * logits
        raw = _mask(logits)
        masks = raw, _mask(held) if self.smooths else raw
        if moved is not None:
            still, pairs = moved < STILL / 2, zip(self.masks, masks, strict=True)
            self.changes.append(tuple(float(np.mean((before != now)[still])) for before, now in pairs))
        self.grey, self.held, self.masks = grey, held, masks
        return held

    def flicker(self) -> tuple[float, float]:
        """Flicker before and after smoothing, in [0, 1]; NaN for fewer than two frames."""
        return tuple(np.mean(self.changes, axis=0)) if self.changes else (np.nan, np.nan)


def _mask(logits: Tensor) -> np.ndarray:
    return person_probability(logits[None])[0].numpy() >= 0.5
