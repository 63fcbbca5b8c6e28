"""A million samples: seconds to start, bytes of the index, memory of a worker over epochs. Run by hand:

    python tests/bench/million.py      # one list
    python tests/bench/million.py 4    # a mix of four lists, with weights

A thousand photographs and a thousand masks, of 8 x 8 pixels, make lists of a million pairs in all. That all of them were
fine is noted down, as the first scan would do it after a quarter of an hour; the starts after it are what is measured.
"""

import multiprocessing
import re
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from humanseg import build
from humanseg.data import files, pair_list, photographs
from humanseg.data.cache import Table
from humanseg.data.loading import Data

SIDE, SAMPLES = 1000, 1_000_000


def write_lists(root: Path, count: int) -> dict[str, Path]:
    """The lists by their sources' names."""
    for part in ("images", "masks"):
        (root / part).mkdir()
        for number in range(SIDE):
            cv2.imwrite(str(root / part / f"{number:04d}.png"), np.zeros((8, 8), np.uint8))
    names = [f"{number:04d}.png" for number in range(SIDE)]
    lists = {f"list{number}": root / f"list{number}.txt" for number in range(count)}
    for number, file in enumerate(lists.values()):
        lines = (f"images/{image}, masks/{mask}\n" for image in names[number::count] for mask in names)
        file.write_text("".join(lines))
    return lists


def note_all(lists: dict[str, Path], cache_dir: Path) -> None:
    """The first scan's result."""
    begun = 0
    for file in lists.values():
        found = pair_list.read("data.pairs", str(file)).found
        source = files.FilePairs(found.images, found.masks, "nonzero")
        count = len(source)
        source.content[:] = begun + np.random.default_rng(0).permutation(count)  # photographs of their own
        table = Table(cache_dir / photographs.CHECKED_NAME, photographs.CHECKED)
        photographs.note(table, source, np.arange(count), np.zeros(count, bool))
        begun += count


def start(lists: dict[str, Path], cache_dir: Path) -> Data:
    """What a run does before its first batch; returns the data."""
    began = time.perf_counter()
    sources = {
        name: {"_target_": "humanseg.data.files.pairs", "pairs": str(file), "weight": 1 + number}
        for number, (name, file) in enumerate(lists.items())
    }
    common = {"image_size": 32, "batch_size": 1000, "num_workers": 1, "cache": True, "cache_dir": str(cache_dir)}
    alone = next(iter(sources.values()))
    several = {"_target_": "humanseg.data.mix.together", "sources": sources}
    config = common | {"val_split": 0.1} | (alone if len(sources) == 1 else several)
    data = build.data(config, None, 1, 0)
    marks = [part.fingerprint() for part in data.splits.values()]
    first = len(data.batch_names(0))
    print(
        f"start: {time.perf_counter() - began:.1f} s to the first batch of {first}, samples {marks}, "
        f"main process {private_mb():.0f} MB",
        flush=True,
    )
    return data


def private_mb(process: str = "self") -> float:
    """Memory that a process shares with no other."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"Private_\w+:\s+(\d+) kB", rollup)) / 1024


def index_mb(data: Data) -> float:
    """Names, keys, contents and which sample is where."""
    total = 8 * sum(len(split) for split in data.splits.values())
    for source in {id(part.source): part.source for part in data.splits["train"].parts}.values():
        names = [len(names.buffer) + names.ends.nbytes for names in (source.names, source.labels.names)]
        total += sum(names) + source.keys.nbytes + source.content.nbytes
    return total / 1e6


def watch(data) -> None:
    """Print a worker's own memory while it goes through the indices and names of all samples again and again."""
    for epoch in range(4):
        split, total = data.splits["train"], 0
        for position in np.random.default_rng(epoch).permutation(len(split)).tolist():
            total += len(split.name(position))
        print(f"worker after epoch {epoch + 1}: {private_mb():.0f} MB of its own", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, context = Path(folder), multiprocessing.get_context("fork")
        lists = write_lists(root, int(sys.argv[1]) if len(sys.argv) > 1 else 1)
        first = context.Process(target=note_all, args=(lists, root / "cache"))
        first.start()
        first.join()
        before = private_mb()
        data = start(lists, root / "cache")
        print(f"index: {index_mb(data):.0f} MB; grown by {private_mb() - before:.0f} MB", flush=True)
        worker = context.Process(target=watch, args=(data,))
        worker.start()
        worker.join()


if __name__ == "__main__":
    main()
