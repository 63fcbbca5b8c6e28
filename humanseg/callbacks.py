"""What reacts to an epoch. A callback is ``f(record, writer, step, **arguments)``, named in a YAML of conf/callbacks.

It may look at the record, draw with TensorBoard's SummaryWriter and add values: ``record.log["my/value"] = 0.5`` lands in
metrics.csv, TensorBoard and summary.json, and can be monitored.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from humanseg.data.transforms import IGNORE
from humanseg.device import Compute
from humanseg.metrics import Counts, predictions

BINS = 64  # of a histogram; TensorBoard draws 30
RED, BLUE = (230, 60, 60), (60, 110, 230)


@dataclass
class Record:
    """An epoch, as callbacks see it."""

    epoch: int  # from 1
    step: int  # optimizer steps so far
    log: dict[str, float]  # the epoch's values by their TensorBoard names
    model: nn.Module  # the weights that validation used
    compute: Compute  # logits = compute(model, images)
    trained: nn.Module  # the weights that training steps, with the last step's gradients
    counts: Counts | None = None  # validation's, where there was one
    ious: Tensor | None = None  # of the person, for each validation sample in their order
    samples: tuple[Tensor, Tensor] | None = None  # the same in each epoch: uint8 NxHxWx3, uint8 NxHxW


def previews(record: Record, writer: SummaryWriter, step: int, every: int = 1) -> None:
    """Photograph, truth, prediction and errors of a fixed set of samples, one row each."""
    if not due(record, every):
        return
    images, masks = record.samples
    record.model.eval()
    with torch.inference_mode():
        found = predictions(record.compute(record.model, images)).cpu()
    rows = [
        preview_row(image, mask, seen)
        for image, mask, seen in zip(images.numpy(), masks.numpy(), found.numpy(), strict=True)
    ]
    add_picture(writer, "previews", np.concatenate(rows), step)


def histograms(record: Record, writer: SummaryWriter, step: int, every: int = 5) -> None:
    """Parameters and the last step's gradients, one histogram a stage of the network."""
    if not due(record, every):
        return
    for name, stage in stages(record.trained):
        parameters = list(stage.parameters())
        gradients = [parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]
        _add_histogram(writer, f"parameters/{name}", [parameter.detach().flatten() for parameter in parameters], step)
        _add_histogram(writer, f"gradients/{name}", gradients, step)


def _add_histogram(writer: SummaryWriter, tag: str, parts: list[Tensor], step: int) -> None:
    """The finite values; counted where they are: SummaryWriter.add_histogram sorts millions of them on the CPU."""
    values = torch.cat(parts).float() if parts else torch.zeros(0)
    if len(values) and not torch.stack(values.aminmax()).isfinite().all():
        values = values[torch.isfinite(values)]
    if not len(values):
        return
    low, high = (end.item() for end in values.aminmax())
    left, right = (low, high) if low < high else (low - 0.5, low + 0.5)
    edges = torch.linspace(left, right, BINS + 1)[1:].tolist()
    counts = torch.histc(values, BINS, left, right).tolist()
    sums = values.sum().item(), torch.dot(values, values).item()
    writer.add_histogram_raw(tag, low, high, len(values), *sums, edges, counts, step)


def pr_curve(record: Record, writer: SummaryWriter, step: int, every: int = 1) -> None:
    """Precision and recall of the person over the threshold, for every validation pixel."""
    if record.counts is None or not due(record, every):
        return
    negative, positive = record.counts.scores.cpu().flip(1).cumsum(1).flip(1).double()  # at or above each level
    truly, predicted = positive[0], positive + negative
    thresholds = torch.arange(0, 256, 2)
    hits, false_alarms = positive[thresholds], negative[thresholds]
    writer.add_pr_curve_raw(
        "person",
        hits,
        false_alarms,
        negative[0] - false_alarms,
        truly - hits,
        hits / predicted[thresholds].clamp(min=1),
        hits / truly.clamp(min=1),
        step,
        num_thresholds=len(thresholds),
    )


def graph(record: Record, writer: SummaryWriter, step: int) -> None:
    """The network as TensorBoard's graph, once."""
    if record.epoch > 1:
        return
    images = record.samples[0][:1].to(record.compute.device)
    inputs = images.permute(0, 3, 1, 2).float()
    writer.add_graph(record.model.eval(), inputs, use_strict_trace=False)


def due(record: Record, every: int) -> bool:
    """Whether this is the first epoch or one of each `every` after it; 0 is never."""
    return every > 0 and (record.epoch - 1) % every == 0


def stages(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The network's parts at the level that people speak of: the encoder's and decoder's children with parameters."""
    found = []
    for name, part in model.named_children():
        children = _unwrapped(part)
        found += [(f"{name}.{child}", module) for child, module in children] or [(name, part)]
    return [(name, module) for name, module in found if any(True for _ in module.parameters())]


def _unwrapped(part: nn.Module) -> list[tuple[str, nn.Module]]:
    """Children, seen through a lone container as MobileNetV2's `features`."""
    children = [(name, child) for name, child in part.named_children() if any(True for _ in child.parameters())]
    if len(children) == 1 and isinstance(children[0][1], nn.Sequential | nn.ModuleList):
        return [(f"{children[0][0]}.{name}", child) for name, child in _unwrapped(children[0][1])]
    return children


def add_picture(writer: SummaryWriter, tag: str, picture: np.ndarray, step: int | None = None) -> None:
    """uint8 HxWx3 RGB to TensorBoard; SummaryWriter.add_image takes six times as long to compress it."""
    image = Summary.Image(height=len(picture), width=picture.shape[1], colorspace=3, encoded_image_string=png(picture))
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def png(picture: np.ndarray) -> bytes:
    """uint8 HxWx3 RGB as a PNG file."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    return encoded.tobytes()


def preview_row(image: np.ndarray, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Photograph, truth, prediction and error map side by side: uint8 HxWx3 and two HxW -> uint8 Hx4Wx3.

    In the error map red was called person and is none; blue is a person who was missed.
    """
    valid = truth != IGNORE
    errors = (image * 0.4).astype(np.uint8)
    errors[valid & (found > 0) & (truth == 0)] = RED
    errors[valid & (found == 0) & (truth > 0)] = BLUE
    return np.concatenate([image, paint(image, truth, valid), paint(image, found, valid), errors], axis=1)


def paint(image: np.ndarray, classes: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Each class in its colour over the darkened photograph; class 1, the person, stays as it is."""
    colours = np.array([(0, 90, 60), (255, 255, 255), (220, 160, 40), (120, 80, 200), (40, 170, 200)], np.float32)
    shade = colours[classes % len(colours)]
    mixed = np.where((classes == 1)[..., None], image, image * 0.3 + shade * 0.7)
    return np.where(valid[..., None], mixed, image).astype(np.uint8)
