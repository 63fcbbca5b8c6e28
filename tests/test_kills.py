"""A run that is killed anywhere, as often as one likes, and resumed ends as one that was never touched: to the bit."""

import csv
import random
import time

import pytest
import torch
from conftest import TINY
from killing import finish, kill_after

BASE = [item for item in TINY if "num_workers" not in item and "steps_per_epoch" not in item]
RECIPES = {
    "workers, accumulation, average, onecycle": [
        "data.num_workers=2", "trainer.accumulate=2", "trainer.ema=0.9", "augment=portrait", "trainer.epochs=4",
        "trainer.save_minutes=0", "trainer.save_every=2",
    ],
    "two optimizers, plateau, early stop": [
        "data.num_workers=0", "optimizer=encoder_decoder", "scheduler=plateau", "scheduler.curve.patience=0",
        "scheduler.curve.factor=0.5", "trainer.early_stop=3", "trainer.epochs=9", "augment=classic",
        "trainer.save_minutes=0.002",
    ],
    "adam, cosine, bf16, an epoch in steps, epochs alone": [
        "data.num_workers=1", "optimizer=adamw", "scheduler=cosine", "trainer.precision=bf16", "loss=bce_dice",
        "trainer.steps_per_epoch=3", "trainer.epochs=5", "trainer.save_minutes=null", "trainer.val_every=2",
    ],
}  # fmt: skip


def result(folder) -> tuple[dict, list[dict]]:
    """All of a run that must be the same: the checkpoints' tensors and history, and metrics.csv, times aside."""
    checkpoints = {}
    for name in ("last.pt", "best.pt"):
        saved = torch.load(folder / "checkpoints" / name, weights_only=True)
        parts = ("epoch", "step", "model", "ema", "ema_updates", "optimizers", "schedule", "random")
        checkpoints[name] = {part: saved[part] for part in parts} | {
            "history": [untimed(row) for row in saved["history"]]
        }
    return checkpoints, [untimed(row) for row in csv.DictReader((folder / "metrics.csv").open())]


def untimed(row: dict) -> dict:
    return {name: value for name, value in row.items() if not name.startswith("time/")}


def assert_same(one, other) -> None:
    assert one[1] == other[1]
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=0)


@pytest.fixture(scope="module", params=RECIPES)
def straight(request, tmp_path_factory):
    """An untouched run: its arguments, result and seconds."""
    folder = tmp_path_factory.mktemp("straight")
    arguments = [*BASE, *RECIPES[request.param], f"out={folder}"]
    started = time.monotonic()
    finish(folder / "log", *arguments, f"hydra.run.dir={folder}/run")
    return [*BASE, *RECIPES[request.param]], result(folder / "run"), time.monotonic() - started


def kill_and_resume(arguments, seconds, folder, kills: int, seed: int) -> int:
    """Kill at random instants until the run is done or `kills` are survived; returns how many were."""
    draw, survived = random.Random(seed), 0
    begin = [*arguments, f"out={folder}", f"hydra.run.dir={folder}/run"]
    while survived < kills:
        begun = (folder / "run" / ".hydra" / "overrides.yaml").exists()
        if not kill_after(
            draw.uniform(0.1, 0.9) * seconds, folder / "log", *([f"resume={folder}/run"] if begun else begin)
        ):
            break
        survived += 1
    finish(folder / "log", f"resume={folder}/run")
    return survived


def test_kills_at_random_instants_change_nothing(straight, tmp_path, record_property):
    arguments, expected, seconds = straight
    survived, round_ = 0, 0
    while survived < 4:  # 3 recipes: 12 in all
        folder = tmp_path / str(round_)
        folder.mkdir()
        survived += kill_and_resume(arguments, seconds, folder, 4 - survived, seed=round_)
        assert_same(result(folder / "run"), expected)
        round_ += 1
    record_property("kills", survived)
