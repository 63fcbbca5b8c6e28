"""A million samples: seconds to start, bytes of the index, memory of a worker over epochs. Run by hand:

    python tests/bench/million.py

A thousand photographs and a thousand masks, of 8 x 8 pixels, make a list of a million pairs. That all of them were fine
is noted down, as the first scan would do it after a quarter of an hour; the starts after it are what is measured.
"""

import multiprocessing
import re
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from humanseg.data import files, pair_list, photographs
from humanseg.data.cache import Table
from humanseg.data.loading import Data, LoaderConfig
from humanseg.data.split import SplitConfig, split

SIDE, SAMPLES = 1000, 1_000_000


def write_list(root: Path) -> Path:
    for part in ("images", "masks"):
        (root / part).mkdir()
        for number in range(SIDE):
            cv2.imwrite(str(root / part / f"{number:04d}.png"), np.zeros((8, 8), np.uint8))
    names = [f"{number:04d}.png" for number in range(SIDE)]
    lines = (f"images/{image}, masks/{mask}\n" for image in names for mask in names)
    (root / "list.txt").write_text("".join(lines))
    return root / "list.txt"


def note_all(file: Path, cache_dir: Path) -> None:
    """The first scan's result."""
    found = pair_list.read("data.pairs", str(file)).found
    source = files.FilePairs(found.images, found.masks, "nonzero")
    source.content[:] = np.random.default_rng(0).permutation(len(source))  # a million photographs of their own
    every = np.arange(len(source))
    photographs.note(
        Table(cache_dir / photographs.CHECKED_NAME, photographs.CHECKED), source, every, np.zeros(len(source), bool)
    )


def start(file: Path, cache_dir: Path):
    """What a run does before its first batch; returns the data."""
    began = time.perf_counter()
    sources = files.pairs(str(file), cache_dir=str(cache_dir))
    config = LoaderConfig(image_size=32, batch_size=1000, num_workers=1)
    data = Data(split(sources, SplitConfig(val_split=0.1)), config)
    marks = [part.fingerprint() for part in data.splits.values()]
    print(
        f"start: {time.perf_counter() - began:.1f} s, samples {marks}, main process {private_mb():.0f} MB", flush=True
    )
    return data


def private_mb(process: str = "self") -> float:
    """Memory that a process shares with no other."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"Private_\w+:\s+(\d+) kB", rollup)) / 1024


def index_mb(data) -> float:
    """Names, keys, contents and which sample is where."""
    source = data.splits["train"].parts[0].source
    names = [len(names.buffer) + names.ends.nbytes for names in (source.names, source.labels.names)]
    numbers = source.keys.nbytes + source.content.nbytes
    return (sum(names) + numbers + sum(8 * len(part) for part in data.splits.values())) / 1e6


def watch(data) -> None:
    """Print a worker's own memory while it goes through the indices and names of all samples again and again."""
    for epoch in range(4):
        part, total = data.splits["train"], 0
        for index in np.random.default_rng(epoch).permutation(len(part)).tolist():
            total += len(part.name(index))
        print(f"worker after epoch {epoch + 1}: {private_mb():.0f} MB of its own", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, context = Path(folder), multiprocessing.get_context("fork")
        file = write_list(root)
        first = context.Process(target=note_all, args=(file, root / "cache"))
        first.start()
        first.join()
        before = private_mb()
        data = start(file, root / "cache")
        print(f"index: {index_mb(data):.0f} MB; grown by {private_mb() - before:.0f} MB", flush=True)
        worker = context.Process(target=watch, args=(data,))
        worker.start()
        worker.join()


if __name__ == "__main__":
    main()
