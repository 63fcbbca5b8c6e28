"""A config that an earlier version recorded is used as it was meant."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import composed, write_people

from humanseg import build
from humanseg.cli.recorded_overrides import literal_keys
from humanseg.config_rules import refuse_other_run
from humanseg.data.augment import SquareCrop
from humanseg.runs import recorded, trust

OVERRIDES = ["data=folder", "data.root=photographs", "augment=classic", "data.image_size=96", "data.limit=64",
             "data.val_split=16", "trainer.epochs=3", "loss=focal_dice", "scheduler=plateau",
             "optimizer=encoder_decoder", "trainer.ema=0.9", "trainer.accumulate=2"]  # fmt: skip


@pytest.fixture
def before() -> dict:
    return yaml.safe_load(Path(__file__).with_name("recorded_by_a67b389.yaml").read_text())


def test_its_names_are_known_and_the_run_is_the_same_one(before):
    config = recorded.in_todays_names(before["config"])
    trust.refuse_strange(config, trust.GROUPS)
    after = recorded.with_overrides(config, before["choices"], composed(*OVERRIDES), OVERRIDES)
    refuse_other_run(config, after)
    assert after["augment"] == composed("augment=classic")["augment"] and after["loss"] == config["loss"]
    assert after["sweep"] == composed()["sweep"]  # with the keys that it has got since


def test_a_key_with_one_value_that_a_later_override_swept_is_not_shared_by_all_jobs():
    assert literal_keys(["data.val_split=6", "seed=1", "data.val_split=3,4"]) == ["seed"]


def test_its_split_is_the_one_that_its_seed_gave(before, tmp_path):
    config = recorded.in_todays_names(before["config"] | {"seed": 3})
    people = write_people(tmp_path / "people", 20)
    for copy in range(1, 6):
        shutil.copy(people / "images" / "000.png", people / "images" / f"{copy:03d}.png")
    own = config["data"] | {"root": str(people), "cache": False, "image_size": 32, "batch_size": 2, "val_split": 8}
    order = np.random.default_rng([3, 0x5917]).permutation(20).tolist()  # as it was drawn before data.split_seed
    for seed in (3, 4):  # one that is typed does not change it
        splits = build.data(own, None, 1, seed).splits
        assert (
            splits["val"].parts[0].indices.tolist() == order[:8]
            and splits["train"].parts[0].indices.tolist() == order[8:]
        )


def test_it_builds(before):
    config = recorded.in_todays_names(before["config"])
    network = build.model(config["model"])
    assert build.loss(config["loss"], 1)(torch.zeros(2, 1, 8, 8), torch.ones(2, 8, 8, dtype=torch.long))["dice"] > 0
    assert list(build.optimizers(config["optimizer"], network)) == ["encoder", "decoder", "segmentation_head"]
    assert build.schedule(config["scheduler"], 10).factor(0) == 1
    assert isinstance(build.build(config["augment"], "augment").transforms[-1], SquareCrop)
