"""Which samples train, validate and test. The same seed gives the same samples."""

import hashlib
from array import array
from dataclasses import dataclass

import numpy as np


@dataclass
class Split:
    """A source of samples and which of them belong to this split."""

    source: object  # len(), [i] -> (image, mask), names[i]
    indices: array  # 64-bit integers: a worker that reads a Python list copies it, as reference counts change

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.source[self.indices[index]]

    def name(self, index: int) -> str:
        """The sample's name for a reader: its file."""
        return self.source.names[self.indices[index]]

    def fingerprint(self) -> str:
        """A hash of the samples' file names and their order. It does not depend on the folder that they lie in."""
        everything = list(self.source.names) if len(self) else []
        names = [everything[index] for index in self.indices]
        files = "\n".join([name[name.rfind("/") + 1 :] for name in names])
        return hashlib.sha256(files.encode(errors="surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True)
class SplitConfig:
    """How samples are divided.

    Args:
        val_split: an int counts samples, a float in [0, 1) is a share, ``train`` validates on the training samples.
        test_split: an int or a float as above; held out first.
        limit: None, or a count or a share in (0, 1]: train on a subset. A larger subset contains the smaller ones.
    """

    val_split: int | float | str = 0
    test_split: int | float = 0
    limit: int | float | None = None


def split(sources: dict, config: SplitConfig, seed: int) -> dict[str, Split]:
    """Divide sources into ``train``, ``val`` and ``test``.

    Args:
        sources: ``train``, and ``val`` and ``test`` where they have data of their own. A value may be None.

    Raises:
        ValueError: a rule is not one of these, or no sample is left to train on.
    """
    whole = {
        name: Split(source, array("q", range(len(source)))) for name, source in sources.items() if source is not None
    }
    if "train" not in whole:
        return whole
    val_split, test_split, limit = config.val_split, config.test_split, config.limit
    source, count = sources["train"], len(sources["train"])
    order = np.random.default_rng([seed, 0x5917]).permutation(count)
    tested = 0 if "test" in whole else _count("data.test_split", test_split, count)
    validated = 0 if "val" in whole or val_split == "train" else _count("data.val_split", val_split, count)
    rest = order[tested + validated :]
    if not len(rest):
        raise ValueError(
            f"nothing is left to train on: {count} samples, of which data.test_split={test_split} takes {tested} "
            f"and data.val_split={val_split} takes {validated}"
        )
    kept = len(rest) if limit is None else min(max(_count("data.limit", limit, len(rest)), 1), len(rest))
    trained = rest[:kept]
    shares = {
        "train": trained,
        "val": trained if val_split == "train" else order[tested:][:validated],
        "test": order[:tested],
    }
    splits = {name: Split(source, array("q", share.tobytes())) for name, share in shares.items()}
    return splits | {name: own for name, own in whole.items() if name != "train"}


def _count(key: str, rule: int | float | str, total: int) -> int:
    if isinstance(rule, int) and not isinstance(rule, bool) and rule >= 0:
        return min(rule, total)
    if isinstance(rule, float) and (0 <= rule < 1 or (key == "data.limit" and rule == 1)):
        return round(rule * total)
    also = ", or `train`" if key == "data.val_split" else ""
    raise ValueError(f"{key}={rule}: give a count (100), or a share of the samples in [0, 1) (0.1){also}")
