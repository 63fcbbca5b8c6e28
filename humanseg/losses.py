"""Losses that torch and SMP do not have as this suite needs them.

Each is called with float32 logits NxCxHxW and int64 class ids NxHxW, of which 255 is ignored. It returns a scalar;
`WeightedSum` returns a dict of its weighted terms.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from humanseg.data.transforms import IGNORE
from humanseg.metrics import person_probability


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy over the valid pixels (SMP's soft BCE divides by the ignored ones too).

    Raises:
        ValueError: for more than one class.
    """

    def __init__(self, classes: int):
        super().__init__()
        if classes != 1:
            raise ValueError(f"loss=bce is for model.classes=1, not {classes}: use loss=ce, or ce_dice for bce_dice")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != IGNORE
        each = F.binary_cross_entropy_with_logits(logits[:, 0], (target == 1).to(logits.dtype), reduction="none")
        return (each * valid).sum() / valid.sum().clamp(min=1)


class CrossEntropy(nn.CrossEntropyLoss):
    """torch's cross-entropy over the valid pixels.

    Raises:
        ValueError: for a single class.
    """

    def __init__(self, classes: int):
        super().__init__(ignore_index=IGNORE)
        if classes < 2:
            raise ValueError(
                f"loss=ce is for model.classes of 2 and more, not {classes}: use loss=bce, or bce_dice for ce_dice"
            )


class Overlap(nn.Module):
    """An overlap loss of SMP (Dice, Jaccard, Tversky) that learns from batches without people too.

    SMP leaves out a class that is not in the batch, so with one class nothing remains. Then the mean probability of the
    person over the valid pixels, which should be 0, takes its place.
    """

    def __init__(self, loss: nn.Module, classes: int):
        super().__init__()
        self.loss = loss
        self.single = classes == 1

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        overlap = self.loss(logits, target)
        if not self.single:
            return overlap
        valid = target != IGNORE
        mean = (person_probability(logits) * valid).sum() / valid.sum().clamp(min=1)
        return overlap + mean * ~(target == 1).any()


class WeightedSum(nn.Module):
    """Named losses, each times its weight; the loop adds them up and logs each.

    Raises:
        ValueError: the names of the weights are not those of the terms.
    """

    def __init__(self, terms: dict[str, nn.Module], weights: dict[str, float]):
        super().__init__()
        if terms.keys() != weights.keys():
            raise ValueError(f"loss.weights names {', '.join(weights)}, loss.terms {', '.join(terms)}: name the same")
        self.terms = nn.ModuleDict(terms)
        self.weights = weights

    def forward(self, logits: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {name: self.weights[name] * term(logits, target) for name, term in self.terms.items()}


def total_loss(loss: nn.Module, logits: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss to minimise, and what is logged: the loss as `loss`, and each term of a weighted sum as `loss_NAME`."""
    value = loss(logits, target)
    if not isinstance(value, dict):
        return value, {"loss": value}
    total = sum(value.values())
    return total, {"loss": total, **{f"loss_{name}": term for name, term in value.items()}}


def check(loss: nn.Module, classes: int) -> None:
    """Try a loss on a small batch.

    Raises:
        ValueError: the loss doesn't fit `classes`, or gives no finite scalar.
    """
    logits = torch.linspace(-1, 1, 2 * classes * 64).view(2, classes, 8, 8).requires_grad_()
    target = torch.arange(128).view(2, 8, 8) % max(classes, 2)
    target[:, 0] = IGNORE
    try:
        value = loss(logits, target)
        terms = list(value.values()) if isinstance(value, dict) else [value]
        sum(terms).backward()
    except (RuntimeError, ValueError, IndexError, AssertionError, TypeError) as error:
        raise ValueError(f"the loss does not fit model.classes={classes}: {str(error).splitlines()[0]}") from error
    if not all(term.ndim == 0 and term.isfinite() for term in terms):
        raise ValueError(f"the loss gives {value}, not a finite number")
