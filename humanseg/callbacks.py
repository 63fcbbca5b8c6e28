"""What reacts to an epoch. A callback is ``f(record, writer, step, **arguments)``, named in a YAML of conf/callbacks.

It may look at the record, draw with TensorBoard's SummaryWriter and add values: ``record.log["my/value"] = 0.5`` lands in
metrics.csv, TensorBoard and summary.json, and can be monitored.
"""

import statistics
import time
import warnings

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from humanseg.logs.model_summary import stages
from humanseg.logs.tensorboard import add_histogram, add_picture
from humanseg.loop import Record
from humanseg.metrics import LEVELS, predictions
from humanseg.pictures import preview_row


def previews(record: Record, writer: SummaryWriter, step: int, every: int = 1) -> None:
    """Photograph, truth, prediction and errors of a fixed set of samples, one row each."""
    if not due(record, every):
        return
    images, masks = record.samples
    record.model.eval()
    with torch.inference_mode():
        found = predictions(record.compute(record.model, images)).cpu()
    rows = zip(images.numpy(), masks.numpy(), found.numpy(), strict=True)
    add_picture(writer, "previews", np.concatenate([preview_row(*row) for row in rows]), step)


def histograms(record: Record, writer: SummaryWriter, step: int, every: int = 5) -> None:
    """Parameters and the last step's gradients, one histogram for each stage of the network."""
    if not due(record, every):
        return
    for name, stage in stages(record.trained):
        parameters = list(stage.parameters())
        gradients = [parameter.grad.flatten() for parameter in parameters if parameter.grad is not None]
        add_histogram(writer, f"parameters/{name}", [parameter.detach().flatten() for parameter in parameters], step)
        add_histogram(writer, f"gradients/{name}", gradients, step)


def pr_curve(record: Record, writer: SummaryWriter, step: int, every: int = 1) -> None:
    """Precision and recall of the person over the threshold, for all validation pixels."""
    if record.counts is None or not due(record, every):
        return
    negative, positive = record.counts.scores.cpu().flip(1).cumsum(1).flip(1).double()  # at or above each level
    people, predicted = positive[0], positive + negative
    thresholds = torch.arange(0, LEVELS, 2)
    hits, false_alarms = positive[thresholds], negative[thresholds]
    writer.add_pr_curve_raw(
        "person",
        hits,
        false_alarms,
        negative[0] - false_alarms,
        people - hits,
        hits / predicted[thresholds].clamp(min=1),
        hits / people.clamp(min=1),
        step,
        num_thresholds=len(thresholds),
    )


def latency(record: Record, writer: SummaryWriter, step: int, every: int = 1, times: int = 9) -> None:
    """Milliseconds that the network takes for one photograph, the median of some: ``latency_ms``, an objective of a search.

    What else this machine does meanwhile is in it.
    """
    if not due(record, every):
        return
    image, taken = record.samples[0][:1], []
    record.model.eval()
    with torch.inference_mode():
        record.compute(record.model, image).cpu()  # the first one is slower
        for _ in range(times):
            started = time.perf_counter()
            record.compute(record.model, image).cpu()  # which waits for a GPU
            taken.append(1000 * (time.perf_counter() - started))
    record.log["latency_ms"] = statistics.median(taken)


def graph(record: Record, writer: SummaryWriter, step: int) -> None:
    """The network as TensorBoard's graph, once."""
    if record.epoch > 1:
        return
    images = record.samples[0][:1].to(record.compute.device)
    inputs = images.permute(0, 3, 1, 2).float()
    with warnings.catch_warnings(
        action="ignore", category=FutureWarning
    ):  # of torch.jit, by which TensorBoard traces it
        writer.add_graph(record.model.eval(), inputs, use_strict_trace=False)


def due(record: Record, every: int) -> bool:
    """Whether a callback is due: in the first epoch and in each `every`-th after it; with 0 never."""
    return every > 0 and (record.epoch - 1) % every == 0
