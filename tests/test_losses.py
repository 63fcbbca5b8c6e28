"""Every loss of conf/loss: padding counts nowhere, pictures without people teach too, better is less."""

import math
from functools import cache

import pytest
import torch
from conftest import ROOT, composed

from humanseg import build, losses
from humanseg.connectivity import Connectivity
from humanseg.cross_entropies import EdgeWeighted, nearby, one_hot

LOSSES = sorted(file.stem for file in (ROOT / "conf" / "loss").glob("*.yaml") if "distill" not in file.stem)
FITTING = [
    (name, classes)
    for name in LOSSES
    for classes in (1, 2, 3)
    if not (name.startswith("bce") and classes > 1) and not (name.startswith("ce") and classes == 1)
]


@cache
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
def test_a_batch_without_labels_costs_nothing(name, classes):
    logits = picture(classes)[0].requires_grad_()
    value, _ = losses.total_loss(loss_of(name, classes), [logits], torch.full((2, 16, 16), 255))
    value.backward()
    assert value == 0 and not logits.grad.any()


@pytest.mark.parametrize(("name", "classes"), FITTING)
def test_better_is_less(name, classes):
    loss, (_, target) = loss_of(name, classes), picture(classes)
    certainties = (-4, 0.5, 1) if "smoothed" in name else (-4, 0.5, 2, 8)  # smoothed labels are never certain
    values = [total(loss, towards(target, classes, certainty), target).item() for certainty in certainties]
    assert values == sorted(values, reverse=True) and all(map(math.isfinite, values))


@pytest.mark.parametrize(("name", "classes"), FITTING)
def test_certain_answers_of_a_network_in_bf16_give_finite_gradients(name, classes):
    loss, (logits, target) = loss_of(name, classes), picture(classes)
    coarse = (1000 * logits).bfloat16().requires_grad_()
    value = total(loss, coarse.float(), target)
    value.backward()
    assert value.isfinite() and coarse.grad.isfinite().all()


def test_one_channel_is_the_second_of_two_with_zeros_beside_it():
    logits, target = picture(1)
    for loss in (EdgeWeighted(2, 5), Connectivity()):
        two = torch.cat([torch.zeros_like(logits), logits], 1)
        torch.testing.assert_close(loss(logits, target), loss(two, target))


@pytest.mark.parametrize("classes", [1, 3])
def test_an_edge_that_weighs_no_more_leaves_torchs_cross_entropy(classes):
    logits, target = picture(classes)
    expected = loss_of("bce" if classes == 1 else "ce", classes)(logits, target)
    torch.testing.assert_close(EdgeWeighted(2, 0)(logits, target), expected)


def test_a_neighbourhood_counts_valid_pixels_alone_and_ends_at_the_frame():
    target = torch.tensor([[[1, 0, 0, 0], [1, 0, 255, 0], [1, 0, 0, 0]]])
    person = nearby(one_hot(target, 1), 1)[0, 1]
    torch.testing.assert_close(person[1], torch.tensor([3 / 6, 3 / 8, 0, 0]))
    torch.testing.assert_close(person[0, :2], torch.tensor([2 / 4, 2 / 5]))


def test_near_an_outline_pixels_weigh_more_by_the_other_class_share():
    logits, target = torch.zeros(1, 1, 5, 8), torch.zeros(1, 5, 8, dtype=torch.long)
    target[..., 4:] = 1  # a straight outline
    at = [torch.zeros_like(logits).index_fill_(3, torch.tensor([column]), 1.0) for column in range(4)]
    loss = EdgeWeighted(1, 6)
    extra = [(loss(logits + one, target) - loss(logits, target)).item() for one in at]
    torch.testing.assert_close(torch.tensor(extra) / extra[0], torch.tensor([1.0, 1, 1, 1 + 6 / 3]))


def certain(rows: list[str]) -> torch.Tensor:
    """Logits of an answer that is certain of a person where there is a #."""
    return torch.tensor([[[[60.0 if one == "#" else -60.0 for one in row] for row in rows]]])


def test_connectivity_is_the_papers_for_certain_answers():
    mask = ["##..###.", "##..###.", "........"]
    target = (certain(mask)[:, 0] > 0).long()
    cases = {
        0: mask,  # right
        1 - (1 + (2 / 6 + 2 / 6) / 2) / 2: ["##..#.#.", "##..#.#.", "........"],  # one of two in two pieces
        1 - (1 + 1) / 3: ["##..###.", "##..###.", "........", ".......#"],  # a speck besides, which touches nobody
        1 - (1 + 0) / 2: ["##......", "##......", "........"],  # one of two missed
        1 - (4 / 14 + 6 / 14) / 2: ["#######.", "#######.", "........"],  # both in one
    }
    for expected, answer in cases.items():
        padded = torch.nn.functional.pad(target, (0, 0, 0, len(answer) - 3))
        assert math.isclose(Connectivity()(certain(answer), padded).item(), expected, abs_tol=1e-6), answer


