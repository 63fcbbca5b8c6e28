"""A run that is killed anywhere, as often as one likes, and resumed ends as one that was never touched: to the bit."""

import random
import signal
import time
from functools import cache
from pathlib import Path

import pytest
import torch
from conftest import ON_FILES, TINY, rows, saved, summary, write_people
from killing import finish, kill_after, kill_at, start

from humanseg.runs import find

BASE = [item for item in TINY if "num_workers" not in item and "steps_per_epoch" not in item]
RECIPES = {
    "workers, accumulation, average, onecycle": [
        "data.num_workers=2", "trainer.accumulate=2", "trainer.ema=0.9", "augment=portrait", "trainer.epochs=3",
        "trainer.save_minutes=0", "trainer.save_every=2", "trainer.average_last=2", "trainer.reestimate_batchnorm=3",
        "trainer.monitor=null", "trainer.hard=0.5",
    ],
    "two optimizers, plateau, early stop": [
        "data.num_workers=0", "optimizer=encoder_decoder", "scheduler=plateau", "scheduler.curve.patience=0",
        "scheduler.curve.factor=0.5", "trainer.early_stop=3", "trainer.epochs=7", "augment=classic",
        "trainer.freeze_encoder=2",
        "trainer.save_minutes=0.002",
    ],
    "adam, cosine, bf16, an epoch in steps, epochs alone, several outputs": [
        "data.num_workers=1", "optimizer=adamw", "scheduler=cosine", "trainer.precision=bf16", "loss=bce_dice",
        "trainer.steps_per_epoch=3", "trainer.epochs=4", "trainer.save_minutes=null", "trainer.val_every=2",
        "model=unet_mbv2_deep", "loss.terms.bce.pos_weight=2", "data.image_size=64", "trainer.sizes=[32,64]",
    ],
}  # fmt: skip


def result(folder: Path) -> tuple[dict, list[dict]]:
    """All of a run that must be the same: the checkpoints' tensors and history, and metrics.csv, times aside."""
    checkpoints = {}
    for name in ("last.pt", "best.pt"):
        found = saved(folder, name)
        parts = ("epoch", "step", "model", "ema", "ema_updates", "optimizers", "schedule", "random", "hardness")
        history = [untimed(row) for row in found["history"]]
        checkpoints[name] = {part: found[part] for part in parts} | {"history": history}
    return checkpoints, [untimed(row) for row in rows(folder)]


def untimed(row: dict) -> dict:
    return {name: value for name, value in row.items() if not name.startswith("time/")}


def assert_same(folder: Path, expected: tuple[dict, list[dict]]) -> None:
    assert summary(folder)["status"] == "completed"
    found = result(folder)
    assert found[1] == expected[1]
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0, equal_nan=True)  # of a sample that no epoch had


class Straight:
    """A run that nothing touched: its arguments, what came out, and how long it took."""

    def __init__(self, folder: Path, recipe: str):
        self.arguments = [*BASE, *RECIPES[recipe]]
        started = time.monotonic()
        finish(folder / "log", *self.arguments, f"out={folder}", f"hydra.run.dir={folder}/run")
        self.seconds = time.monotonic() - started
        self.result = result(folder / "run")

    def beginning(self, folder: Path) -> list[str]:
        """What to type to begin, or to go on, in a folder."""
        begun = (folder / "run" / ".hydra" / "overrides.yaml").exists()
        return [f"resume={folder}/run"] if begun else [*self.arguments, f"hydra.run.dir={folder}/run"]


@pytest.fixture(scope="module")
def straights(tmp_path_factory):
    """The untouched run of a recipe, which is made once."""
    return cache(lambda recipe: Straight(tmp_path_factory.mktemp("straight"), recipe))


@pytest.fixture(params=RECIPES)
def straight(request, straights) -> Straight:
    return straights(request.param)


@pytest.fixture
def simple(straights) -> Straight:
    return straights("workers, accumulation, average, onecycle")


def kill_and_resume(straight: Straight, place: Path, kills: int, seed: int) -> None:
    """Begin runs and kill them at random instants until `kills` are survived; each ends as the untouched one did."""
    draw, survived, number, seconds = random.Random(seed), 0, 0, straight.seconds
    while survived < kills:
        folder = place / str(number)
        folder.mkdir()
        log, started, before = folder / "log", time.monotonic(), survived
        while survived < kills:
            if not kill_after(draw.uniform(0.1, 0.9) * seconds, log, *straight.beginning(folder)):
                break
            survived += 1
        if survived == before:  # it was quicker than the untouched one: the machine is less busy by now
            seconds = time.monotonic() - started
        finish(log, f"resume={folder}/run")
        assert_same(folder / "run", straight.result)
        number += 1


def test_kills_at_random_instants_change_nothing(straight, tmp_path):
    kill_and_resume(straight, tmp_path, kills=2, seed=1)  # of each recipe, 6 in all


@pytest.mark.slow
def test_a_hundred_kills_change_nothing(straight, tmp_path):
    kill_and_resume(straight, tmp_path, kills=34, seed=2)  # of each recipe, 102 in all


