"""What is this machine's own serves every run, and config folders of one's own count like conf/ where they are typed."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ON_FILES, ROOT, TINY, call_run_py, run_into, saved, summary, write_people
from segmentation_models_pytorch import Linknet
from segmentation_models_pytorch.losses import DiceLoss

from humanseg.predictor import Predictor
from humanseg.runs import conf

SMALL = [*TINY, "trainer.epochs=1", "trainer.steps_per_epoch=1"]


@pytest.fixture
def local(tmp_path) -> Path:
    """A folder that plays conf/, with a local/default.yaml that names places of this machine."""
    people = write_people(tmp_path / "here", 8)
    file = tmp_path / "conf" / "local" / "default.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"# @package _global_\nout: {tmp_path}/scratch\ndata:\n  root: {people}\n")
    return tmp_path / "conf"


def test_a_data_root_for_all_runs_serves_folders_and_harms_no_other_data(run, local, tmp_path):
    drawn = run(*SMALL, f"--config-dir={local}").folder
    assert "root" not in saved(drawn)["config"]["data"]
    read = run(*ON_FILES, "trainer.epochs=1", "data=folder", "data.val_split=4", f"--config-dir={local}").folder
    assert saved(read)["config"]["data"]["root"] == f"{tmp_path}/here"


def test_latest_looks_where_this_machine_has_its_runs(tiny_once, local, tmp_path, monkeypatch):
    folder = shutil.copytree(tiny_once, tmp_path / "scratch" / "train" / "run")
    monkeypatch.chdir(tmp_path)
    call_run_py(monkeypatch, "mode=test", "ckpt=latest", f"--config-dir={local}")
    (tested,) = (tmp_path / "scratch" / "test").glob("*/*")
    assert summary(tested)["ckpt"] == f"{folder}/checkpoints/best.pt"
    monkeypatch.setenv(conf.VARIABLE, "[]")
    with pytest.raises(ValueError, match="no run under outputs has"):
        Predictor("latest")
    assert Predictor("latest", backend="torch", config_dir=local)(np.zeros((8, 6, 3), np.uint8)).shape == (8, 6)


def test_data_that_a_checkpoint_has_elsewhere_is_found_where_this_machine_has_it(run, local, tmp_path):
    there = Path(shutil.copytree(tmp_path / "here", tmp_path / "there"))
    options = [*ON_FILES, "trainer.epochs=1", "data=folder", "data.val_split=4"]
    folder = run_into(tmp_path / "run", *options, f"data.root={there}")
    here = f"--config-dir={local}"
    run("mode=test", f"ckpt={folder}", here)  # its own data is there
    shutil.rmtree(there)
    assert "there/images does not exist" in run("mode=test", f"ckpt={folder}", code=1).stderr
    assert "test/iou" in run("mode=test", f"ckpt={folder}", here).stdout
    assert "epoch 2/2" in run(f"resume={folder}", "trainer.epochs=2", here).stdout
    shutil.rmtree(tmp_path / "here")
    assert "here/images does not exist" in run("mode=test", f"ckpt={folder}", here, code=1).stderr


def test_a_yaml_that_is_none_or_lacks_its_package_is_a_sentence(run, local):
    (local / "local" / "default.yaml").write_text("out: scratch\n")
    told = run(*SMALL, f"--config-dir={local}", code=1).stderr
    assert "local={'out': 'scratch'}: give the keys of this YAML their place, by `# @package _global_`" in told
    (local / "local" / "default.yaml").write_text("out: [\n")
    told = run(*SMALL, f"--config-dir={local}", code=1).stderr
    assert f"{local}/local/default.yaml, line 2 is no YAML" in told and told.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [("data:\n  rooot: x\n", "data.rooot is no key, did you mean data.root?"),
     ("trainer:\n  epocs: 3\n", "trainer.epocs is no key, did you mean trainer.epochs?"),
     ("trainr:\n  epochs: 3\n", "trainr is no key, did you mean trainer?")],
)  # fmt: skip
def test_a_misspelt_key_is_told_with_the_name_of_its_file(run, local, text, told):
    (local / "local" / "default.yaml").write_text(f"# @package _global_\n{text}")
    assert f"error: {local}/local/default.yaml: {told}" in run(*SMALL, f"--config-dir={local}", code=1).stderr


def test_home_is_found_in_yamls_and_on_the_command_line(run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_people(tmp_path / "people", 8)
    (tmp_path / "own" / "local").mkdir(parents=True)
    (tmp_path / "own" / "local" / "default.yaml").write_text(
        "# @package _global_\ndata:\n  root: ~/people\n  cache_dir: ~/cached\n"
    )
    own = f"--config-dir={tmp_path}/own"
    folder = run(*ON_FILES, "data=folder", "data.val_split=4", "trainer.epochs=1", own, "out=~/my runs").folder
    assert tmp_path / "my runs" in folder.parents and [*(tmp_path / "cached").iterdir()]
    assert "test/iou" in run("mode=test", "ckpt=latest", "out=~/my runs").stdout


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A folder of one's own YAMLs."""
    root = tmp_path_factory.mktemp("my configs")
    for group, text in {
        "model": (ROOT / "conf" / "model" / "unet_mbv2.yaml")
        .read_text()
        .replace("segmentation_models_pytorch.Unet", "test_local.Net"),
        "loss": "_target_: test_local.Own\n",
    }.items():
        (root / group).mkdir()
        (root / group / "mine.yaml").write_text(text)
    return root


class Net(Linknet):
    """A network of one's own."""


class Own(DiceLoss):
    """A loss of one's own."""

    def __init__(self):
        super().__init__("binary", ignore_index=255)


def test_a_run_of_ones_own_yamls_is_tested_and_resumed_where_their_folder_is_typed(run, own, monkeypatch):
    small = [item for item in SMALL if not item.startswith("+model")]
    done = run(*small, "model=mine", "loss=mine", f"--config-dir={own}")
    folder = done.folder
    assert f"next       python run.py '--config-dir={own}' mode=test ckpt={folder}" in done.stdout
    assert summary(folder)["config_dirs"] == saved(folder)["config_dirs"] == [str(own)]
    typed = ["--config-dir", str(own)]
    for arguments in (["mode=test", f"ckpt={folder}"], [f"resume={folder}", "trainer.epochs=2"]):
        assert f"'--config-dir={own}', which counts where it is typed again" in run(*arguments, code=1).stderr
    assert "test/iou" in run("mode=test", f"ckpt={folder}", *typed).stdout
    assert "epoch 2/2" in run(*typed, f"resume={folder}", "trainer.epochs=2").stdout
    run("mode=test", f"ckpt={folder}", f"hydra.searchpath=['file://{own}']")
    assert Predictor(folder, config_dir=own, backend="torch")(np.zeros((8, 6, 3), np.uint8)).shape == (8, 6)
    with pytest.raises(ValueError, match="nowhere: there is no such folder"):
        Predictor(folder, config_dir="nowhere")
    monkeypatch.setenv(conf.VARIABLE, "[]")
    with pytest.raises(ValueError, match="which counts where it is typed again"):
        Predictor(folder)
