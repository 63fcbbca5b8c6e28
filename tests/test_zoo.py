"""The networks that come with the suite: how one is made, what names it, and what those that are there promise."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ON_FILES, run_into, saved, summary

from humanseg import checkpoint, zoo
from humanseg.media.photograph import as_photograph
from humanseg.predictor import Predictor
from humanseg.runs import find
from humanseg.runs.recorded import without_folders

SHIPPED = zoo.names()


@pytest.fixture(scope="module")
def made(trained_once, tmp_path_factory) -> Path:
    """A folder with `portrait.pt`, made of a run."""
    folder = tmp_path_factory.mktemp("made")
    typed = ["format=torch", "precision=fp16", f"output={folder}/zoo/portrait.pt"]
    run_into(folder / "run", "mode=export", f"ckpt={trained_once}", *typed)
    return folder / "zoo"


@pytest.fixture
def shelf(made, monkeypatch) -> Path:
    """The zoo has `portrait` alone."""
    monkeypatch.setattr(zoo, "FOLDER", made)
    return made


def test_a_run_becomes_a_small_checkpoint_that_predicts_the_same(made, trained_once):
    before, after = saved(trained_once, "best.pt"), torch.load(made / "portrait.pt", weights_only=True)
    assert after.keys() == {
        *("architecture", "epoch", "averaged", "choices", "versions", "samples", "reading"),
        *("model", "ema", "history", "config"),
    }
    for name, value in after["model"].items():
        assert value.dtype == (torch.half if value.dim() > 1 else before["model"][name].dtype), name
        torch.testing.assert_close(value.to(before["model"][name].dtype), before["model"][name], rtol=1e-3, atol=1e-7)
    facts = {name: value for name, value in after.items() if name != "model"}
    assert facts["config"]["data"]["root"] == "people" and str(trained_once.parent) not in str(facts)
    image = as_photograph(trained_once.parent / "people" / "images" / "003.png")
    found, expected = (
        Predictor(one, precision="fp32", backend="torch")(image) for one in (made / "portrait.pt", trained_once)
    )
    assert np.abs(found - expected).max() < 0.01


def test_of_files_and_folders_a_config_keeps_the_names_alone():
    sources = {
        "coco": {"root": "/home/me/coco/", "val_split": "/home/me/val.txt", "weight": 2},
        "mine": {"root": ["/a/b", "c"]},
    }
    config = {
        "out": "/scratch/me/outputs",
        "data": {"root": None, "sources": sources},
        "model": {"encoder_weights": "imagenet"},
    }
    assert without_folders(config) == {
        "out": "outputs",
        "data": {"root": None, "sources": {
            "coco": {"root": "coco", "val_split": "val.txt", "weight": 2}, "mine": {"root": ["b", "c"]},
        }},
        "model": {"encoder_weights": "imagenet"},
    }  # fmt: skip


def test_a_name_is_known_wherever_a_checkpoint_is(shelf, run, trained_once, people, tmp_path):
    photograph = people / "images" / "003.png"
    for typed in (["ckpt=portrait"], []):  # what mode=predict takes by itself
        done = run("mode=predict", *typed, f"input={photograph}", f"output={tmp_path}/{len(typed)}.png")
        assert f"checkpoint {shelf / 'portrait.pt'}" in done.stdout and (tmp_path / f"{len(typed)}.png").is_file()
    assert Predictor("portrait", backend="torch")(photograph).shape == (48, 40)
    done = run("mode=test", "ckpt=portrait", "data=folder", f"data.test_root={people}")
    assert summary(done.scored)["ckpt"] == str(shelf / "portrait.pt")
    typed = ["data=folder", f"data.test_root={people}", "draws=100", "metrics=[iou]"]
    done = run("mode=compare", f"a={trained_once}", "b=portrait", *typed)
    assert abs(summary(done.folder)["difference"]) < 0.01
    assert "people/images does not exist" in run("mode=test", "ckpt=portrait", code=1).stderr  # where it was trained
    root = f"data.root={trained_once.parent / 'people'}"
    done = run(*ON_FILES, "data=folder", root, "trainer.epochs=1", "ckpt=portrait")
    assert f"validates on the samples that {shelf / 'portrait.pt'} did not train on" in done.stdout
    assert saved(done.folder)["model"]["segmentation_head.0.weight"].dtype == torch.float32
    again = run("mode=export", "ckpt=portrait", "format=torch")
    assert "it is checked on drawn people" in again.stdout
    assert f"ckpt={summary(again.folder)['files'][0]} input=photo.jpg" in again.stdout
    drawn = ["data=synthetic", "people=16", "data.num_workers=0"]
    run("mode=benchmark", "ckpt=portrait", *drawn, "parts=[ceiling]", "seconds=0.01")


def test_a_path_comes_first(shelf, trained_once, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find.checkpoint("portrait", "") == shelf / "portrait.pt"
    shutil.copytree(trained_once, tmp_path / "portrait")
    assert find.checkpoint("portrait", "") == Path("portrait/checkpoints/best.pt")


def test_what_there_is_not_is_one_sentence(shelf, run, people, tmp_path, monkeypatch):
    for typed, sentence in (
        (
            ["mode=test", "ckpt=portrat"],
            "portrat: no such checkpoint, did you mean portrait?; the suite brings portrait",
        ),
        (["ckpt=nowhere.pt"], "nowhere.pt: no such checkpoint; the suite brings portrait"),
        (["resume=portrait"], "resume=portrait: no run or sweep is there; ckpt=portrait starts a new run from"),
        (["mode=export", "ckpt=portrait", "format=torch", "end_to_end=true"], "end_to_end=true: format=torch is a"),
    ):
        told = run(*typed, code=1).stderr
        assert sentence in told and told.count("\n") == 1, typed
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    told = run("mode=predict", f"input={people}/images", code=1).stderr
    assert "ckpt=None: give a checkpoint, a run's or sweep's folder" in told


def test_what_ships_is_small_and_complete():
    files = [file for file in zoo.FOLDER.iterdir() if file.suffix in (".pt", ".md")]
    assert sum(file.stat().st_size for file in files) <= 28_000_000
    assert {file.stem for file in files if file.suffix == ".md"} == {"README", *SHIPPED}
    told = (zoo.FOLDER / "README.md").read_text()
    assert all(f"[{name}]({name}.md)" in told for name in SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_network(name):
    payload = checkpoint.load(zoo.file_of(name))
    assert "optimizers" not in payload and not re.search(r"'/|~/", str(payload["config"]))
    assert all(value.dtype == torch.half for value in payload["model"].values() if value.dim() > 1)
    assert "cutouts" not in payload["config"]["data"].get("sources", {})  # their terms are not known
    image = np.full((40, 30, 3), 128, np.uint8)
    assert Predictor(name, "cpu", "fp32", "torch")(image).shape == (40, 30)


def test_a_shipped_network_is_exported_where_its_photographs_are_not(run, tmp_path):
    small = ["data=synthetic", "data.samples=8", "data.val_split=4"]  # people of whom prediction would look twice
    done = run("mode=export", "ckpt=realtime", "format=torch", *small, "check_on=2", f"output={tmp_path}/small.pt")
    assert (tmp_path / "small.pt").is_file() and "differs by up to" in done.stdout