def test_connectivity_pulls_at_people_who_are_missed_and_at_specks():
    target = torch.zeros(1, 6, 6, dtype=torch.long)
    target[:, :2, :2] = target[:, 4:, 4:] = 1
    logits = torch.full((1, 1, 6, 6), -2.0)
    logits[..., :2, :2] = 2  # one is found, the other one is missed
    logits[..., 0, 5] = 2  # a speck
    logits.requires_grad_()
    Connectivity()(logits, target).backward()
    slope = logits.grad[0, 0]
    assert (slope[:2, :2] < 0).all() and (slope[4:, 4:] < 0).all() and slope[0, 5] > 0


def test_connectivity_is_the_mean_over_photographs():
    logits, target = picture(1)
    alone = [Connectivity()(logits[one : one + 1], target[one : one + 1]) for one in range(2)]
    torch.testing.assert_close(Connectivity()(logits, target), sum(alone) / 2)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["loss=edge_weighted", "loss.reach=0"], "loss: reach=0: give a whole number from 1 to 1024"),
        (["loss=edge_weighted", "loss.amount=-1"], "loss: amount=-1: give a number of at least 0"),
    ],
)
def test_a_value_that_is_out_of_range_is_refused(overrides, told):
    with pytest.raises(ValueError, match=told):
        build.loss(composed(*overrides)["loss"], 1)


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


def test_smoothed_labels_are_torchs():
    logits, target = picture(3)
    smoothed = build.loss(composed("loss=ce", "loss.label_smoothing=0.2", "model.classes=3")["loss"], 3)
    expected = torch.nn.CrossEntropyLoss(ignore_index=255, label_smoothing=0.2)
    torch.testing.assert_close(smoothed(logits, target), expected(logits, target))
    one, target = picture(1)  # one channel is the second of two with zeros beside it
    smoothed = build.loss(composed("loss=bce", "loss.label_smoothing=0.2")["loss"], 1)
    two = torch.cat([torch.zeros_like(one), one], 1)
    torch.testing.assert_close(smoothed(one, target), expected(two, target))


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
        ("bce_dice", "loss.weights.dice=heavy", 1, "loss.weights.dice=heavy: give a number"),
        ("bce_dice", "loss.weights=null", 1, "loss.weights=None: give losses by their names, and a weight for each"),
    ],
)
def test_weights_that_do_not_fit_are_one_sentence(name, typed, classes, sentence):
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
    target[0] = 255  # nobody knows who is there
    torch.testing.assert_close(losses.presence_loss(labels, target, 1), torch.nn.functional.softplus(labels[1, 0]))


@pytest.mark.parametrize(
    ("outputs", "weights", "sentence"),
    [
        ([(2, 1, 16, 16)] * 2, [1.0], r"trainer.output_weights=\[1.0\]: the network has 2 outputs"),
        ([(2, 1, 8, 8)], None, r"output 1 of the network has the shape \(2, 1, 8, 8\): it must be logits NxCxHxW"),
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

    with pytest.raises(
        ValueError, match="the loss asks for depth: beside logits and target there are images and teacher"
    ):
        losses.check(Depth(), 1)


def test_a_loss_that_gives_no_reason_is_one_sentence_too():
    class Picky(torch.nn.Module):
        def forward(self, logits, target):
            raise AssertionError

    with pytest.raises(ValueError, match="the loss does not fit model.classes=1: AssertionError"):
        losses.check(Picky(), 1)


class Gives(torch.nn.Module):
    """A loss that gives what a function makes of the logits."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, logits, target):
        return self.made(logits)


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (torch.nn.functional.mse_loss, "the loss is a function: it must be a torch.nn.Module"),
        (Gives(lambda logits: 0.5), "it gives a float, not a scalar tensor or a dict of them"),
        (Gives(lambda logits: {}), "it gives a dict, not a scalar tensor"),
        (Gives(lambda logits: {"one": logits.mean(), "two": 0.5}), "it gives a dict, not a scalar tensor"),
        (Gives(lambda logits: {}["two"]), "the loss does not fit model.classes=1: 'two'"),
        (
            Gives(lambda logits: logits.nothing),
            "the loss does not fit model.classes=1: 'Tensor' object has no attribute",
        ),
    ],
)
def test_what_is_no_loss_is_one_sentence(loss, sentence):
    with pytest.raises(ValueError, match=sentence):
        losses.check(loss, 1)
