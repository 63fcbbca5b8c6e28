"""What a training epoch adds up."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from humanseg import distributed
from humanseg.metrics import EVALUATION_ONLY, Counts


class Tally:
    """What a training epoch adds up, on the device, so that nothing waits for it before the epoch is over."""

    def __init__(self, device: torch.device):
        self.sums = defaultdict(lambda: torch.zeros((), device=device))
        self.counts: Counts | None = None
        self.batches, self.share = 0, 1 / distributed.size()  # what this process adds to a mean over all of them
        self.first_bad = torch.tensor(-1, device=device)  # the epoch's first batch whose loss is not finite
        self.seconds, self.waited, self.started = 0.0, 0.0, 0.0

    def start_clock(self) -> None:
        self.started = time.perf_counter()

    def stop_clock(self) -> None:
        self.seconds += time.perf_counter() - self.started

    def state_dict(self) -> dict:
        """Tensors and plain values; only good losses are ever saved."""
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
        if saved["counts"]:
            self.counts = Counts(**saved["counts"]).to(device)
        self.batches, self.seconds, self.waited = saved["batches"], saved["seconds"], saved["waited"]
        if not distributed.is_main():
            for tensor in self._tensors():  # the main one has them, as after `collect`
                tensor.zero_()

    def collect(self) -> None:
        """Bring the sums of all processes to the main one; in the others they begin anew."""
        distributed.to_main(self._tensors())

    def _tensors(self) -> list[Tensor]:
        return [*self.sums.values(), *(vars(self.counts).values() if self.counts else ())]

    def wait_for(self, batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The next batch, and how long it took to come."""
        asked = time.perf_counter()
        batch = next(batches)
        self.waited += time.perf_counter() - asked
        return batch

    def add(self, logits: Tensor, target: Tensor, terms: dict[str, Tensor]) -> None:
        self.counts = self.counts or Counts.zeros(logits.shape[1], logits.device)
        self.counts.add(logits, target)
        for name, term in terms.items():
            self.sums[name].add_(term.detach(), alpha=self.share)
        bad = (self.first_bad < 0) & ~torch.isfinite(terms["loss"].detach())
        self.first_bad = torch.where(bad, self.batches, self.first_bad)
        self.batches += 1

    def add_norm(self, norm: Tensor) -> None:
        # Loss scaling skips the steps that overflow.
        self.sums["grad_norm"].add_(norm.nan_to_num(posinf=0.0), alpha=self.share)

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
