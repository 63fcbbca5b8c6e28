"""Steadier masks in video: where the picture stands still, the network's answer is averaged over time."""

import cv2
import numpy as np
import torch
from torch import Tensor

from humanseg.metrics import person_probability

STILL = 6.0  # grey levels that noise and compression change a standing picture by
BLUR = 5  # pixels over which a change of the picture is judged
HELD_FOR = 0.85  # of what was seen before, where nothing moves: a change shows in half a dozen frames


class Smoother:
    """Logits of one frame after the other; ``temporal=ema`` averages them where the picture stands still.

    Where it moves the network's answer stays as it is, so that an edge does not lag behind the person. It also measures
    flicker: the mean change of the mask from frame to frame where the picture stands still, before and after.
    """

    def __init__(self, temporal: str):
        self.smooths = temporal == "ema"
        self.grey = self.raw = self.held = None
        self.changes: list[tuple[float, float]] = []

    def __call__(self, square: Tensor, logits: Tensor) -> Tensor:
        """uint8 SxSx3 and its float32 CxSxS logits -> logits of the same shape."""
        logits, grey = (
            logits.cpu(),
            cv2.blur(cv2.cvtColor(square.numpy(), cv2.COLOR_RGB2GRAY).astype(np.float32), (BLUR,) * 2),
        )
        if self.grey is None:
            self.grey, self.raw, self.held = grey, logits, logits
            return logits
        moved = np.abs(grey - self.grey)
        stillness = torch.from_numpy(np.exp(-((moved / STILL) ** 2)))
        share = HELD_FOR * stillness if self.smooths else 0 * stillness
        held = share * self.held + (1 - share) * logits
        self._measure(moved < STILL / 2, logits, held)
        self.grey, self.raw, self.held = grey, logits, held
        return held

    def _measure(self, still: np.ndarray, raw: Tensor, held: Tensor) -> None:
        pairs = ((self.raw, raw), (self.held, held))
        masks = [[person_probability(one[None])[0].numpy() >= 0.5 for one in pair] for pair in pairs]
        self.changes.append(tuple(float(np.mean((before != after)[still])) for before, after in masks))

    def flicker(self) -> tuple[float, float]:
        """Before and after smoothing, in [0, 1]; NaN for less than two frames."""
        return tuple(np.mean(self.changes, axis=0)) if self.changes else (np.nan, np.nan)
