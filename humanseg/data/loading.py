"""Batches for training and evaluation: what happens to a sample is a pure function of (seed, pass, index)."""

import logging
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from humanseg.data.cache import Prepared, Shrunk, prepare_cache
from humanseg.data.composing.composer import ComposeConfig, Composer
from humanseg.data.order import BatchNumbers
from humanseg.data.outlines import banded
from humanseg.data.splits.parts import Part, Split
from humanseg.data.transforms import MARGIN, letterbox
from humanseg.processes import torch_private
from humanseg.processes.distributed import Share
from humanseg.processes.hardware import cores, give_memory_back
from humanseg.processes.signals import leave_to_main

log = logging.getLogger(__name__)

cv2.setNumThreads(0)  # the workers already run in parallel, and OpenCV's own threads hang in a forked worker


@dataclass(frozen=True)
class LoaderConfig:
    """How samples become batches; the keys are those of conf/data_base.yaml, where each is explained."""

    image_size: int
    batch_size: int
    val_batch_size: int = 32
    num_workers: int | str = 0
    pad_value: int = 0
    cache: bool = False
    cache_dir: str | None = None


@dataclass
class Data:
    """The splits of a run and how their samples become batches. Of several processes each gets its share."""

    splits: dict[str, Split]
    config: LoaderConfig
    seed: int = 0
    augment: Callable | None = None
    share: Share = Share()
    compose: ComposeConfig | None = None
    _prepared: dict[int, Prepared] = field(default_factory=dict)  # source's id -> its samples, with the margin
    _composer: Composer | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        batch_size, world_size = self.config.batch_size, self.share.world_size
        if batch_size % world_size:
            raise ValueError(
                f"data.batch_size={batch_size} can't be shared by {world_size} processes: give a multiple of {world_size}"
            )

    @property
    def workers(self) -> int:
        """DataLoader workers of this process."""
        return auto_workers() if self.config.num_workers == "auto" else self.config.num_workers

    def batches_per_pass(self) -> int:
        """Training batches in a pass over the data; an incomplete last batch is dropped.

        Raises:
            ValueError: there is no training data, or less than one batch of it.
        """
        train, batch_size = self.splits.get("train"), self.config.batch_size
        if not train:
            raise ValueError(
                "there is no training data: set data.root (data=folder), data.pairs (data=pairs), or add a source that trains (data=mix)"
            )
        if train.per_pass < batch_size:
            raise ValueError(f"{train.per_pass} training samples don't fill one batch: data.batch_size={batch_size}")
        return train.per_pass // batch_size

    def train_batches(
        self, start: int, stop: int, factors: np.ndarray | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Training batches number `start` to `stop` - 1 of the endless shuffled stream: uint8 NxHxWx3, uint8 NxHxW.

        Of several processes each gets its part of every batch. `factors` are as of `Split.drawn`.
        """
        stream = self._numbers(start, stop, self.share, factors)
        return iter(self._loader(self.samples("train", self.augment), collate_fn=as_it_is, batch_sampler=stream))

    def train_positions(self, start: int, stop: int, factors: np.ndarray | None = None) -> np.ndarray:
        """The samples of these batches of all processes, by their positions in the split: int64 batches x batch_size."""
        batches = self._numbers(start, stop, Share(), factors)
        return np.array([[position for _, position, _ in batch] for batch in batches])

    def batch_names(self, number: int, factors: np.ndarray | None = None) -> list[str]:
        """The samples of training batch `number`, or of this process' part of it."""
        (batch,) = self._numbers(number, number + 1, self.share, factors)
        return [self.splits["train"].name(position) for _, position, _ in batch]

    def _numbers(self, start: int, stop: int, share: Share, factors: np.ndarray | None) -> BatchNumbers:
        return BatchNumbers(self.splits["train"], self.config.batch_size, self.seed, start, stop, share, factors)

    def eval_batches(
        self, name: str, after_each: Callable[[], None] | None = None, part: Part | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All samples of a split in order, or those of one part of it, letterboxed: uint8 NxHxWx3, uint8 NxHxW.

        Of several processes each gets every world_size-th batch. `after_each` is called after each batch, when the next
        one is asked for. All processes call it equally often, also one that gets a batch less.
        """
        samples, size = self.samples(name, part=part), self.config.val_batch_size
        batches = [range(start, min(start + size, len(samples))) for start in range(0, len(samples), size)]
        own = batches[self.share.rank :: self.share.world_size]
        loader = iter(self._loader(samples, collate_fn=as_it_is, batch_sampler=own))
        for turn in range(-(-len(batches) // self.share.world_size)):
            if turn < len(own):
                yield next(loader)
            if after_each:
                after_each()

    def read_otherwise(self) -> str:
        """A part of a sentence about photographs and masks that were read otherwise by version 1; empty without any."""
        parts = [part for name, split in self.splits.items() if name != "test" for part in split.parts]
        told = (part.source.read_otherwise(part.indices) for part in parts if hasattr(part.source, "read_otherwise"))
        return ", ".join(filter(None, told))

    def photographs(self, name: str, part: Part | None = None) -> DataLoader:
        """All samples of a split in order, or those of one part of it, at their own sizes: uint8 HxWx3, uint8 HxW arrays.

        Of several processes each gets every world_size-th sample.
        """
        split = Split([part]) if part else self.splits[name]
        own = range(self.share.rank, len(split), self.share.world_size)
        return self._loader(split, batch_size=None, sampler=own, collate_fn=as_it_is)

    def samples(self, name: str, augment: Callable | None = None, part: Part | None = None) -> "Samples":
        """A split, or one part of it, as the network gets it."""
        split = Split([part]) if part else self.splits[name]
        prepared = Split([replace(one, source=self._prepare(one.source, name)) for one in split.parts])
        shown = banded(prepared) if name == "train" else prepared
        if augment and self.compose and self.compose.p and not self._composer:
            self._composer = Composer.of_training(self.compose, shown, prepared)
        return Samples(split, shown, self.config, self.seed, augment, self._composer if augment else None)

    def _prepare(self, source: object, name: str) -> "Shrunk | Prepared":
        """A source's samples with the margin; the first call fills the cache with all that training will ask for."""
        config, longest = self.config, round(self.config.image_size * MARGIN)
        if config.cache and config.cache_dir and hasattr(source, "prepared") and id(source) not in self._prepared:
            splits = [split for key, split in self.splits.items() if key != "test" or key == name]
            indices = [part.indices for split in splits for part in split.parts if part.source is source]
            wanted = np.unique(np.concatenate(indices))
            self._prepared[id(source)] = prepare_cache(source, wanted, longest, Path(config.cache_dir))
            if len(self._prepared) == 1:  # all sources share the file
                log.info("cache      %s", self._prepared[id(source)].path)
        return self._prepared.get(id(source)) or Shrunk(source, longest)

    def _loader(self, samples: Dataset, **batching) -> "Loader":
        # The loader gets its own generator. Otherwise it would draw from torch's and so change the run's random state.
        return Loader(
            samples,
            num_workers=self.workers,
            generator=torch.Generator(),
            worker_init_fn=leave_to_main,
            pin_memory=torch.cuda.is_available(),
            **batching,
        )


def auto_workers() -> int:
    """With a GPU a worker for each core but the main process's, up to 16; else none on up to 4 cores and one on more.

    Without a GPU the network needs the cores. On 2 of them a worker costs the network as much time as it saves:
    training without workers is as fast, for drawn people too, and takes half the memory.
    """
    return min(max(cores() - 1, 1), 16) if torch.cuda.is_available() else int(cores() > 4)


class Loader(DataLoader):
    """A DataLoader that has the C library give back freed memory before the fork: each worker would get a copy."""

    def __iter__(self) -> Iterator:
        if self.num_workers:
            give_memory_back()
        return super().__iter__()


class Samples(Dataset):
    """The samples of a split as the network gets them; indexed by (pass, position, repeat), or by position alone.

    Args:
        prepared: the same samples as uint8 HxWx3, uint8 HxW at up to MARGIN times the image size.
        augment: what is done to a sample that is indexed by its pass. composer: what is done before.
    """

    def __init__(
        self,
        split: Split,
        prepared: Split,
        config: LoaderConfig,
        seed: int,
        augment: Callable | None,
        composer: Composer | None,
    ):
        self.split, self.prepared, self.augment, self.composer = split, prepared, augment, composer
        self.image_size, self.pad_value, self.seed = config.image_size, config.pad_value, seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: tuple[int, int, int] | int) -> tuple[Tensor, Tensor]:
        """uint8 SxSx3 and uint8 SxS."""
        images, masks = self.__getitems__([key])
        return images[0], masks[0]

    def __getitems__(self, keys: list[tuple[int, int, int]] | list[int]) -> tuple[Tensor, Tensor]:
        """uint8 NxSxSx3 and uint8 NxSxS: a batch in one piece, in memory that a worker shares with the main process."""
        shape = (len(keys), self.image_size, self.image_size)
        images, masks = _empty(*shape, 3), _empty(*shape)
        for key, image, mask in zip(keys, images.numpy(), masks.numpy(), strict=True):
            self._write(key, image, mask)
        return images, masks

    def _write(self, key: tuple[int, int, int] | int, square: np.ndarray, labels: np.ndarray) -> None:
        number, position, repeat = key if isinstance(key, tuple) else (0, key, 0)
        image, mask = self.prepared[position]
        if self.augment is not None:
            # albumentations ignores the seeds of torch, numpy and random. Its transforms draw from one stream in turn.
            seed = [self.seed, number, *self.split.key(position), *([repeat] if repeat else [])]
            if self.composer:
                image, mask = self.composer.sample(image, mask, number, seed)
            self.augment.set_random_state(np.random.default_rng(seed), random.Random(str(seed)))
            augmented = self.augment(image=image, mask=mask)
            image, mask = augmented["image"], augmented["mask"]
            _refuse_other_than_pictures(image, mask)
        if mask.shape != labels.shape:
            image, mask = letterbox(image, mask, self.image_size, self.pad_value)
        square[:], labels[:] = image, mask


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


def as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """`Samples` gives whole batches, so nothing is left to collate."""
    return batch
