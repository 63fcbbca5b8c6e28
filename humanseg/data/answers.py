"""What a teacher says of each photograph: asked once, and kept beside the prepared cache.

An answer is a plane, uint8 HxW, of the size of the prepared photograph: the probability of the person in 254ths. As in a
mask 255 says nothing, as in the padding. So it goes through all that a mask goes through.
"""

from collections.abc import Callable
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from humanseg.data.cache import Kept, Store, fill
from humanseg.data.prepared import Prepared, Shares, Shrunk
from humanseg.data.splits.parts import Split
from humanseg.data.transforms import IGNORE, resize_image

SURE = 254  # of an answer: the person for certain
VERSION = 1  # of how an answer is made; a new version starts a new cache


class Teacher(NamedTuple):
    """A network that is asked about photographs.

    Args:
        name: what the user calls it. mark: 16 hexadecimal digits that stand for its weights, and for how it is asked.
        size: the longer side of the photographs that it sees, pixels.
        ask: uint8 HxWx3 RGB -> the person's probability, float32 HxW; None where the network is gone.
    """

    name: str
    mark: str
    size: int
    ask: Callable[[np.ndarray], np.ndarray] | None


class Answers(Kept):
    """A teacher's answers to the photographs of a source.

    Indexing gives a read-only plane, without pixels where the photograph could not be read.
    """

    def __getitem__(self, index: int) -> np.ndarray:
        body, height, width = self.read(index)
        if height and not body.size:
            raise ValueError(
                f"an answer of the teacher in {self.path} is damaged: resume the run, and it is asked again"
            )
        return body.reshape(height, width)


class Taught:
    """Prepared samples of a source with a teacher's answers: photograph, mask and plane."""

    def __init__(self, prepared: Prepared | Shrunk, answers: Answers):
        self.prepared, self.answers = prepared, answers

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        image, mask = self.prepared[index]
        answer = self.answers[index]
        if answer.shape != mask.shape:  # the photograph can't be read, or could not be when the teacher was asked
            answer = np.full(mask.shape, IGNORE, np.uint8)
        return image, mask, answer

    def shares(self) -> Shares:
        """Of the masks."""
        return self.prepared.shares()


def taught(prepared: Split, answers: list[Answers]) -> Split:
    """Samples with the answers to those of each part."""
    parts = [replace(part, source=Taught(part.source, own)) for part, own in zip(prepared.parts, answers, strict=True)]
    return Split(parts)


def ask_all(
    teacher: Teacher,
    source: object,
    prepared: Prepared | Shrunk,
    wanted: np.ndarray,
    folder: Path,
    tolerant: bool = False,
) -> Answers:
    """Open the answers to a source's photographs. First the teacher is asked about those of the `wanted` that are missing.

    It is asked about one photograph at a time: with others beside it the last bits of its answer could be others.

    Args:
        prepared: the source's samples. wanted: indices. folder: of the cache. tolerant: as of `prepare_cache`.

    Raises:
        ValueError: answers are missing and the teacher is gone, or what `fill` raises.
    """
    store, seen = Store(folder / f"answers_{prepared.longest}px_v{VERSION}", 1), Shrunk(source, teacher.size)
    keys = _keys(source, prepared, wanted) ^ np.uint64(int(teacher.mark, 16))
    if teacher.ask is None and len(missing := store.missing(keys, wanted)):
        raise ValueError(
            f"distill={teacher.name}: no such checkpoint, and the cache lacks its answers to {len(missing)} photographs: "
            "put it back"
        )

    def answer(index: int) -> tuple[np.ndarray]:
        return (as_plane(resize_image(teacher.ask(seen[index][0]), *prepared[index][1].shape)),)

    fill(store, keys, wanted, answer, "answers of the teacher", tolerant)
    return Answers(keys, store)


def as_plane(probability: np.ndarray) -> np.ndarray:
    """float32 in [0, 1] -> uint8 in 254ths."""
    return np.rint(SURE * probability).astype(np.uint8)


def _keys(source: object, prepared: Prepared | Shrunk, wanted: np.ndarray) -> np.ndarray:
    """A key for each photograph: the source's own, else one of its pixels."""
    if hasattr(source, "keys"):
        return source.keys
    keys = np.ones(len(source), np.uint64)
    for index in wanted.tolist():
        keys[index] = int.from_bytes(blake2b(np.ascontiguousarray(prepared[index][0]), digest_size=8).digest()) or 1
    return keys
