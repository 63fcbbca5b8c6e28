"""Batches for training and evaluation: what happens to a sample is a pure function of (seed, pass, index)."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from humanseg.data.cache import Prepared, prepare_cache
from humanseg.data.split import Split, split
from humanseg.data.transforms import MARGIN, letterbox, shrink
from humanseg.device import cores, give_memory_back
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
    cache_dir: str | None = None
    rank: int = 0  # of `size` processes that share the batches
    size: int = 1
    _prepared: dict[int, object] = field(default_factory=dict)  # source's id -> its samples at the margin's size

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
        """Training batches number `start` to `stop` - 1 of the endless shuffled stream: uint8 NxHxWx3, uint8 NxHxW.

        Of several processes each gets its part of every batch.
        """
        stream = self._numbers(start, stop)
        return iter(self._loader(self._samples("train", self.augment), collate_fn=as_it_is, batch_sampler=stream))

    def batch_names(self, number: int) -> list[str]:
        """The samples of training batch `number`, or of this process' part of it."""
        return [self.splits["train"].name(index) for _, index in next(iter(self._numbers(number, number + 1)))]

    def _numbers(self, start: int, stop: int) -> "BatchNumbers":
        samples = len(self.splits["train"])
        return BatchNumbers(samples, self.batch_size, self.seed, start, stop, self.rank, self.size)

    def eval_batches(self, name: str) -> DataLoader:
        """All samples of a split in order, letterboxed: uint8 NxHxWx3, uint8 NxHxW; its share of the batches, by turns."""
        return self._loader(self._samples(name, None), collate_fn=as_it_is, batch_sampler=self._eval_numbers(name))

    def _eval_numbers(self, name: str) -> list[range]:
        samples, step = len(self.splits[name]), self.val_batch_size
        return [range(start, min(start + step, samples)) for start in range(0, samples, step)][self.rank :: self.size]

    def idle_rounds(self, name: str) -> int:
        """How many evaluation batches the first process has that this one has not: 0 or 1."""
        batches = -(-len(self.splits[name]) // self.val_batch_size)
        return -(-batches // self.size) - len(self._eval_numbers(name))

    def photographs(self, name: str) -> DataLoader:
        """All samples of a split in order at their own sizes: lists of uint8 HxWx3 and uint8 HxW arrays.

        Of several processes each gets its share of the samples, by turns.
        """
        share = range(self.rank, len(self.splits[name]), self.size)
        return self._loader(self.splits[name], batch_size=8, sampler=share, collate_fn=list)

    def _samples(self, name: str, augment: Callable | None) -> "Samples":
        """A split as the network gets it; the first call fills the cache with all that training will ask for."""
        source, longest = self.splits[name].source, round(self.image_size * MARGIN)
        if self.cache_dir and hasattr(source, "prepared") and id(source) not in self._prepared:
            parts = [
                part for key, part in self.splits.items() if part.source is source and (key != "test" or key == name)
            ]
            wanted = np.unique(np.concatenate([part.indices for part in parts]))
            self._prepared[id(source)] = prepare_cache(source, wanted, longest, Path(self.cache_dir))
        prepared = self._prepared.get(id(source)) or Shrunk(source, longest)
        return Samples(prepared, self.splits[name].indices, self.image_size, self.pad_value, self.seed, augment)

    def _loader(self, samples: Dataset, **batching) -> "Loader":
        # A generator of its own: a DataLoader would otherwise draw from torch's and so disturb the run's random state.
        return Loader(
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
    num_workers: int | str,
    val_split: int | float | str,
    test_split: int | float,
    limit: int | float | None,
    pad_value: int,
    mean: list[float],
    std: list[float],
    seed: int,
    augment: Callable | None,
    cache: bool = False,
    cache_dir: str | None = None,
    rank: int = 0,
    size: int = 1,
) -> Data:
    """Split `sources` and say how they become batches; the arguments are the keys of conf/data_base.yaml.

    Raises:
        ValueError: as `split` raises it; batches that `size` processes can't share.
    """
    if batch_size % size:
        raise ValueError(f"data.batch_size={batch_size} can't be shared by {size} processes: give a multiple of {size}")
    splits = split(sources, val_split, test_split, limit, seed)
    return Data(
        splits,
        image_size,
        pad_value,
        mean,
        std,
        batch_size,
        val_batch_size,
        auto_workers() if num_workers == "auto" else num_workers,
        seed,
        augment,
        cache_dir if cache else None,
        rank,
        size,
    )


def auto_workers() -> int:
    """With a GPU all cores but the main process's, up to 16; where the network has the CPU, one at most.

    On 2 cores a worker takes from the network what it gives: none is as fast, for drawn people too, in half the memory.
    """
    return min(max(cores() - 1, 1), 16) if torch.cuda.is_available() else int(cores() > 4)


class Loader(DataLoader):
    """Forks its workers from a process that has let go of what its steps don't need."""

    def __iter__(self) -> Iterator:
        if self.num_workers:
            give_memory_back()
        return super().__iter__()


class Shrunk:
    """The samples of a source with their longer side at most `longest` pixels, made when asked for."""

    def __init__(self, source: object, longest: int):
        self.source, self.longest = source, longest

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if hasattr(self.source, "prepared"):
            return self.source.prepared(index, self.longest)
        return shrink(*self.source[index], self.longest)


class Samples(Dataset):
    """The samples of a split as the network gets them; indexed by (pass, index), or by index without augmentation.

    Args:
        prepared: [i] -> uint8 HxWx3, uint8 HxW at the size with the margin.
        indices: which of them belong to the split.
    """

    def __init__(
        self,
        prepared: Shrunk | Prepared,
        indices: Sequence[int],
        image_size: int,
        pad_value: int,
        seed: int,
        augment: Callable | None,
    ):
        self.prepared, self.indices, self.augment = prepared, indices, augment
        self.image_size, self.pad_value, self.seed = image_size, pad_value, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: tuple[int, int] | int) -> tuple[Tensor, Tensor]:
        """uint8 SxSx3 and uint8 SxS."""
        images, masks = self.__getitems__([key])
        return images[0], masks[0]

    def __getitems__(self, keys: list[tuple[int, int]] | list[int]) -> tuple[Tensor, Tensor]:
        """uint8 NxSxSx3 and uint8 NxSxS: a batch in one piece, in memory that a worker shares with the main process."""
        shape = (len(keys), self.image_size, self.image_size)
        images, masks = _empty(*shape, 3), _empty(*shape)
        for key, image, mask in zip(keys, images.numpy(), masks.numpy(), strict=True):
            self._write(key, image, mask)
        return images, masks

    def _write(self, key: tuple[int, int] | int, square: np.ndarray, labels: np.ndarray) -> None:
        number, index = key if isinstance(key, tuple) else (0, key)
        image, mask = self.prepared[self.indices[index]]
        if self.augment is not None:
            # albumentations ignores the seeds of torch, numpy and random; one stream serves all its transforms in turn.
            seed = [self.seed, number, self.indices[index]]
            self.augment.set_random_state(np.random.default_rng(seed), random.Random(str(seed)))
            augmented = self.augment(image=image, mask=mask)
            image, mask = augmented["image"], augmented["mask"]
        if mask.shape != labels.shape:
            image, mask = letterbox(image, mask, self.image_size, self.pad_value)
        square[:], labels[:] = image, mask


def _empty(*shape: int) -> Tensor:
    """uint8 of this shape; a worker's, where the main process sees it too, as torch's own collating has it."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    storage = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Samples make whole batches: nothing is left to collate."""
    return batch


class BatchNumbers:
    """Batches number `start` to `stop` - 1 of an endless stream that shuffles the samples anew in each pass.

    Yields lists of (pass, index). Each batch follows from its number and the seed alone, so training can begin anywhere.
    Of `size` processes, number `rank` gets its part of each.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, start: int, stop: int, rank: int = 0, size: int = 1):
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.start, self.stop = start, stop
        part = batch_size // size
        self.first, self.last = rank * part, (rank + 1) * part

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_pass = self.samples // self.batch_size
        shuffled, order = None, None
        for number in range(self.start, self.stop):
            turn, place = divmod(number, per_pass)
            if turn != shuffled:
                shuffled, order = turn, np.random.default_rng([self.seed, turn]).permutation(self.samples)
            begin = place * self.batch_size
            yield [(turn, index) for index in order[begin + self.first : begin + self.last].tolist()]
