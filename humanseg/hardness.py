"""Hard examples: samples whose masks were wrong come more often in the next epoch."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from humanseg.data.transforms import IGNORE, PERSON
from humanseg.metrics import predictions
from humanseg.processes import distributed


class Hardness:
    """How wrong the answer for each training sample was in the epoch that had it last: 1 - IoU of the person.

    That is at the network's size, with the augmentation and the weights of its step. Of a photograph without people it is
    the share that is taken for people. It changes between epochs only.

    Args:
        share: of an epoch's samples that are drawn in proportion to it, in (0, 1]. The others are drawn as ever.
        samples: how many there are. epoch: its batches, and the samples of each over all processes.
    """

    def __init__(self, share: float, samples: int, epoch: tuple[int, int], device: torch.device):
        self.share = share
        self.known = torch.full((samples,), torch.nan)  # in [0, 1]; NaN: no epoch had it
        # Of the epoch's samples in the order of its batches: pixels that are wrong, and those that they are a part of.
        self.sums = torch.zeros(*epoch, 2, dtype=torch.int64, device=device)

    def add(self, batch: int, logits: Tensor, target: Tensor) -> None:
        """Count this process' part of a batch: logits NxCxHxW, class ids NxHxW."""
        valid, person, found = target != IGNORE, target == PERSON, predictions(logits) == PERSON
        planes = torch.stack([(person != found) & valid, (person | found) & valid, person, valid]).flatten(2).sum(2)
        wrong, union, people, whole = planes
        first = distributed.rank() * len(target)
        self.sums[batch, first : first + len(target)] = torch.stack([wrong, torch.where(people > 0, union, whole)], 1)

    def finish_epoch(self, positions: np.ndarray) -> None:
        """Note how wrong each sample's answer was. The main process has the sums of all; the others get its result.

        Args:
            positions: of the epoch's samples in the split, batches x batch_size.
        """
        sums = torch.zeros(len(self.known), 2, dtype=torch.int64)
        sums.index_add_(0, torch.as_tensor(positions).flatten(), self.sums.cpu().flatten(0, 1))
        seen = torch.where(sums[:, 1] > 0, (sums[:, 0] / sums[:, 1]).float(), self.known)
        self.known = distributed.broadcast(seen)
        self.sums.zero_()

    def factors(self) -> np.ndarray:
        """How much more often than others each sample is drawn, float64; a sample that no epoch had is as hard as the mean."""
        known = self.known.double().numpy()
        mean = np.nanmean(known) if not np.isnan(known).all() else 0.0
        relative = np.nan_to_num(known, nan=mean) / mean if mean else np.ones(len(known))
        return 1 - self.share + self.share * relative

    def state_dict(self) -> dict[str, Tensor]:
        return {"known": self.known, "sums": self.sums}

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Put back what was saved.

        Raises:
            ValueError: it is of other samples.
        """
        for name, own in self.state_dict().items():
            if saved[name].shape != own.shape or saved[name].dtype != own.dtype:
                raise ValueError(f"its hardness has other {name}")
        known = saved["known"]
        if not (known.isnan() | (known >= 0) & (known <= 1)).all() or (saved["sums"] < 0).any():
            raise ValueError("its hardness is none")
        self.known, self.sums = saved["known"], saved["sums"].to(self.sums.device)
