"""The loop: accumulation, averages, several optimizers, plateaus, early stops, and a loss that goes wrong."""

import copy
import dataclasses
import io
import math

import pytest
import torch
from torch import nn

from humanseg import checkpoint, freezing, loop, metrics, tally
from humanseg.compute import Compute
from humanseg.data.loading import Data, LoaderConfig
from humanseg.data.mix import together
from humanseg.data.splits.split import SplitConfig, split
from humanseg.ema import average
from humanseg.hardness import Hardness
from humanseg.history import best_epoch
from humanseg.logs.model_summary import summarise_model
from humanseg.losses import BinaryCrossEntropy
from humanseg.restoring import restore
from humanseg.schedules import Plateau, Schedule, constant, poly

COMPUTE = Compute(torch.device("cpu"), "fp32", True, [0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
SETTINGS = {"epochs": 2, "steps": 3, "monitor": "val/iou"}


def squares(count: int = 12) -> list:
    """Photographs whose bright pixels are the person."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(count, 32, 32, generator=generator) > 0.6
    return [(mask[..., None].repeat(1, 1, 3).mul(150).add(50).byte().numpy(), mask.byte().numpy()) for mask in masks]


class Source(list):
    names = [f"{number}.png" for number in range(12)]


def data(batch_size: int = 2, samples: list | None = None, val_split: int = 4, val_batch_size: int = 3) -> Data:
    parts = split({"train": Source(samples or squares())}, SplitConfig(val_split))
    return Data(together({"": parts}), LoaderConfig(32, batch_size, val_batch_size))


def state(schedule=None, ema: float = 0.0, lr: float = 0.5, norm: bool = False) -> loop.State:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4) if norm else nn.ReLU(), nn.Conv2d(4, 1, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return loop.State(network, average(network, ema), {"model": optimizer}, schedule or Schedule(6, constant), scaler)


def fit(given: loop.State, found=None, react=None, compute=COMPUTE, loss=None, hooks=None, **settings) -> loop.State:
    counted, loss = metrics.find(["iou", "boundary_iou"]), loss or BinaryCrossEntropy(1)
    setup = loop.Setup(found or data(), compute, loss, counted, loop.Settings(**SETTINGS | settings))
    loop.fit(given, setup, hooks or (loop.Hooks(on_epoch=react) if react else loop.Hooks()))
    return given


def test_it_learns_and_logs_each_epoch():
    trained = fit(state(), epochs=8)
    assert [log["epoch"] for log in trained.history] == list(range(1, 9)) and trained.step == 24
    last = trained.history[-1]
    assert last["train/loss"] < 0.7 * trained.history[0]["train/loss"] and last["val/iou"] > 0.9
    assert {"train/iou", "val/loss", "val/boundary_iou", "grad_norm", "lr"} < last.keys()
    assert "train/boundary_iou" not in last and 0 <= last["time/data_wait_share"] <= 1


def test_accumulated_batches_make_the_step_of_one_large_batch():
    one, several = fit(state(), data(4)), fit(state(), data(2), accumulate=2)
    for ours, theirs in zip(one.model.parameters(), several.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert one.history[-1]["train/loss"] == pytest.approx(several.history[-1]["train/loss"], rel=1e-4)


def test_an_epoch_counted_in_steps_goes_on_through_the_data():
    seen, found = [], data(2)
    stream = found.train_batches
    found.train_batches = lambda *given: (seen.append(given[:2]), stream(*given))[1]
    trained = fit(state(), found, epochs=3, steps=7)  # a pass has 4 batches
    assert trained.step == 21 and seen == [(0, 21)]


def test_gradients_are_clipped_and_their_norm_is_logged_before():
    free, clipped = state(), state()
    before = copy.deepcopy(clipped.model)
    fit(free, epochs=1, steps=1), fit(clipped, epochs=1, steps=1, grad_clip=0.01)
    assert (
        free.history[0]["grad_norm"] == pytest.approx(clipped.history[0]["grad_norm"])
        and free.history[0]["grad_norm"] > 0.01
    )
    moved = [(new - old).norm() for new, old in zip(clipped.model.parameters(), before.parameters(), strict=True)]
    assert torch.stack(moved).norm().item() == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_the_average_follows_the_weights_and_is_what_validation_uses():
    given = state(ema=0.99, norm=True)
    expected, count = copy.deepcopy(given.model.state_dict()), 0

    class Optimizer(torch.optim.SGD):
        def step(self, *arguments):
            nonlocal count
            super().step(*arguments)
            weight = min(0.99, (1 + count) / (10 + count)) if count else 0
            for key, value in given.model.state_dict().items():
                if value.is_floating_point():
                    expected[key] = weight * expected[key] + (1 - weight) * value
            count += 1

    given.optimizers = {"model": Optimizer(given.model.parameters(), lr=0.5)}
    fit(given)
    assert given.evaluated is given.ema.module
    for key, value in given.ema.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-6, msg=key)
        else:
            assert torch.equal(value, given.model.state_dict()[key])


def test_hard_samples_are_the_same_for_any_workers_and_after_an_interruption():
    def hard() -> loop.State:
        given = state(lr=0.1, norm=True)
        given.hardness = Hardness(1.0, 8, (3, 2), COMPUTE.device)
        return given

    def stop(given: loop.State) -> None:
        if given.step == 5:
            torch.save(checkpoint.pack(given, {"model": {"_target_": "a", "classes": 1}}), file)
            raise KeyboardInterrupt

    straight, file = fit(hard(), epochs=3), io.BytesIO()
    found = data()
    by_workers = fit(
        hard(), dataclasses.replace(found, config=dataclasses.replace(found.config, num_workers=2)), epochs=3
    )
    with pytest.raises(KeyboardInterrupt):
        fit(hard(), hooks=loop.Hooks(after_step=stop), epochs=3)
    file.seek(0)
    restore(resumed := hard(), torch.load(file, weights_only=True), COMPUTE.device)
    fit(resumed, epochs=3)
    for other in (by_workers, resumed):
        both = ((one.model.state_dict(), one.hardness.state_dict()) for one in (straight, other))
        torch.testing.assert_close(*both, rtol=0, atol=0, equal_nan=True)
    even = fit(state(lr=0.1, norm=True), epochs=3)
    assert not torch.equal(straight.model[0].weight, even.model[0].weight)
    first, last = (data().train_positions(6, 9, factors) for factors in (None, straight.hardness.factors()))
    known = straight.hardness.known
    assert known[last.flatten()].nanmean() > known[first.flatten()].nanmean()


def test_one_schedule_scales_each_optimizers_rate():
    given = state(Schedule(6, poly))
    first, second = given.model[0], given.model[2]
    given.optimizers = {
        "first": torch.optim.SGD(first.parameters(), lr=0.1),
        "second": torch.optim.Adam(second.parameters(), lr=0.01),
    }
    fit(given)
    for log, step in zip(given.history, (2, 5), strict=True):
        assert log["lr/first"] == pytest.approx(0.1 * (1 - step / 6) ** 0.9)
        assert log["lr/second"] == pytest.approx(0.01 * (1 - step / 6) ** 0.9)


class Parts(nn.Module):
    """A network with an encoder, of which the first layer is never trained."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.decoder = nn.Conv2d(4, 1, 1)
        self.encoder[0].bias.requires_grad_(False)

    def forward(self, images):
        return self.decoder(self.encoder(images))


def thawing(kind: type, together: bool, **settings) -> loop.State:
    """Parts with one optimizer, or one for each part."""
    given, network = state(), torch.manual_seed(0) and Parts()
    parts = {"model": network} if together else {"encoder": network.encoder, "decoder": network.decoder}
    trained = {name: [one for one in part.parameters() if one.requires_grad] for name, part in parts.items()}
    optimizers = {name: kind(parameters, lr=0.1, **settings) for name, parameters in trained.items()}
    freezing.group_apart(network, optimizers.values())
    return dataclasses.replace(given, model=network, optimizers=optimizers)


@pytest.mark.parametrize(
    ("precision", "together", "kind", "settings"),
    [
        ("fp32", True, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
        ("fp16", False, torch.optim.SGD, {"momentum": 0.9}),
        ("fp32", True, torch.optim.AdamW, {}),
    ],
    ids=["sgd", "two optimizers with loss scaling", "adamw"],
)
def test_a_frozen_encoder_stays_as_it_is_and_thaws_after_its_epochs(precision, together, kind, settings):
    given, seen = thawing(kind, together, fused=True, **settings), []
    given.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, enabled=precision == "fp16")
    begun = copy.deepcopy(given.model.state_dict())

    def look(now: loop.State) -> None:
        if now.model.training:  # after a step, not in a validation
            seen.append({key for key, value in now.model.state_dict().items() if not torch.equal(value, begun[key])})

    compute = dataclasses.replace(COMPUTE, precision=precision)
    fit(given, compute=compute, hooks=loop.Hooks(after_step=look), epochs=3, freeze_encoder=2)
    decoder = {"decoder.weight", "decoder.bias"}
    assert seen[:6] == 6 * [decoder] and seen[6:] == 3 * [begun.keys() - {"encoder.0.bias"}]


def test_a_thawed_encoder_steps_as_one_that_begins():
    given = thawing(torch.optim.AdamW, True, weight_decay=0.1)
    frozen, setting = given.model.encoder[0].weight, {"freeze_encoder": 1, "steps": 2}
    before = frozen.detach().clone()
    fit(given, epochs=1, **setting)
    assert torch.equal(frozen, before) and frozen not in given.optimizers["model"].state
    fit(given, epochs=2, **setting)
    assert given.optimizers["model"].state[frozen]["step"] == 2
    assert given.optimizers["model"].state[given.model.decoder.weight]["step"] == 4


def scripted(values: list[float]):
    """A callback that plays the monitored metric."""

    def react(record) -> None:
        record.log["val/iou"] = values[record.epoch - 1]

    return react


def test_early_stopping_waits_for_its_patience():
    values = [0.5, 0.6, 0.6, 0.55, 0.7, 0.1]
    trained = fit(state(), react=scripted(values), epochs=6, early_stop=2)
    assert trained.epoch == 4
    assert best_epoch(trained.history, "val/iou", "max")["epoch"] == 2
    assert fit(state(), react=scripted(values), epochs=6, early_stop=3).epoch == 6


def test_a_plateau_lowers_the_rate_when_the_monitor_stands_still():
    trained = fit(state(Schedule(12, Plateau(0.1, patience=0))), react=scripted([0.5, 0.4, 0.6, 0.6]), epochs=4)
    assert [log["lr"] for log in trained.history] == pytest.approx([0.5, 0.5, 0.05, 0.05])


def test_validation_every_other_epoch_and_always_at_the_end():
    trained = fit(state(), epochs=5, val_every=2)
    assert ["val/iou" in log for log in trained.history] == [False, True, False, True, True]


def test_what_a_callback_adds_can_be_monitored():
    values = iter([3.0, 1.0])

    def react(record) -> None:
        record.log["val/mine"] = next(values)

    trained = fit(state(), react=react, monitor="val/mine", monitor_mode="min")
    assert best_epoch(trained.history, "val/mine", "min")["epoch"] == 2


def test_a_monitor_that_is_not_there_lists_those_that_are():
    with pytest.raises(ValueError, match="trainer.monitor=val/mine: no such value; there are .*val/iou"):
        fit(state(), monitor="val/mine")


def test_without_validation_the_last_epoch_is_the_best():
    trained = fit(state(), data(val_split=0), monitor=None)
    assert best_epoch(trained.history, None, "max") is trained.history[-1]
    assert not any(name.startswith("val/") for name in trained.history[-1])


def test_a_loss_that_is_not_finite_stops_and_names_step_and_batch():
    given, found = state(), data()
    names = found.batch_names(4)

    class Breaks(nn.Module):
        calls = 0

        def forward(self, logits, target):
            self.calls += 1
            return logits.mean() * (math.nan if self.calls == 5 and logits.requires_grad else 1)

    with pytest.raises(ValueError, match=f"not finite at step 5: .*{names[0]}, {names[1]}"):
        fit(given, found, loss=Breaks(), epochs=1, steps=8)
    assert given.epoch == 0


def test_weights_that_are_not_finite_after_the_last_step_are_one_sentence():
    given = state(lr=1e38)
    with pytest.raises(ValueError, match=r"the weights are not finite after step 1: try a smaller optimizer.lr"):
        fit(given, epochs=1, steps=1, loss=Steep())
    assert given.epoch == 0


class Steep(nn.Module):
    def forward(self, logits, target):
        return logits.mean() * 1e6


class Several(nn.Conv2d):
    """A network whose second output is of half the size, and wrong."""

    def forward(self, images):
        logits = super().forward(images)
        return (logits, -logits[:, :, ::2, ::2])


class SeesThem(BinaryCrossEntropy):
    """A loss that asks for the photographs: the person's pixels are the bright ones."""

    def forward(self, logits, target, images):
        assert torch.equal(images[..., 0] > 100, target == 1) and images.dtype == torch.uint8
        return super().forward(logits, target)


def test_of_several_outputs_validation_has_the_first_and_the_loss_gets_the_photographs():
    def trained(network, **settings) -> loop.State:
        given = state()
        torch.manual_seed(0)
        given.model = network(3, 1, 1)
        given.optimizers = {"model": torch.optim.SGD(given.model.parameters(), lr=0.5)}
        return fit(given, loss=SeesThem(1), **settings)

    one, first, both = trained(nn.Conv2d), trained(Several, output_weights=[1, 0]), trained(Several)
    assert torch.equal(one.model.weight, first.model.weight) and not torch.equal(one.model.weight, both.model.weight)
    for name in ("train/loss", "train/iou", "val/loss", "val/iou"):
        assert one.history[-1][name] == first.history[-1][name], name
    assert both.history[-1]["train/loss"] == pytest.approx(
        both.history[-1]["train/loss_output1"] + both.history[-1]["train/loss_output2"]
    )
    assert "train/loss_output1" not in one.history[-1]


def test_an_output_that_is_no_number_is_one_sentence():
    outputs = [(torch.full((1, 1, 4, 4), math.nan), torch.zeros(1, 4, 4, dtype=torch.uint8))]
    with pytest.raises(ValueError, match="the network's output is not a number"):
        tally.evaluate({"": outputs}, metrics.find(["iou"]))


def test_a_network_that_returns_no_logits_is_one_sentence():
    given = state()
    given.model.register_forward_hook(lambda module, inputs, output: {"out": output})
    with pytest.raises(ValueError, match="the network returns a dict: it must be logits NxCxHxW, or a list of logits"):
        fit(given)


@pytest.mark.parametrize(
    ("network", "shape"), [(nn.Conv2d(3, 1, 2, 2), r"\(1, 1, 16, 16\)"), (nn.Conv2d(3, 2, 1), r"\(1, 2, 32, 32\)")]
)
def test_logits_of_another_size_or_of_other_classes_are_one_sentence(network, shape):
    with pytest.raises(
        ValueError, match=f"Conv2d gives {shape} for a 3x32x32 image: its first output must be logits 1x"
    ):
        summarise_model(network, 32, 1)


def test_one_photograph_under_batch_norm_after_global_pooling_is_one_sentence():
    given = state()
    given.model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
    with pytest.raises(ValueError, match=r"data.batch_size=1 over 1 processes \(trainer.devices\)"):
        fit(given, data(1))


def test_fp16_skips_a_step_whose_gradients_overflow():
    given = state()
    given.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = copy.deepcopy(given.model.state_dict())
    fit(given, epochs=1, steps=1, compute=dataclasses.replace(COMPUTE, precision="fp16"))
    assert all(torch.equal(value, before[key]) for key, value in given.model.state_dict().items())
    assert given.scaler.get_scale() < 2.0**40


def test_gradients_that_overflow_in_one_part_spoil_no_other():
    given = thawing(torch.optim.SGD, False)
    given.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    given.model.encoder[0].weight.register_hook(lambda gradient: gradient * math.inf)
    before = copy.deepcopy(given.model.state_dict())
    fit(given, epochs=1, steps=1)
    moved = {key for key, one in given.model.named_parameters() if not torch.equal(one, before[key])}
    assert moved == {"decoder.weight", "decoder.bias"} and all(one.isfinite().all() for one in given.model.parameters())


def test_evaluation_does_not_depend_on_the_batch_size():
    given, names = state(), metrics.find(["iou", "iou_per_image", "boundary_iou", "accuracy"])
    results = []
    for batch_size in (1, 3, 4):
        batches = data(val_batch_size=batch_size).eval_batches("val")
        outputs = tally.network_outputs(given.model, batches, COMPUTE)
        results.append(tally.evaluate({"": outputs}, names, BinaryCrossEntropy(1))[0])
    for other in results[1:]:
        assert other == pytest.approx(results[0], rel=1e-5)


def test_a_source_alone_has_no_values_of_its_own():
    given, names = state(), metrics.find(["iou"])
    outputs = list(tally.network_outputs(given.model, data().eval_batches("val"), COMPUTE))
    alone, counts, ious = tally.evaluate({"one": outputs}, names, BinaryCrossEntropy(1))
    assert set(alone) == {"loss", "iou"}
    both, twice, each = tally.evaluate({"one": outputs, "other": outputs}, names, BinaryCrossEntropy(1))
    assert both == alone | {f"{prefix}{name}": alone[name] for prefix in ("mean_", "one/", "other/") for name in alone}
    assert torch.equal(twice.confusion, 2 * counts.confusion) and torch.equal(each, ious.repeat(2))


def test_a_source_without_people_has_no_part_in_the_mean_over_the_sources():
    person, nobody = (torch.full((1, 8, 8), kind, dtype=torch.uint8) for kind in (1, 0))
    hit = torch.full((1, 1, 8, 8), 4.0)
    outputs = {"people": [(hit, person)], "places": [(hit, nobody)]}
    values = tally.evaluate(outputs, metrics.find(["iou"]))[0]
    assert (values["people/iou"], values["places/iou"], values["mean_iou"]) == (1, 0, 1)
    values = tally.evaluate({"here": [(hit, nobody)], "there": [(-hit, nobody)]}, metrics.find(["iou"]))[0]
    assert values["mean_iou"] == 0.5


def test_sums_of_an_earlier_version_are_added_up_further():
    logits, target, loss = torch.ones(1, 1, 4, 4), torch.ones(1, 4, 4), torch.tensor(0.5)
    whole, before, after = (tally.Tally(torch.device("cpu")) for _ in range(3))
    for one in (whole, whole, before):
        one.add(logits, target, {"loss": loss})
    saved = before.state_dict()
    del saved["counts"]["image_boundary_iou"]  # which they lacked until 2026-11-26
    after.load_state_dict(saved)
    after.add(logits, target, {"loss": loss})
    for name, value in vars(whole.counts).items():
        assert torch.equal(value, vars(after.counts)[name]), name
