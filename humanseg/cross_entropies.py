"""Cross-entropies that torch does not have: one weighs pixels near outlines, one asks a teacher."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from humanseg.data.answers import SURE
from humanseg.data.transforms import IGNORE, PERSON
from humanseg.value_rules import Rule, number, whole

REACH, FACTOR, TEMPERATURE = whole(1, 1024), number(0), number(0.1, 100)
CERTAIN = 0.5 / SURE  # answers have steps: one that is as sure as it can be says so much at least


class EdgeWeighted(nn.Module):
    """Cross-entropy in which pixels near an outline weigh more (Wei et al. 2020, F3Net).

    A pixel weighs 1 + `amount` times the share of its neighbourhood that has another class.

    Args:
        reach: how far the neighbourhood reaches to each side, pixels. amount: 0 is plain cross-entropy.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(self, reach: int, amount: float):
        super().__init__()
        _refuse_unfit(reach=(reach, REACH), amount=(amount, FACTOR))
        self.reach, self.amount = reach, amount

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        own = one_hot(target, logits.shape[1])
        others = 1 - (own * nearby(own, self.reach)).sum(1)
        weight = own.sum(1) * (1 + self.amount * others)
        each = -(own * log_probabilities(logits)).sum(1)
        return (weight * each).sum() / weight.sum().clamp(min=1)


class Distilled(nn.Module):
    """Distillation: the divergence from a teacher's answer, with both softened by a temperature (Hinton et al. 2015).

    It is `temperature`**2 times KL(teacher, network) of sigmoid(logit / `temperature`), which keeps the gradients' size. The
    labels are not looked at: it counts where they are ignored too, but not where the teacher says nothing.

    Args:
        temperature: above 1 the teacher's doubt counts more, as along edges.

    Raises:
        ValueError: it is out of range.
    """

    def __init__(self, temperature: float):
        super().__init__()
        _refuse_unfit(temperature=(temperature, TEMPERATURE))
        self.temperature = temperature

    def forward(self, logits: Tensor, target: Tensor, teacher: Tensor) -> Tensor:
        """As other losses; `teacher` is uint8 NxHxW, see `data/answers.py`."""
        person = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        known = teacher != IGNORE
        asked = (teacher / SURE).clamp(CERTAIN, 1 - CERTAIN).logit() / self.temperature
        soft = asked.sigmoid()
        each = F.binary_cross_entropy_with_logits(person / self.temperature, soft, reduction="none")
        each = each - F.binary_cross_entropy_with_logits(asked, soft, reduction="none")  # the teacher's own doubt
        return self.temperature**2 * (each * known).sum() / known.sum().clamp(min=1)


def log_probabilities(logits: Tensor) -> Tensor:
    """Logits NxCxHxW -> the logarithm of each class' probability, NxKxHxW; one channel stands for two classes."""
    if logits.shape[1] == 1:
        return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], 1)
    return logits.log_softmax(1)


def one_hot(target: Tensor, channels: int) -> Tensor:
    """Class ids NxHxW -> float32 NxKxHxW, 1 in the plane of a pixel's class; ignored pixels are 0 in all planes.

    Args:
        channels: of the logits. With one channel all classes but the person's are background.
    """
    labels = torch.where(target == IGNORE, IGNORE, (target == PERSON).long()) if channels == 1 else target
    classes = torch.arange(max(channels, 2), device=target.device)
    return (labels[:, None] == classes[:, None, None]).float()


def nearby(planes: Tensor, reach: int) -> Tensor:
    """The share that each plane of `one_hot` has of the valid pixels in a square of 2 `reach` + 1 pixels' side.

    The sums are a product with a band matrix on each side. On a CPU that takes less time than pooling, for any reach.
    """
    bands = []
    for side in planes.shape[2:]:
        place = torch.arange(side, device=planes.device)
        bands.append(((place[:, None] - place).abs() <= reach).float())
    sums = bands[0] @ planes @ bands[1]
    return sums / sums.sum(1, keepdim=True).clamp(min=1)


def _refuse_unfit(**values: tuple[object, Rule]) -> None:
    """Hold each value against its rule.

    Raises:
        ValueError: one does not hold.
    """
    for name, (value, rule) in values.items():
        if not rule.holds(value):
            raise ValueError(f"{name}={value}: give {rule.words}")
