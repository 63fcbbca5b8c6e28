"""Losses that torch and SMP do not have as this suite needs them.

Each is called with float32 logits NxCxHxW and int64 class ids NxHxW, of which 255 is ignored. One whose `forward` has an
argument `images` also gets the batch's photographs there, uint8 NxHxWx3; one that has `teacher` gets a teacher's answers,
uint8 NxHxW, see `data/answers.py`. It returns a scalar; `WeightedSum` returns a dict of its weighted terms.
"""

import inspect
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from humanseg import terminal
from humanseg.data.transforms import IGNORE
from humanseg.metrics import person_probability


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy over the valid pixels (SMP's soft BCE divides by the ignored ones too).

    Args:
        pos_weight: multiplies the term of the person's pixels, as torch's does; above 0. None: 1.
        label_smoothing: what part of each label is shared out over both classes, as torch's for cross-entropy. None: 0.

    Raises:
        ValueError: for more than one class, or another `pos_weight`.
    """

    def __init__(self, classes: int, pos_weight: float | None = None, label_smoothing: float | None = None):
        super().__init__()
        self.label_smoothing = label_smoothing
        if pos_weight is not None and not _is_weight(pos_weight):
            raise ValueError(f"loss.pos_weight={pos_weight}: give one number above 0, the person's weight, or null")
        self.register_buffer("pos_weight", None if pos_weight is None else torch.tensor(float(pos_weight)))
        if classes != 1:
            raise ValueError(f"loss=bce is for model.classes=1, not {classes}: use loss=ce, or ce_dice for bce_dice")

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        valid = target != IGNORE
        person = (target == 1).to(logits.dtype)
        if self.label_smoothing:
            person = torch.lerp(person, torch.full_like(person, 0.5), self.label_smoothing)
        each = F.binary_cross_entropy_with_logits(logits[:, 0], person, reduction="none", pos_weight=self.pos_weight)
        return (each * valid).sum() / valid.sum().clamp(min=1)


class CrossEntropy(nn.CrossEntropyLoss):
    """torch's cross-entropy over the valid pixels.

    Args:
        weight: of each class, above 0; the mean is over the pixels' weights. None: all count the same.
        label_smoothing: what part of each label is shared out over all classes. None: 0.

    Raises:
        ValueError: for a single class, or weights that are not those of the classes.
    """

    def __init__(self, classes: int, weight: list[float] | None = None, label_smoothing: float | None = None):
        if classes < 2:
            raise ValueError(
                f"loss=ce is for model.classes of 2 and more, not {classes}: use loss=bce, or bce_dice for ce_dice"
            )
        listed = weight if isinstance(weight, list) else [weight]
        if weight is not None and (len(listed) != classes or not all(map(_is_weight, listed))):
            raise ValueError(
                f"loss.weight={weight}: model.classes={classes} has the classes 0 to {classes - 1}; give a number above 0 "
                "for each of them, or null"
            )
        weights = None if weight is None else torch.tensor(listed, dtype=torch.float32)
        super().__init__(weights, ignore_index=IGNORE, label_smoothing=label_smoothing or 0.0)


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
        ValueError: there are no terms, the names of the weights are not theirs, or one is no number.
    """

    def __init__(self, terms: dict[str, nn.Module], weights: dict[str, float]):
        super().__init__()
        if not (terms and weights):
            raise ValueError(
                f"loss.terms={terms}, loss.weights={weights}: give losses by their names, and a weight for each"
            )
        if terms.keys() != weights.keys():
            raise ValueError(f"loss.weights names {', '.join(weights)}, loss.terms {', '.join(terms)}: name the same")
        for name, weight in weights.items():
            if not isinstance(weight, int | float) or isinstance(weight, bool) or not math.isfinite(weight):
                raise ValueError(f"loss.weights.{name}={weight}: give a number")
        self.terms = nn.ModuleDict(terms)
        self.weights = weights

    def forward(
        self, logits: Tensor, target: Tensor, images: Tensor | None = None, teacher: Tensor | None = None
    ) -> dict[str, Tensor]:
        given = {"images": images, "teacher": teacher}
        return {name: self.weights[name] * applied(term, logits, target, **given) for name, term in self.terms.items()}


def applied(loss: nn.Module, logits: Tensor, target: Tensor, **given: Tensor | None) -> Tensor | dict[str, Tensor]:
    """A loss of logits and target, and of those of `given` that its signature names.

    One of logits and target alone is 0 where all pixels are ignored: torch's and SMP's means over no pixel are no numbers.
    """
    asked = _arguments(loss)
    others = {name: value for name, value in given.items() if name in asked}
    value = loss(logits, target, **others)
    if others or not isinstance(value, Tensor):
        return value
    return torch.where((target != IGNORE).any(), value if value.numel() else value.sum(), 0)


def asks_for(loss: nn.Module, name: str, needs: bool = False) -> bool:
    """Whether a loss, or a term of a weighted sum, has this argument; with `needs`, whether it has no default."""
    if isinstance(loss, WeightedSum):
        return any(asks_for(term, name, needs) for term in loss.terms.values())
    argument = _arguments(loss).get(name)
    return argument is not None and not (needs and argument.default is not argument.empty)


def total_loss(
    loss: nn.Module,
    outputs: Sequence[Tensor],
    target: Tensor,
    images: Tensor | None = None,
    weights: Sequence[float] | None = None,
    teacher: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss to minimise: the weighted sum over the network's outputs.

    Args:
        outputs: float32 logits. The first are NxCxHxW. Further ones are NxCxhxw, which are resized to HxW (deep
            supervision), or NxK, which say what is in a photograph (SMP's `aux_params`), see `presence_loss`.
        target: int64 NxHxW. images: uint8 NxHxWx3, and teacher: uint8 NxHxW, for a loss that asks for them.
        weights: of the outputs; None: each counts half of the one before it, as in nnU-Net (Isensee et al. 2021).

    Returns:
        The loss, and what is logged: the loss as `loss`, each term of a weighted sum for the first output as `loss_NAME`, and
        the weighted part of each of several outputs as `loss_output1` and so on.

    Raises:
        ValueError: there are not as many weights as outputs, or an output has another shape.
    """
    weights = [0.5**place for place in range(len(outputs))] if weights is None else weights
    if len(weights) != len(outputs):
        raise ValueError(
            f"trainer.output_weights={list(weights)}: the network has {len(outputs)} outputs; give a weight for each, or null"
        )
    if outputs[0].shape[2:] != target.shape[1:]:
        raise ValueError(f"output 1 of the network has the shape {tuple(outputs[0].shape)}: it must be logits NxCxHxW")
    given = {"images": images, "teacher": teacher}
    value = applied(loss, outputs[0], target, **given)
    terms = {f"loss_{name}": term for name, term in value.items()} if isinstance(value, dict) else {}
    values = [value]
    for place, output in enumerate(outputs[1:], 2):
        if output.ndim == 2:
            values.append(presence_loss(output, target, outputs[0].shape[1]))
        elif output.ndim == 4 and output.shape[1] == outputs[0].shape[1]:
            resized = F.interpolate(output, target.shape[1:], mode="bilinear")
            values.append(applied(loss, resized, target, **given))
        else:
            raise ValueError(
                f"output {place} of the network has the shape {tuple(output.shape)}: it must be logits as the first, "
                f"Nx{outputs[0].shape[1]}xHxW, or NxK of a classification head"
            )
    parts = [weight * _summed(value) for weight, value in zip(weights, values, strict=True)]
    total = sum(parts)
    if len(parts) > 1:
        terms |= {f"loss_output{place}": part for place, part in enumerate(parts, 1)}
    return total, {"loss": total, **terms}


def presence_loss(logits: Tensor, target: Tensor, classes: int) -> Tensor:
    """Binary cross-entropy of what is in each photograph: the person for logits Nx1, each class for logits NxC.

    A photograph that is ignored as a whole counts nothing: what is in it is not known.

    Raises:
        ValueError: another number of logits.
    """
    if logits.shape[1] not in (1, classes):
        raise ValueError(
            f"model.aux_params.classes={logits.shape[1]}: give 1, for the person"
            + (f", or {classes}, for each of model.classes" if classes > 1 else "")
        )
    asked = [1] if logits.shape[1] == 1 else range(classes)
    present = torch.stack([(target == one).flatten(1).any(1) for one in asked], 1)
    known = (target != IGNORE).flatten(1).any(1, keepdim=True).to(logits.dtype)
    mean = F.binary_cross_entropy_with_logits(logits, present.to(logits.dtype), weight=known)
    return mean / known.mean().clamp(min=1 / len(known))


def _summed(value: Tensor | dict[str, Tensor]) -> Tensor:
    return sum(value.values()) if isinstance(value, dict) else value


def _arguments(loss: nn.Module) -> dict[str, inspect.Parameter]:
    """What a loss is called with beside logits and target."""
    return dict(list(inspect.signature(loss.forward).parameters.items())[2:])


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def check(loss: nn.Module, classes: int) -> None:
    """Try a loss on a small batch.

    Raises:
        ValueError: it is no module, asks for what there is not, doesn't fit `classes`, or gives no finite scalar.
    """
    if not isinstance(loss, nn.Module):
        raise ValueError(
            f"the loss is a {type(loss).__name__}: it must be a torch.nn.Module that takes logits and target"
        )
    nameless = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [name for name, one in _arguments(loss).items() if one.default is one.empty and one.kind not in nameless]
    if unknown := [name for name in needed if name not in ("images", "teacher")]:
        raise ValueError(
            f"the loss asks for {', '.join(unknown)}: beside logits and target there are images and teacher"
        )
    logits = torch.linspace(-1, 1, 2 * classes * 64).view(2, classes, 8, 8).requires_grad_()
    target = torch.arange(128).view(2, 8, 8) % max(classes, 2)
    target[:, 0] = IGNORE
    images = torch.arange(384).view(2, 8, 8, 3).remainder(256).to(torch.uint8)
    try:
        value = applied(loss, logits, target, images=images, teacher=images[..., 0])
        terms = list(value.values()) if isinstance(value, dict) else [value]
        if not terms or not all(isinstance(term, Tensor) for term in terms):
            raise TypeError(f"it gives a {type(value).__name__}, not a scalar tensor or a dict of them")
        sum(terms).backward()
    except Exception as error:  # it may be anybody's
        raise ValueError(f"the loss does not fit model.classes={classes}: {terminal.reason(error)}") from error
    if not all(term.ndim == 0 and term.isfinite() for term in terms):
        raise ValueError(f"the loss gives {value}, not a finite number")
