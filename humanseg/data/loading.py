"""Batches for training and evaluation: what happens to a sample is a pure function of (seed, pass, index)."""

import logging
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from humanseg.data.answers import Answers, Teacher, ask_all, taught
from humanseg.data.composing.composer import ComposeConfig, Composer
from humanseg.data.order import BatchNumbers
from humanseg.data.outlines import banded
from humanseg.data.prepared import Prepared, Shrunk, prepare_cache
from humanseg.data.samples import Samples
from humanseg.data.splits.left_out import LeftOut
from humanseg.data.splits.parts import Part, Split
from humanseg.data.tolerant import Tolerance
from humanseg.data.transforms import MARGIN
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
    on_error: str = "raise"


@dataclass
class Data:
    """The splits of a run, what they leave out, and how samples become batches. Of several processes each gets its share."""

    splits: dict[str, Split]
    config: LoaderConfig
    seed: int = 0
    augment: Callable | None = None
    share: Share = Share()
    compose: ComposeConfig | None = None
    teacher: Teacher | None = None
    left_out: list[LeftOut] = field(default_factory=list)
    tolerance: Tolerance = field(init=False)
    _prepared: dict[int, Prepared] = field(default_factory=dict)  # source's id -> its samples, with the margin
    _answers: dict[int, Answers] = field(default_factory=dict)  # source's id -> its teacher's answers
    _composer: Composer | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.tolerance = Tolerance(self.config.on_error == "skip")
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

    def train_batches(self, start: int, stop: int, factors: np.ndarray | None = None) -> Iterator[tuple[Tensor, ...]]:
        """Training batches number `start` to `stop` - 1 of the endless shuffled stream: uint8 NxHxWx3, uint8 NxHxW.

        With a teacher its answers are behind them, uint8 NxHxW. Of several processes each gets its part of every batch.
        `factors` are as of `Split.drawn`.
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
    ) -> Iterator[tuple[Tensor, ...]]:
        """All samples of a split in order, or those of one part of it, letterboxed; else as for training.

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
        split = Split([replace(one, source=self.tolerance.of(one.source, one.source)) for one in split.parts])
        own = range(self.share.rank, len(split), self.share.world_size)
        return self._loader(split, batch_size=None, sampler=own, collate_fn=as_it_is)

    def samples(self, name: str, augment: Callable | None = None, part: Part | None = None) -> Samples:
        """A split, or one part of it, as the network gets it."""
        split = Split([part]) if part else self.splits[name]
        prepared = Split([replace(one, source=self._prepare(one.source, name)) for one in split.parts])
        shown = banded(prepared) if name == "train" else prepared
        if self.teacher and name != "test":
            parts = zip(split.parts, prepared.parts, strict=True)
            shown = taught(shown, [self._ask(part.source, made.source) for part, made in parts])
        if augment and self.compose and self.compose.p and not self._composer:
            self._composer = Composer.of_training(self.compose, shown, prepared)
        size, pad_value = self.config.image_size, self.config.pad_value
        return Samples(split, shown, size, pad_value, self.seed, augment, self._composer if augment else None)

    def _prepare(self, source: object, name: str) -> Shrunk | Prepared:
        """A source's samples with the margin; the first call fills the cache with all that training will ask for."""
        config, longest = self.config, round(self.config.image_size * MARGIN)
        if config.cache and config.cache_dir and hasattr(source, "prepared") and id(source) not in self._prepared:
            wanted, folder = self._wanted(source, ("train", "val", name)), Path(config.cache_dir)
            self._prepared[id(source)] = prepare_cache(source, wanted, longest, folder, self.tolerance.wanted)
            if len(self._prepared) == 1:  # all sources share the file
                log.info("cache      %s", self._prepared[id(source)].path)
        return self.tolerance.of(source, self._prepared.get(id(source)) or Shrunk(source, longest))

    def _ask(self, source: object, prepared: Shrunk | Prepared) -> Answers:
        """The teacher's answers to a source's samples; the first call asks for all that training will need."""
        if id(source) not in self._answers:
            wanted, folder = self._wanted(source, ("train", "val")), Path(self.config.cache_dir)
            tolerant = self.tolerance.wanted
            self._answers[id(source)] = ask_all(self.teacher, source, prepared, wanted, folder, tolerant)
        return self._answers[id(source)]

    def _wanted(self, source: object, names: Container[str]) -> np.ndarray:
        """The indices of a source's samples that these splits have."""
        splits = [split for key, split in self.splits.items() if key in names]
        indices = [part.indices for split in splits for part in split.parts if part.source is source]
        return np.unique(np.concatenate(indices))

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


def as_it_is(batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`Samples` gives whole batches, so nothing is left to collate."""
    return batch
