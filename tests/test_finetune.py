"""A run from another run's weights validates on what the other did not train on."""

import logging
from pathlib import Path

import pytest
import torch
from conftest import TINY, run_into, saved
from torch import nn

from humanseg.finetune import Origin, keep_split, load_weights, tell_split
from humanseg.networks import DeepUnet

ONE_EPOCH = [*TINY, "trainer.epochs=1"]


def test_it_keeps_the_split_of_the_run_before_unless_another_is_typed(run, tmp_path):
    before = run_into(tmp_path / "before", *ONE_EPOCH, "data.split_seed=5")
    held = saved(before)["samples"]["val"]
    done = run(*ONE_EPOCH, f"ckpt={before}", "seed=1")
    assert saved(done.folder)["samples"]["val"] == held and saved(done.folder)["config"]["data"]["split_seed"] == 5
    assert f"split      validates on the samples that {before}" in done.stdout
    done = run(*ONE_EPOCH, f"ckpt={before}", "data.split_seed=1")
    assert saved(done.folder)["samples"]["val"] != held and "may have been trained on some" in done.stdout


def kept(own: dict, before: dict, *typed: str) -> dict:
    plain = {"_target_": "a", "split_seed": 0, "val_split": 0.1, "test_split": 0, "duplicates": "together"}
    origin = Origin(Path("best.pt"), {"config": {"data": plain | before}})
    found = keep_split(plain | own, origin, [*typed])
    return {key: value for key, value in found.items() if value != plain.get(key)}


def test_what_is_kept_of_a_split():
    drawn = {"split_seed": 3, "val_split": 50, "test_split": 0.2, "duplicates": "ignore"}
    assert kept({}, drawn) == kept({}, drawn, "data=folder", "seed=1") == drawn
    assert kept({"val_split": 9}, drawn, "data.val_split=9") == {"split_seed": 3, "val_split": 9, "test_split": 0.2}
    assert kept({}, drawn | {"_target_": "b"}) == {}  # other data
    assert kept({}, drawn | {"val_split": "train"}) == {"split_seed": 3, "test_split": 0.2}
    assert kept({"val_split": "train"}, drawn)["val_split"] == "train"


def test_what_is_kept_of_folds_names_and_groups():
    folds = {"folds": 5, "fold": 2, "group_by": "folder", "split_by": "name"}
    assert kept(dict.fromkeys(folds), folds) == folds  # typed nothing
    assert kept({"fold": 3}, folds, "data.fold=3") == folds | {"fold": 3}
    assert kept({"val_split": 0.3}, folds, "data.val_split=0.3") == {
        "val_split": 0.3, "group_by": "folder", "split_by": "name",
    }  # fmt: skip
    assert kept({"folds": None}, folds, "data.folds=null") == {"group_by": "folder", "split_by": "name"}
    assert kept({"val_split": "train"}, folds)["val_split"] == "train"
    assert kept({"split_by": "name"}, {}) == {}  # the run before had an order


def in_mix(sources: dict, **common) -> dict:
    """A mix of sources of the kind `a`, unless they say another."""
    given = {name: {"_target_": "a"} | own for name, own in sources.items()}
    return {"_target_": "humanseg.data.mix.together", "val_split": 0.1, "split_seed": 0, "sources": given} | common


def test_the_sources_of_a_mix_keep_their_splits():
    before = in_mix({"x": {"val_split": 9}, "y": {}, "z": {"_target_": "b"}, "gone": {}}, split_seed=4, folds=None)
    now, origin = (
        in_mix({"x": {}, "y": {"split_seed": 7}, "z": {}, "new": {}}),
        Origin(Path("a"), {"config": {"data": before}}),
    )
    found = keep_split(now, origin, ["data.sources.y.split_seed=7"])
    kept_of = {name: {key: node[key] for key in node if key != "_target_"} for name, node in found["sources"].items()}
    assert kept_of == {"x": {"val_split": 9, "split_seed": 4}, "y": {"split_seed": 7}, "z": {}, "new": {}}
    assert found["split_seed"] == 0 and in_mix(found["sources"]) == found


def told(caplog, samples: dict, before: dict, now: dict, then: dict) -> str:
    caplog.clear()
    with caplog.at_level(logging.INFO, "humanseg"):
        tell_split(now, samples, Origin(Path("best.pt"), {"config": {"data": then}, "samples": before}))
    return caplog.text


def test_of_a_mix_it_is_told_whose_validation_samples_are_others(caplog):
    mix, more = in_mix({"x": {}, "y": {}}), in_mix({"x": {}, "y": {}, "new": {}})
    before = {"train": "t", "val": "v", "val/x": "1", "val/y": "2"}
    assert "did not train on" in told(caplog, before, before, mix, mix)
    assert "did not train on" in told(caplog, before | {"val": "w", "val/new": "3"}, before, more, mix)
    assert "samples of y are others" in told(caplog, before | {"val": "w", "val/y": "3"}, before, mix, mix)
    folder = {"_target_": "a", "root": "x"}
    assert "did not train on" in told(caplog, {"val": "1"}, {"val": "1"}, folder, folder)
    assert "samples are others" in told(caplog, {"val": "2"}, {"val": "1"}, folder, folder)
    assert told(caplog, {"val": "2"}, {"val": "1"}, folder, mix) == ""


@pytest.mark.parametrize(
    "wanted, own, advice",
    [
        ({"depth": 3}, {"depth": 5}, "model.depth=3"),
        ({"widths": [8, 4], "name": "resnet18"}, {"name": "vgg11"}, "model.name=resnet18 '+model.widths=[8,4]'"),
        ({}, {"widths": [8, 4]}, "'~model.widths'"),
        ({"_target_": "os.system"}, {"_target_": "a.B"}, ""),
        ({"act": {"_target_": "os.system"}}, {}, ""),
        ({"x;reboot;": 1}, {}, ""),
        ({"name": "$(reboot)"}, {"name": "vgg11"}, ""),
        ({"classes": 3, "encoder_weights": "imagenet"}, {"classes": 1}, ""),
    ],
    ids=str,
)
def test_another_network_says_what_to_type_but_nothing_that_a_stranger_could_have_run(wanted, own, advice):
    network = nn.Linear(1, 1)
    before = Origin(Path("x.pt"), {"architecture": "A", "ema": None, "model": {}, "config": {"model": wanted}})
    with pytest.raises(ValueError, match="does not fit") as refused:
        load_weights(network, before, own)
    assert str(refused.value).partition(" It was trained with other arguments: add ")[2] == advice


def test_all_heads_begin_anew_where_the_classes_are_others():
    def network(classes: int) -> DeepUnet:
        settings = {"encoder_weights": None, "decoder_channels": [8, 8], "encoder_depth": 2, "classes": classes}
        return DeepUnet(1, encoder_name="mobilenet_v2", aux_params={"classes": classes}, **settings)

    one, three = network(1), network(3)
    own = {key: value.clone() for key, value in three.state_dict().items()}
    payload = {"architecture": "A", "ema": None, "model": one.state_dict(), "config": {"model": {}}}
    load_weights(three, Origin(Path("x.pt"), payload), {})
    for key, value in three.state_dict().items():
        begun = (
            own if key.split(".")[0] in ("segmentation_head", "deep_heads", "classification_head") else payload["model"]
        )
        assert torch.equal(value, begun[key]), key