PHASES = [  # in the order in which a run comes through them
    "humanseg.build:model",
    "humanseg.runs.summary:Run.__init__",
    "humanseg.logs.journal:open_board",
    "humanseg.logs.journal:outlined",
    "humanseg.loop:total_loss",
    "torch.optim:SGD.step",
    "torch:save",
    "os:fsync",
    "humanseg.loop:network_outputs",
    "humanseg.metrics:boundary_counts",
    "humanseg.loop:finish_epoch",
    "humanseg.logs.journal:best_and_worst",
    "humanseg.logs.journal:log_values",
    "humanseg.runs.atomic:_link",
    "os:replace",
    "humanseg.runs.summary:Run.write_metrics",
    "humanseg.logs.journal:epoch_line",
    "humanseg.averaging:mean",
    "humanseg.averaging:update_bn",
    "humanseg.averaging:validate",
    "humanseg.checkpoint:pack",
    "humanseg.logs.lines:averaged_line",
    "humanseg.logs.journal:log_hparams",
    "humanseg.logs.journal:Journal.close",
]


def test_a_kill_in_each_phase_changes_nothing(simple, tmp_path):
    """One run that dies in all of them, one after another."""
    for at in PHASES:
        kill_at(at, tmp_path / "log", *simple.beginning(tmp_path))
    if summary(tmp_path / "run")["status"] != "completed":
        finish(tmp_path / "log", *simple.beginning(tmp_path))
    assert_same(tmp_path / "run", simple.result)


def test_a_kill_between_the_validation_of_two_sources_changes_nothing(tmp_path):
    people = [write_people(tmp_path / name, 8, size) for name, size in (("near", (48, 40)), ("far", (40, 60)))]
    mix = [
        *ON_FILES,
        "data=folder",
        f"data.root=[{people[0]},{people[1]}]",
        "data.val_split=3",
        "trainer.save_minutes=0",
    ]
    arguments = [*mix, "trainer.monitor=val/mean_iou", "trainer.epochs=1", f"out={tmp_path}"]
    finish(tmp_path / "log", *arguments, f"hydra.run.dir={tmp_path}/straight")
    kill_at("humanseg.tally:_add_up", tmp_path / "log", *arguments, f"hydra.run.dir={tmp_path}/run", call=2)
    assert saved(tmp_path / "run")["tally"] and not saved(tmp_path / "run")["history"]
    finish(tmp_path / "log", f"resume={tmp_path}/run")
    assert_same(tmp_path / "run", result(tmp_path / "straight"))


def test_a_signal_saves_says_how_to_go_on_and_changes_nothing(simple, tmp_path):
    """One run that each of the signals stops, one after another."""
    in_a_step, in_a_validation = "torch.optim:SGD.step", "humanseg.metrics:boundary_counts"
    for number, at, code, step in (
        (signal.SIGINT, in_a_step, 130, 2),
        (signal.SIGTERM, in_a_validation, 143, 4),
        (signal.SIGUSR1, in_a_step, 143, 5),
        (signal.SIGUSR2, in_a_validation, 143, 6),  # of the averaged weights
    ):
        arguments = [*simple.beginning(tmp_path), "trainer.save_minutes=null"]
        told = finish(tmp_path / "log", *arguments, at=at, calls=(2,), number=number, code=code)
        assert f"{number.name}: finishing the step" in told
        assert f"interrupted: python run.py resume={tmp_path}/run goes on" in told and "Traceback" not in told
        assert summary(tmp_path / "run")["status"] == "interrupted" and saved(tmp_path / "run")["step"] == step
    finish(tmp_path / "log", *simple.beginning(tmp_path))
    assert_same(tmp_path / "run", simple.result)


def test_a_second_ctrl_c_stops_at_once(simple, tmp_path):
    arguments = [*simple.beginning(tmp_path), "trainer.save_minutes=null"]
    finish(tmp_path / "log", *arguments, at="humanseg.loop:total_loss", calls=(1, 2), number=signal.SIGINT, code=130)
    assert summary(tmp_path / "run")["status"] == "interrupted" and not list(
        (tmp_path / "run" / "checkpoints").iterdir()
    )


def test_a_signal_while_it_starts_stops_at_once(simple, tmp_path):
    told = finish(
        tmp_path / "log", *simple.beginning(tmp_path), at="humanseg.build:model", number=signal.SIGTERM, code=143
    )
    assert "goes on" in told and summary(tmp_path / "run")["status"] == "interrupted"
    assert find.unfinished("latest", str(tmp_path)) == tmp_path / "run"


def test_two_processes_can_not_go_on_with_one_run(simple, tmp_path):
    kill_at("humanseg.loop:network_outputs", tmp_path / "log", *simple.beginning(tmp_path))
    first = start(tmp_path / "first", f"resume={tmp_path}/run", at="humanseg.loop:total_loss", number=signal.SIGSTOP)
    while "goes on" not in (tmp_path / "first").read_text() if (tmp_path / "first").exists() else True:
        time.sleep(0.1)
    told = finish(tmp_path / "second", f"resume={tmp_path}/run", code=1)
    assert told.splitlines()[-1] == f"error: {tmp_path}/run is in use by another process"
    first.kill()
    first.join()
    finish(tmp_path / "log", f"resume={tmp_path}/run")  # a dead process holds no lock
    assert_same(tmp_path / "run", simple.result)
