"""A check of a million photographs, without a network: seconds and memory of each of its steps. Run by hand:

    python tests/bench/checking.py         # photographs of their own
    python tests/bench/checking.py 100     # films of so many frames that look alike: nearly each one is a finding

What is measured on photographs is made up, as if an earlier check had done it: that takes an hour or two, and no more memory.
"""

import re
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from million import SAMPLES, write_lists

from humanseg.check import copies, page, record, rules, sheets, table
from humanseg.check.facts import FACTS, possible
from humanseg.check.findings import in_order
from humanseg.check.scan import VERSION, scan
from humanseg.check.store import Store
from humanseg.data import files, pair_list

AT_ONCE = 20_000  # records that are written at once


def make_up(source: files.FilePairs, folder: Path, frames: int) -> None:
    """What an earlier check would have stored."""
    rng, store = np.random.default_rng(0), Store(folder / f"check_v{VERSION}", FACTS, possible)
    pictures = Path(source.names[0]).read_bytes(), Path(source.names[0]).read_bytes()
    for start in range(0, len(source), AT_ONCE):
        facts = np.zeros(len(source.keys[start : start + AT_ONCE]), FACTS)
        facts["key"], facts["content"] = source.keys[start : start + AT_ONCE], 1 + start + np.arange(len(facts))
        for name in ("hash", "mirrored"):
            facts[name] = np.repeat(rng.integers(1, 2**63, -(-len(facts) // frames), np.uint64), frames)[: len(facts)]
        facts["width"], facts["height"], facts["format"], facts["quality"], facts["people"] = 640, 480, 1, 90, 1
        for name in ("brightness", "contrast", "sharpness"):
            facts[name] = rng.uniform(60, 200, len(facts))
        for name in ("person", "largest", "smallest"):
            facts[name] = rng.uniform(0.1, 0.5, len(facts))
        for name in ("here", "best"):
            facts[name] = rng.normal(5, 0.5, len(facts))
        store.add(facts, [pictures] * len(facts))


def say(what: str, began: float) -> float:
    """Tell a step's seconds, and the most memory that the process had in it."""
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
    print(f"{what:10}{time.perf_counter() - began:8.1f} s   {int(peak) / 1024:6.0f} MB", flush=True)
    Path("/proc/self/clear_refs").write_text("5")  # the highest is counted anew
    return time.perf_counter()


def main(folder: Path, frames: int) -> None:
    at = say("imports", time.perf_counter())
    (file,) = write_lists(folder, 1).values()
    found = pair_list.read("data.pairs", str(file)).found
    source = files.FilePairs(found.images, found.masks, "nonzero")
    make_up(source, folder, frames)
    del found
    at = say("list", at)
    scanned = scan({"": [source]}, folder)
    scanned[0].split[:] = np.random.default_rng(0).choice(["train", "val"], SAMPLES, p=[0.9, 0.1])
    at = say("scan", at)
    findings = [*rules.findings(scanned[0], 320)]
    at = say("rules", at)
    findings = in_order([*findings, *copies.findings(scanned)])
    at = say("copies", at)
    told = record.of(scanned, findings, {"command": "", "image_size": 320, "checkpoint": None})
    record.write(folder, told)
    at = say("record", at)
    shown = sheets.sheets(scanned, {}, findings, 60)
    page.write(folder, told, shown, sheets.photos({}, shown))
    table.rows(told)
    say("page", at)
    print(f"{len(findings)} findings, {FACTS.itemsize} bytes a record")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else 1)
