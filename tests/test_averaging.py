"""The weights at the end of training: their mean, their statistics, and when they are the best."""

import copy
import math

import pytest
import torch
from conftest import TINY, rows, saved, summary
from torch import nn

from humanseg import averaging, build, checkpoint
from humanseg.compute import Compute
from humanseg.history import stops_early

COMPUTE = Compute(torch.device("cpu"), "fp32", True, [0.5, 0.5, 0.5], [0.25, 0.25, 0.25])


@pytest.mark.parametrize(
    ("choices", "held"),
    [(["trainer.monitor=null"], "model"), (["trainer.monitor=null", "trainer.ema=0.5"], "ema")],
    ids=["weights", "moving averages"],
)
def test_the_average_is_the_mean_of_the_last_epochs_checkpoints(run, choices, held):
    folder = run(*TINY, "trainer.epochs=3", "trainer.average_last=2", "trainer.save_every=1", *choices).folder
    files = sorted(file.name for file in (folder / "checkpoints").glob("recent_*"))
    assert files == ["recent_0002.pt", "recent_0003.pt"]
    second, third = (saved(folder, f"epoch_{number:04d}.pt")[held] for number in (2, 3))
    best, last = saved(folder, "best.pt"), saved(folder, "last.pt")
    for key, value in best["ema"].items():
        if value.is_floating_point():
            torch.testing.assert_close(
                value.double(), (second[key].double() + third[key].double()) / 2, rtol=1e-5, atol=1e-7
            )
    assert best["averaged"] == 2 and last["averaged"] == 0
    torch.testing.assert_close(last[held], third, rtol=0, atol=0)  # training goes on from its own weights


def test_checkpoints_that_are_averaged_stay_beyond_four_digits(tmp_path):
    for epoch in (9998, 9999, 10_000):
        averaging.recent(tmp_path, epoch).touch()
    averaging.drop_recent(tmp_path, 9998)
    assert {file.name for file in tmp_path.iterdir()} == {"recent_9999.pt", "recent_10000.pt"}


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, momentum=0.01), nn.Dropout(0.5))


def test_statistics_are_those_of_a_plain_pass(network):
    batches = torch.randint(0, 256, (3, 4, 8, 8, 3), dtype=torch.uint8)
    before, drawn = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    averaging.reestimate(network.eval(), iter(batches), COMPUTE)
    outputs = [
        network[0]((batch.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25).transpose(0, 1).flatten(1) for batch in batches
    ]
    norm = network[1]
    torch.testing.assert_close(norm.running_mean, torch.stack([one.mean(1) for one in outputs]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([one.var(1) for one in outputs]).mean(0))
    assert norm.momentum == 0.01 and norm.num_batches_tracked == 3
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items() if "weight" in key)


def test_a_checkpoint_that_holds_no_numbers_is_named(tiny_once, tmp_path):
    path = tiny_once / "checkpoints" / "best.pt"
    payload = checkpoint.load(path)
    network = build.model_of(payload, payload["config"]["model"], path)
    assert all(torch.equal(value, payload["model"][key]) for key, value in averaging.mean(network, [path] * 2).items())
    payload["model"]["encoder.features.0.1.running_var"][3] = math.inf
    checkpoint.save(tmp_path / "recent_0002.pt", payload)
    with pytest.raises(ValueError, match="recent_0002.pt: its weights are not finite"):
        averaging.mean(network, [path, tmp_path / "recent_0002.pt"])


@pytest.mark.parametrize(("monitor", "wins"), [("null", True), ("train/loss", False)])
def test_weights_with_new_statistics_are_validated_and_told(run, monitor, wins):
    done = run(*TINY, "trainer.reestimate_batchnorm=2", f"trainer.monitor={monitor}")
    *trained, row = rows(done.folder)
    assert [one["averaged"] for one in trained] == ["", ""] and (row["averaged"], row["epoch"]) == ("1", "2")
    assert 0 <= float(row["val/iou"]) <= 1 and row["val/iou"] != trained[-1]["val/iou"] and not row["train/loss"]
    best, of_last = saved(done.folder, "best.pt"), saved(done.folder, "last.pt")["model"]
    assert ("averaged" in summary(done.folder)["best"]) == (best["averaged"] == 1) == wins
    if wins:
        same = {key: torch.equal(value, of_last[key]) for key, value in best["ema"].items()}
        assert {key for key, equal in same.items() if not equal} == {
            key for key in same if "running_" in key or "num_" in key
        }
        assert "best       epoch 2, average of 1" in done.stdout


def test_an_average_is_no_reason_to_go_on_after_an_early_stop():
    history = [{"val/iou": 0.5}, {"val/iou": 0.4}, {"val/iou": 0.6, "averaged": 2}]
    assert stops_early(history, "val/iou", "max", 1)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["trainer.average_last=3"], "trainer.average_last=3: there are 2 epochs (trainer.epochs); give at most 2"),
        (["trainer.freeze_encoder=-1"], "trainer.freeze_encoder=-1: give a whole number of at least 1, or null"),
        (
            ["trainer.reestimate_batchnorm=9", "model._target_=bare.Bare", "~model.encoder_name"],
            "trainer.reestimate_batchnorm=9: Bare has no batch norm; give null",
        ),
        (
            ["trainer.freeze_encoder=1", "model._target_=bare.Bare", "~model.encoder_name"],
            "trainer.freeze_encoder: Bare has no encoder, its parts are body; give null",
        ),
        (
            ["trainer.freeze_encoder=1", "model._target_=bare.Whole", "~model.encoder_name"],
            "trainer.freeze_encoder: of Whole nothing but the encoder trains; give null",
        ),
    ],
)
def test_what_can_not_be_averaged_frozen_or_estimated_is_one_sentence(run, tmp_path, monkeypatch, typed, sentence):
    (tmp_path / "bare.py").write_text(
        "import torch\n\n\nclass Bare(torch.nn.Module):\n    def __init__(self, classes, **others):\n"
        "        super().__init__()\n        self.body = torch.nn.Conv2d(3, classes, 1)\n\n"
        "    def forward(self, images):\n        return self.body(images)\n\n\n"
        "class Whole(Bare):\n    encoder = property(lambda self: self.body)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run(*TINY, *typed, code=1).stderr.splitlines()[-1] == f"error: {sentence}"
