"""The samples that a run's pictures show: the same ones in each epoch's preview, and the best and the worst."""

import numpy as np
import torch

from humanseg.data.loading import Data
from humanseg.data.samples import Samples
from humanseg.loop import Record
from humanseg.metrics import predictions
from humanseg.pictures import contact_sheet, extremes, titled_row

PREVIEWED = 6  # validation samples in each epoch's preview
SHOWN, SIDE = 3, 160  # best and worst validation samples each in best_and_worst.png, and their side in pixels


def preview_samples(data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    """The first validation samples of each source, or training samples where there are none: uint8 NxHxWx3, uint8 NxHxW."""
    samples = data.samples("val" if data.splits["val"] else "train")
    rows = [samples[position] for position in samples.split.in_turn(PREVIEWED)]
    images, masks = zip(*rows, strict=True)
    return torch.stack(images), torch.stack(masks)


def best_and_worst(record: Record, samples: Samples) -> np.ndarray:
    """The validation samples with the highest IoU, left, and with the lowest, right, as uint8 HxWx3.

    Args:
        samples: in the order of `record.ious`.
    """
    ious = record.ious.tolist()
    chosen = extremes(ious, SHOWN)
    images, masks = (torch.stack(part) for part in zip(*(samples[index] for index in chosen), strict=True))
    record.model.eval()
    with torch.inference_mode():
        found = predictions(record.compute(record.model, images)).byte().cpu()
    rows = zip(images.numpy(), masks.numpy(), found.numpy(), strict=True)
    titles = [f"{samples.split.source_of(index)} iou {ious[index]:.3f}".lstrip() for index in chosen]
    return contact_sheet([titled_row(*row, SIDE, title) for row, title in zip(rows, titles, strict=True)], 2)
