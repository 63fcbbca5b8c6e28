"""Every loss of conf/loss: padding counts nowhere, pictures without people teach too, better is less."""

import math

import pytest
import torch
from conftest import ROOT, composed

from humanseg import build

LOSSES = sorted(file.stem for file in (ROOT / "conf" / "loss").glob("*.yaml"))
FITTING = [
    (name, classes)
    for name in LOSSES
    for classes in (1, 2, 3)
    if not (name.startswith("bce") and classes > 1) and not (name.startswith("ce") and classes == 1)
]


def loss_of(name: str, classes: int) -> torch.nn.Module:
    return build.loss(composed(f"loss={name}", f"model.classes={classes}")["loss"], classes)


def total(loss: torch.nn.Module, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    value = loss(logits, target)
    return sum(value.values()) if isinstance(value, dict) else value


def picture(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits 2xCx16x16 and target 2x16x16 with padding at the top and bottom."""
    generator = torch.Generator().manual_seed(0)
    target = torch.zeros(2, 16, 16, dtype=torch.long)
    target[:, 5:12, 4:10] = 1
    target[:, :3] = target[:, 13:] = 255
    return torch.randn(2, classes, 16, 16, generator=generator), target


def towards(target: torch.Tensor, classes: int, certainty: float) -> torch.Tensor:
    """Logits that are right everywhere."""
    if classes == 1:
        return certainty * ((target == 1).float() * 2 - 1)[:, None]
    return certainty * torch.nn.functional.one_hot(target % 255, classes).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize(("name", "classes"), FITTING)
def test_padding_counts_in_no_loss(name, classes):
    loss, (logits, target) = loss_of(name, classes), picture(classes)
    before = total(loss, logits, target)
    changed = torch.where((target == 255)[:, None], logits + 5, logits).requires_grad_()
    after = total(loss, changed, target)
    torch.testing.assert_close(after, before)
    after.backward()
    assert not changed.grad.permute(0, 2, 3, 1)[target == 255].any()


@pytest.mark.parametrize(("name", "classes"), FITTING)
def test_padding_does_not_dilute_a_loss(name, classes):
    loss, (logits, target) = loss_of(name, classes), picture(classes)
    torch.testing.assert_close(total(loss, logits, target), total(loss, logits[:, :, 3:13], target[:, 3:13]))


@pytest.mark.parametrize(("name", "classes"), FITTING)
def test_a_batch_without_people_gives_a_finite_gradient_towards_background(name, classes):
    loss = loss_of(name, classes)
    logits = torch.zeros(2, classes, 16, 16).requires_grad_()
    target = torch.zeros(2, 16, 16, dtype=torch.long)
    total(loss, logits, target).backward()
    person = logits.grad[:, 0] if classes == 1 else logits.grad[:, 1]
    assert logits.grad.isfinite().all() and (person >= 0).all() and person.any()


@pytest.mark.parametrize(("name", "classes"), FITTING)
def test_better_is_less(name, classes):
    loss, (_, target) = loss_of(name, classes), picture(classes)
    values = [total(loss, towards(target, classes, certainty), target).item() for certainty in (-4, 0.5, 2, 8)]
    assert values == sorted(values, reverse=True) and all(map(math.isfinite, values))


def test_bce_is_torchs_over_the_valid_pixels():
    logits, target = picture(1)
    valid = target != 255
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0][valid], target[valid].float())
    torch.testing.assert_close(loss_of("bce", 1)(logits, target), expected)


def test_a_weighted_sum_names_its_terms():
    logits, target = picture(1)
    config = composed("loss=bce_dice", "loss.weights.dice=3")["loss"]
    value = build.loss(config, 1)(logits, target)
    assert list(value) == ["bce", "dice"]
    torch.testing.assert_close(value["dice"], 3 * loss_of("dice", 1)(logits, target))


@pytest.mark.parametrize(("name", "classes", "hint"), [("bce", 2, "loss=ce"), ("ce", 1, "loss=bce")])
def test_a_loss_that_does_not_fit_the_classes_says_which_does(name, classes, hint):
    with pytest.raises(ValueError, match=hint):
        loss_of(name, classes)


def test_weights_must_name_the_terms():
    with pytest.raises(ValueError, match="name the same"):
        build.loss(composed("loss=bce_dice", "+loss.weights.other=1")["loss"], 1)
