"""What an epoch of training, and an evaluation, add up: losses, counts and times."""

import functools
import operator
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from humanseg.compute import Compute
from humanseg.hardness import Hardness
from humanseg.losses import total_loss
from humanseg.metrics import EVALUATION_ONLY, OF_BOUNDARIES, Counts
from humanseg.processes import distributed
from humanseg.runs.value_names import MEAN, measured

STEADIER = "try a smaller optimizer.lr, trainer.grad_clip=1 or trainer.precision=fp32"


class Tally:
    """What a training epoch adds up, on the device, so that nothing waits for it before the epoch is over.

    Args:
        hardness: gets each sample's part, where hard ones are drawn more often.
    """

    def __init__(self, device: torch.device, hardness: Hardness | None = None):
        self.hardness = hardness
        self.sums = defaultdict(lambda: torch.zeros((), device=device))
        self.counts: Counts | None = None
        self.batches = 0
        self.weight = 1 / distributed.world_size()  # of this process' values in a mean over all processes
        self.first_bad = torch.tensor(-1, device=device)  # the epoch's first batch whose loss is not finite
        self.seconds, self.waited, self.started = 0.0, 0.0, 0.0
        self._terms: list[dict[str, Tensor]] = []  # the losses of the batches of a step that is not finished
        self._last = self._terms, None  # those of the last step, with its gradient's norm

    def start_clock(self) -> None:
        self.started = time.perf_counter()

    def stop_clock(self) -> None:
        self.seconds += time.perf_counter() - self.started

    def state_dict(self) -> dict:
        """Tensors and plain values. `first_bad` is left out: a state with a bad loss is never saved."""
        counts = vars(self.counts) if self.counts else None
        return {
            "sums": dict(self.sums),
            "counts": counts,
            "batches": self.batches,
            "seconds": self.seconds,
            "waited": self.waited,
        }

    def load_state_dict(self, saved: dict) -> None:
        device = self.first_bad.device
        self.sums.update({name: value.to(device) for name, value in saved["sums"].items()})
        if counts := saved["counts"]:  # an earlier version's lack a sum
            self.counts = Counts(**(vars(Counts.zeros(len(counts["confusion"]), device)) | counts)).to(device)
        self.batches, self.seconds, self.waited = saved["batches"], saved["seconds"], saved["waited"]
        if not distributed.is_main():
            for tensor in self._tensors():  # the main process has the sums, as after `collect`
                tensor.zero_()

    def collect(self) -> None:
        """Add the sums of all processes up in the main one; in the others they begin anew."""
        distributed.reduce_to_main(self._tensors())

    def _tensors(self) -> list[Tensor]:
        each = [self.hardness.sums] if self.hardness else []
        return [*self.sums.values(), *(vars(self.counts).values() if self.counts else ()), *each]

    def wait_for(self, batches: Iterator[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """The next batch; the time that it takes to come is noted."""
        asked = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - asked
        return batch

    def add(self, logits: Tensor, target: Tensor, terms: dict[str, Tensor]) -> None:
        """Count a batch: float32 logits NxCxHxW, class ids NxHxW, and the loss by its terms."""
        self.counts = self.counts or Counts.zeros(logits.shape[1], logits.device)
        self.counts.add(logits, target)
        if self.hardness:
            self.hardness.add(self.batches, logits, target)
        terms = {name: term.detach() for name, term in terms.items()}
        for name, term in terms.items():
            self.sums[name].add_(term, alpha=self.weight)
        self._terms.append(terms)
        bad = (self.first_bad < 0) & ~torch.isfinite(terms["loss"])
        self.first_bad = torch.where(bad, self.batches, self.first_bad)
        self.batches += 1

    def add_norm(self, norm: Tensor) -> None:
        """Count the gradient's norm, which ends a step; where it overflows, loss scaling skips the step."""
        self.sums["grad_norm"].add_(norm.nan_to_num(posinf=0.0), alpha=self.weight)
        self._last, self._terms = (self._terms, norm), []

    def last_step(self) -> dict[str, Tensor]:
        """The last step's loss by its terms and its gradient's norm, as scalars on the device: the mean over its batches
        and over all processes, in the main one."""
        terms, norm = self._last
        means = {name: sum(one[name] for one in terms) / len(terms) for name in terms[0]} | {"grad_norm": norm}
        together = torch.stack([value.float() for value in means.values()]) * self.weight
        distributed.reduce_to_main([together])
        return dict(zip(means, together, strict=True))

    def read(self, metrics: dict[str, Callable[[Counts], float]], steps: int, batch_size: int) -> dict[str, float]:
        """The epoch's means, metrics and speed under their names."""
        sums = {name: value.item() for name, value in self.sums.items()}
        values = {"grad_norm": sums.pop("grad_norm") / steps}
        values |= {f"train/{name}": value / self.batches for name, value in sums.items()}
        values |= {f"train/{name}": metrics[name](self.counts) for name in metrics if name not in EVALUATION_ONLY}
        values["time/train_seconds"] = self.seconds
        values["time/images_per_second"] = self.batches * batch_size / self.seconds
        values["time/data_wait_share"] = self.waited / self.seconds
        return values


@dataclass
class Scores:
    """What an evaluation adds up.

    Args:
        sums: of the loss' terms over the samples. ious: each sample's IoU of the person, on the CPU.
    """

    counts: Counts
    sums: dict[str, Tensor]
    ious: Tensor

    def __add__(self, other: "Scores") -> "Scores":
        sums = {name: value + other.sums[name] for name, value in self.sums.items()}
        return Scores(self.counts + other.counts, sums, torch.cat([self.ious, other.ious]))

    @property
    def show_people(self) -> bool:
        """Whether anybody is in the truth. Where nobody is, the IoU falls from 1 to 0 with the first false pixel."""
        return bool(self.counts.confusion[1].sum() > 0)

    def read(self, metrics: dict[str, Callable[[Counts], float]]) -> dict[str, float]:
        """The means of the loss' terms, and the metrics."""
        values = {name: float(value) / len(self.ious) for name, value in self.sums.items()}
        return values | {name: metric(self.counts) for name, metric in metrics.items()}


@torch.inference_mode()
def evaluate(
    outputs: dict[str, Iterable[tuple[Tensor, ...]]],
    metrics: dict[str, Callable[[Counts], float]],
    loss: nn.Module | None = None,
    each: Callable[[str, Counts, Tensor], None] = lambda source, counts, target: None,
) -> tuple[dict[str, float], Counts, Tensor]:
    """Metrics over pairs of logits NxCxHxW and target NxHxW; validation and test both come through here.

    Of several processes each evaluates every world_size-th pair, and all of them get the result.

    Args:
        outputs: the pairs of each source by its name. Photographs uint8 NxHxWx3 may stand behind them, and a teacher's
            answers uint8 NxHxW, for the loss.
        loss: the means of its terms over the samples join the metrics.
        each: called with the source of each pair, its counts alone, and its target.

    Returns:
        The metrics over all samples, those of each of several sources and the means over the sources that show people (see
        `value_names`); the counts of all samples, and each one's IoU of the person.

    Raises:
        ValueError: the network gives no numbers, or a metric has the name of another one's mean.
    """
    measured(metrics, list(outputs))
    scores = {source: _add_up(pairs, metrics, loss, partial(each, source)) for source, pairs in outputs.items()}
    whole = functools.reduce(operator.add, scores.values())
    values = whole.read(metrics)
    if len(scores) > 1:
        own = {source: one.read(metrics) for source, one in scores.items()}
        averaged = [own[source] for source, one in scores.items() if one.show_people] or [*own.values()]
        means = {MEAN + name: statistics.fmean(one[name] for one in averaged) for name in values}
        values |= means | {f"{source}/{name}": value for source, one in own.items() for name, value in one.items()}
    return values, whole.counts, whole.ious


def _add_up(
    pairs: Iterable[tuple[Tensor, ...]],
    metrics: Container[str],
    loss: nn.Module | None,
    each: Callable[[Counts, Tensor], None],
) -> Scores:
    """The scores of one source, from all processes."""
    sums, counts, ious = defaultdict(float), None, []
    of_boundaries = any(name in metrics for name in OF_BOUNDARIES)
    for logits, target, *others in pairs:
        given = dict(zip(("images", "teacher"), others, strict=False))
        if logits.isnan().any():
            raise ValueError(f"the network's output is not a number, its weights are of no use: {STEADIER} in training")
        here = Counts.zeros(logits.shape[1], logits.device)
        ious.append(here.add(logits, target, boundary=of_boundaries, scores=True))
        counts = here if counts is None else counts + here
        each(here, target)
        if loss is not None:
            for name, term in total_loss(loss, [logits], target.long(), **given)[1].items():
                sums[name] += term * len(logits)
    ious = torch.cat(distributed.all_gather_in_turns([one.cpu() for one in ious]))
    return Scores(*_of_all_processes(counts, sums), ious)


def _of_all_processes(counts: Counts | None, sums: dict[str, Tensor]) -> tuple[Counts, dict[str, Tensor]]:
    """The counts and sums of all processes; a process without samples has none."""
    if distributed.world_size() == 1:
        return counts, sums
    mine = counts.to("cpu") if counts else None, {name: value.cpu() for name, value in sums.items()}
    parts = [part for part in distributed.all_gather(mine) if part[0]]
    names = parts[0][1]
    return functools.reduce(operator.add, (part[0] for part in parts)), {
        name: sum(part[1][name] for part in parts) for name in names
    }


@torch.inference_mode()
def network_outputs(model: nn.Module, batches: Iterable, compute: Compute) -> Iterator[tuple[Tensor, ...]]:
    """Logits, target and photographs of batches at the network's size, and a teacher's answers where there is one."""
    model.eval()
    for batch in batches:
        images, target, *answers = (one.to(compute.device, non_blocking=True) for one in batch)
        yield compute(model, images), target, images, *answers
