"""Every loss of conf/loss: padding counts nowhere, pictures without people teach too, better is less."""

import math

import pytest
import torch
from conftest import ROOT, composed

from humanseg import build, losses

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


def test_the_weight_of_the_person_is_torchs():
    logits, target = picture(1)
    valid = target != 255
    weighted = build.loss(composed("loss=bce", "loss.pos_weight=3")["loss"], 1)
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))(logits[:, 0][valid], target[valid].float())
    torch.testing.assert_close(weighted(logits, target), expected)


def test_weights_of_classes_are_torchs():
    logits, target = picture(3)
    weighted = build.loss(composed("loss=ce", "loss.weight=[1,2,0.5]", "model.classes=3")["loss"], 3)
    expected = torch.nn.CrossEntropyLoss(torch.tensor([1, 2, 0.5]), ignore_index=255)(logits, target)
    torch.testing.assert_close(weighted(logits, target), expected)


@pytest.mark.parametrize(
    ("name", "typed", "classes", "sentence"),
    [
        (
            "ce",
            "loss.weight=[1,2,3]",
            2,
            r"loss.weight=\[1, 2, 3\]: model.classes=2 has the classes 0 to 1; give a number",
        ),
        ("ce_dice", "loss.terms.ce.weight=[1,0]", 2, r"loss.weight=\[1, 0\]: .* above 0"),
        ("bce", "loss.pos_weight=[1,2]", 1, r"loss.pos_weight=\[1, 2\]: give one number above 0"),
        ("bce", "loss.pos_weight=-1", 1, "loss.pos_weight=-1: give one number above 0"),
    ],
)
def test_weights_that_no_class_has_are_one_sentence(name, typed, classes, sentence):
    with pytest.raises(ValueError, match=sentence):
        build.loss(composed(f"loss={name}", typed, f"model.classes={classes}")["loss"], classes)


def test_the_loss_of_several_outputs_is_their_weighted_sum():
    loss, (logits, target) = loss_of("bce_dice", 1), picture(1)
    half = logits[:, :, ::2, ::2] - 1
    value, terms = losses.total_loss(loss, [logits, half], target, weights=[2, 0.3])
    large = torch.nn.functional.interpolate(half, (16, 16), mode="bilinear")
    torch.testing.assert_close(value, 2 * total(loss, logits, target) + 0.3 * total(loss, large, target))
    torch.testing.assert_close(terms["loss_output2"], 0.3 * total(loss, large, target))
    assert list(terms) == ["loss", "loss_bce", "loss_dice", "loss_output1", "loss_output2"]
    halved, _ = losses.total_loss(loss, [logits] * 3, target)
    torch.testing.assert_close(halved, 1.75 * total(loss, logits, target))


def test_a_classification_head_learns_what_is_in_the_photograph():
    (logits, target), labels = picture(1), torch.tensor([[2.0], [-1.0]])
    target[1] = torch.where(target[1] == 1, 255, target[1])  # nobody is known to be there
    value, terms = losses.total_loss(loss_of("dice", 1), [logits, labels], target, weights=[0, 1])
    torch.testing.assert_close(value, torch.nn.functional.softplus(-labels.abs()).mean())
    many = losses.presence_loss(torch.tensor([[5.0, 5, -5], [5.0, -5, -5]]), target, 3)
    assert many < 0.01 < losses.presence_loss(torch.tensor([[5.0, -5, -5], [5.0, -5, -5]]), target, 3)


@pytest.mark.parametrize(
    ("outputs", "weights", "sentence"),
    [
        ([(2, 1, 16, 16)] * 2, [1.0], r"trainer.output_weights=\[1.0\]: the network has 2 outputs"),
        ([(2, 1, 16, 16), (2, 8, 4, 4)], None, r"output 2 of the network has the shape \(2, 8, 4, 4\)"),
        ([(2, 1, 16, 16), (2, 4)], None, "model.aux_params.classes=4: give 1, for the person"),
    ],
)
def test_outputs_that_do_not_fit_are_one_sentence(outputs, weights, sentence):
    with pytest.raises(ValueError, match=sentence):
        losses.total_loss(loss_of("dice", 1), [torch.zeros(shape) for shape in outputs], picture(1)[1], None, weights)


class Seeing(torch.nn.Module):
    def forward(self, logits, target, images):
        return logits.mean() + images.float().mean()


def test_a_loss_that_asks_for_the_photographs_gets_them_in_a_sum_too():
    logits, target = picture(1)
    images = torch.full((2, 16, 16, 3), 7, dtype=torch.uint8)
    both = losses.WeightedSum({"seeing": Seeing(), "dice": loss_of("dice", 1)}, {"seeing": 2.0, "dice": 1.0})
    losses.check(both, 1)
    _, terms = losses.total_loss(both, [logits], target, images)
    torch.testing.assert_close(terms["loss_seeing"], 2 * (logits.mean() + 7))


def test_a_loss_that_asks_for_what_there_is_not_is_one_sentence():
    class Depth(torch.nn.Module):
        def forward(self, logits, target, depth):
            return logits.mean()

    with pytest.raises(ValueError, match="the loss asks for depth: beside logits and target there is images"):
        losses.check(Depth(), 1)
