"""The samples of a split as the network gets them: composed, augmented, letterboxed."""

import math
import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from humanseg.data.answers import Taught
from humanseg.data.composing.composer import Composer
from humanseg.data.splits.parts import Split
from humanseg.data.transforms import letterbox, letterbox_mask
from humanseg.processes import torch_private


class Samples(Dataset):
    """The samples of a split as the network gets them; indexed by (pass, position, repeat), or by position alone.

    Args:
        prepared: the same samples as uint8 HxWx3, uint8 HxW at up to MARGIN times the image size; with a teacher's answers
            where there is one.
        augment: what is done to a sample that is indexed by its pass. composer: what is done before.
    """

    def __init__(
        self,
        split: Split,
        prepared: Split,
        image_size: int,
        pad_value: int,
        seed: int,
        augment: Callable | None,
        composer: Composer | None,
    ):
        self.split, self.prepared, self.augment, self.composer = split, prepared, augment, composer
        self.image_size, self.pad_value, self.seed = image_size, pad_value, seed
        self.taught = any(isinstance(part.source, Taught) for part in prepared.parts)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: tuple[int, int, int] | int) -> tuple[Tensor, Tensor]:
        """uint8 SxSx3 and uint8 SxS."""
        images, masks, *_ = self.__getitems__([key])
        return images[0], masks[0]

    def __getitems__(self, keys: list[tuple[int, int, int]] | list[int]) -> tuple[Tensor, ...]:
        """uint8 NxSxSx3 and uint8 NxSxS: a batch in one piece, in memory that a worker shares with the main process.

        Where there is a teacher its answers are behind them, uint8 NxSxS.
        """
        shape = (len(keys), self.image_size, self.image_size)
        batch = _empty(*shape, 3), _empty(*shape), *(_empty(*shape) for _ in range(self.taught))
        for key, *places in zip(keys, *(one.numpy() for one in batch), strict=True):
            for place, made in zip(places, self._sample(key), strict=True):
                place[:] = made
        return batch

    def _sample(self, key: tuple[int, int, int] | int) -> tuple[np.ndarray, ...]:
        number, position, repeat = key if isinstance(key, tuple) else (0, key, 0)
        image, mask, *answers = self.prepared[position]
        if self.augment is not None:
            # albumentations ignores the seeds of torch, numpy and random. Its transforms draw from one stream in turn.
            seed = [self.seed, number, *self.split.key(position), *([repeat] if repeat else [])]
            if self.composer:
                image, mask, *answers = self.composer.sample(image, mask, number, seed, *answers)
            self.augment.set_random_state(np.random.default_rng(seed), random.Random(str(seed)))
            augmented = self.augment(image=image, mask=mask, **({"masks": answers} if answers else {}))
            image, mask, answers = augmented["image"], augmented["mask"], augmented.get("masks", [])
            _refuse_other_than_pictures(image, mask)
        if mask.shape != (self.image_size, self.image_size):
            image, mask = letterbox(image, mask, self.image_size, self.pad_value)
            answers = [letterbox_mask(answer, self.image_size) for answer in answers]
        return image, mask, *answers


def _refuse_other_than_pictures(image: object, mask: object) -> None:
    """A recipe gives a photograph and its mask back, as it got them.

    Raises:
        ValueError: it gives something else.
    """
    for what, given, shape in (("image", image, "HxWx3"), ("mask", mask, "HxW")):
        kind, sides = getattr(given, "dtype", type(given).__name__), getattr(given, "shape", ())
        fits = isinstance(given, np.ndarray) and kind == np.uint8 and len(sides) == shape.count("x") + 1
        if not fits or (what == "image" and sides[2] != 3) or sides[:2] != image.shape[:2]:
            raise ValueError(
                f"augment leaves the {what} as {kind} {'x'.join(map(str, sides))}, where uint8 {shape} is wanted: leave out "
                "what belongs after it, as Normalize (data.mean and data.std do that) and ToTensorV2"
            )


def _empty(*shape: int) -> Tensor:
    """An empty uint8 tensor of this shape; in a worker it lies in memory that the main process shares."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    return torch_private.shared_bytes(math.prod(shape)).view(shape)
