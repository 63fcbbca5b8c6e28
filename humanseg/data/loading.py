"""Batches for training and evaluation: what happens to a sample is a pure function of (seed, pass, index)."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from humanseg.data.split import Split, split
from humanseg.data.transforms import MARGIN, letterbox, shrink
from humanseg.interrupts import leave_to_main

cv2.setNumThreads(0)  # the workers are the parallelism, and OpenCV's own threads hang in a forked worker


@dataclass
class Data:
    """The splits of a run and how their samples become batches."""

    splits: dict[str, Split]
    image_size: int
    pad_value: int
    mean: list[float]
    std: list[float]
    batch_size: int
    val_batch_size: int
    num_workers: int
    seed: int
    augment: Callable | None

    def batches_per_pass(self) -> int:
        """Training drops the incomplete batch.

        Raises:
            ValueError: there is no training data, or less than one batch of it.
        """
        samples = len(self.splits.get("train", ()))
        if not samples:
            raise ValueError("there is no training data: set data.root (data=folder) or data.pairs (data=pairs)")
        if samples < self.batch_size:
            raise ValueError(f"{samples} training samples don't fill one batch: data.batch_size={self.batch_size}")
        return samples // self.batch_size

    def train_batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Training batches number `start` to `stop` - 1 of the endless shuffled stream: uint8 NxHxWx3, uint8 NxHxW."""
        stream = BatchNumbers(len(self.splits["train"]), self.batch_size, self.seed, start, stop)
        return iter(self._loader(Samples(self.splits["train"], self, self.augment), batch_sampler=stream))

    def batch_names(self, number: int) -> list[str]:
        """The samples of training batch `number`."""
        train = self.splits["train"]
        stream = BatchNumbers(len(train), self.batch_size, self.seed, number, number + 1)
        return [train.name(index) for _, index in next(iter(stream))]

    def eval_batches(self, name: str) -> DataLoader:
        """All samples of a split in order, letterboxed: uint8 NxHxWx3, uint8 NxHxW."""
        return self._loader(Samples(self.splits[name], self, None), batch_size=self.val_batch_size)

    def photographs(self, name: str) -> DataLoader:
        """All samples of a split in order at their own sizes: lists of uint8 HxWx3 and uint8 HxW arrays."""
        return self._loader(self.splits[name], batch_size=8, collate_fn=list)

    def _loader(self, samples: Dataset, **batching) -> DataLoader:
        # A generator of its own: a DataLoader would otherwise draw from torch's and so disturb the run's random state.
        return DataLoader(
            samples,
            num_workers=self.num_workers,
            generator=torch.Generator(),
            worker_init_fn=leave_to_main,
            pin_memory=torch.cuda.is_available(),
            **batching,
        )


def prepare(
    sources: dict,
    *,
    image_size: int,
    batch_size: int,
    val_batch_size: int,
    num_workers: int,
    val_split: int | float | str,
    test_split: int | float,
    limit: int | float | None,
    pad_value: int,
    mean: list[float],
    std: list[float],
    seed: int,
    augment: Callable | None,
) -> Data:
    """Split `sources` and say how they become batches; the arguments are the keys of conf/data_base.yaml.

    Raises:
        ValueError: as `split` raises it.
    """
    splits = split(sources, val_split, test_split, limit, seed)
    return Data(splits, image_size, pad_value, mean, std, batch_size, val_batch_size, num_workers, seed, augment)


class Samples(Dataset):
    """The samples of a split as the network gets them; indexed by (pass, index), or by index without augmentation."""

    def __init__(self, part: Split, data: Data, augment: Callable | None):
        self.part, self.augment = part, augment
        self.image_size, self.pad_value, self.seed = data.image_size, data.pad_value, data.seed

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, key: tuple[int, int] | int) -> tuple[Tensor, Tensor]:
        number, index = key if isinstance(key, tuple) else (0, key)
        image, mask = self.part[index]
        if self.augment is not None:
            image, mask = shrink(image, mask, round(self.image_size * MARGIN))
            # albumentations ignores the seeds of torch, numpy and random; one stream serves all its transforms in turn.
            seed = [self.seed, number, self.part.indices[index]]
            self.augment.set_random_state(np.random.default_rng(seed), random.Random(str(seed)))
            augmented = self.augment(image=image, mask=mask)
            image, mask = augmented["image"], augmented["mask"]
        image, mask = letterbox(image, mask, self.image_size, self.pad_value)
        return torch.from_numpy(image), torch.from_numpy(mask)


class BatchNumbers:
    """Batches number `start` to `stop` - 1 of an endless stream that shuffles the samples anew in each pass.

    Yields lists of (pass, index). Each batch follows from its number and the seed alone, so training can begin anywhere.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, start: int, stop: int):
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.start, self.stop = start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_pass = self.samples // self.batch_size
        shuffled, order = None, None
        for number in range(self.start, self.stop):
            turn, place = divmod(number, per_pass)
            if turn != shuffled:
                shuffled, order = turn, np.random.default_rng([self.seed, turn]).permutation(self.samples)
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
            yield [(turn, index) for index in chosen.tolist()]
