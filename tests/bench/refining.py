"""What mode=predict's `refine` does to the edges: IoU and boundary IoU at the photographs' own size. Run by hand:

    python tests/bench/refining.py CKPT

On the validation samples that the checkpoint's run held back, by the folder that they lie in.
"""

import os
import sys
import time
from collections import defaultdict
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import torch

from humanseg import build, checkpoint, metrics
from humanseg.metrics import Counts
from humanseg.predictor import Predictor
from humanseg.runs import find


def main(ckpt: str) -> None:
    config = checkpoint.load(find.checkpoint(ckpt, "outputs"))["config"]
    data = build.data(config["data"] | {"cache": False}, None, 1, config["seed"]).splits["val"]
    predictor = Predictor(ckpt, precision="fp32", backend="torch")
    counts, took = defaultdict(lambda: Counts.zeros(1)), 0.0
    for index in range(len(data)):
        image, mask = data[index]
        folder = Path(data.name(index)).parts[-3]
        logits = predictor.on_squares(predictor.squares([image]))[0]
        began = time.perf_counter()
        fine = torch.from_numpy(predictor.probability(logits, image))
        took += time.perf_counter() - began
        truth = torch.from_numpy(mask)[None]
        counts[folder, "plain"].add(predictor.logits([image])[0][None], truth, boundary=True)
        counts[folder, "refined"].add(fine.logit(1e-6)[None, None], truth, boundary=True)
    for (folder, way), one in sorted(counts.items()):
        print(
            f"{folder}, {way}: iou {metrics.iou(one):.4f}, boundary_iou {metrics.boundary_iou(one):.4f}, {int(one.images)} photographs"
        )
    print(f"{1000 * took / len(data):.1f} ms a photograph")


if __name__ == "__main__":
    main(*sys.argv[1:])
