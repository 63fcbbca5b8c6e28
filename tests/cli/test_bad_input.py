"""A mistake gets one sentence that names it and what would be right, a non-zero exit, and no traceback."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ON_FILES, ROOT, TINY, saved, write_people


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (["optimizer.lrr=0.1"], ["optimizer.lrr: there is no such key, did you mean optimizer.lr?"]),
        (["loss._target_=json.Nope"], ["loss: Error loading 'json.Nope': ", "importable from module 'json'"]),
        (["trainer.epoch=3"], ["did you mean trainer.epochs?", "early_stop"]),
        (["lr=0.1"], ["did you mean optimizer.lr?"]),
        (["loss=1"], ["loss=1: there is no such choice", "bce_dice"]),
        (["model=[unet_mbv2,unet]"], ["model=unet: there is no such choice", "segformer_mitb0"]),
        (["model=unet_mbv3"], ["model=unet_mbv3: there is no such choice, did you mean unet_mbv2?", "segformer_mitb0"]),
        (["experiment=portrat"], ["did you mean portrait?"]),
        (["experiment=ablation/compose"], ["did you mean ablation/composed?"]),
        (["experiment/ablation=composed"], ["as in experiment=ablation/composed; there are ablation/composed"]),
        (["modl=unet_mbv2"], ["did you mean model?"]),
        (["name=IMG (1).jpg"], ["Hydra's grammar", "'name=\"IMG (1).jpg\"'"]),
        (["name=x${y}.jpg"], ["name: ${y} in x${y}.jpg stands for the value of the key y", "'name=\"x\\${y}.jpg\"'"]),
        (["worst=3"], ["worst belongs to mode=check or mode=test"]),
        (["data.root=A"], ["data=empty or data=folder or ", "run.py data=CHOICE data.root="]),
        (["experimnt=portrait"], ["did you mean experiment?"]),
        (["mode=trian"], ["did you mean train?"]),
        (["data=folder"], ["there is no training data: set data.root"]),
        (["data=folder", "data.root=nowhere"], ["nowhere/images does not exist", "nowhere/masks does not exist"]),
        (["data=pairs", "data.pairs=nowhere.txt"], ["data.pairs=nowhere.txt: no such file"]),
        (["data=folder", "data.root=[A,B]"], ["A/images does not exist", "B/masks does not exist"]),
        (["data=pairs", "data.val_pairs=[A,B]", "data.pairs=null"], ["data.val_pairs=['A', 'B']: give one path"]),
        (["data.val_split=999"], ["nothing is left to train on"]),
        (["data.batch_size=0"], ["data.batch_size=0: give a whole number of at least 1"]),
        (["data.image_size=50"], ["data.image_size=50: give a multiple of 32"]),
        (["data.image_size=abc"], ["data.image_size=abc: give a multiple of 32"]),
        (["trainer.epochs=2.5"], ["trainer.epochs=2.5: give a whole number of at least 1"]),
        (["trainer.grad_clip=abc"], ["trainer.grad_clip=abc: give a number of at least 0, or null"]),
        (["data.num_workers=all"], ["data.num_workers=all: give a whole number of at least 0, or auto"]),
        (["data.cache=maybe"], ["data.cache=maybe: give true or false"]),
        (["data.pad_value=300"], ["data.pad_value=300: give a whole number from 0 to 255"]),
        (["data.mean=[0.5]"], ["data.mean=[0.5]: give three numbers"]),
        (["data.mean=[0.5,0.5,nan]"], ["data.mean=[0.5, 0.5, nan]: give three numbers"]),
        (["data.std=[1,1,0]"], ["data.std=[1, 1, 0]: give three numbers above 0"]),
        (["seed=-1"], ["seed=-1: give a whole number of at least 0"]),
        (["metrics=iou", "tags=a"], ["metrics=iou: give a list, as [a,b]", "tags=a: give a list, as [a,b], or null"]),
        (["trainer.monitor_mode=best"], ["trainer.monitor_mode=best: give auto, max, min"]),
        (["trainer.compile=maybe"], ["trainer.compile=maybe: give true or false"]),
        (["~loss"], ["loss is missing"]),
        (["~trainer.ema"], ["trainer.ema is missing"]),
        (["optimizer.lr=abc"], ["optimizer.lr=abc: give a number of at least 0"]),
        (["+callbacks.previews.every=2"], ["callbacks.previews has no _target_"]),
        (["~model._target_"], ["model (mobilenet_v2) has no _target_"]),
        (["~data._target_"], ["data has no _target_"]),
        (["model.in_channels=4"], ["can't take a 3x32x32 image"]),
        (["model.classes=0"], ["model.classes=0"]),
        (["model.classes=2", "loss=bce"], ["loss=bce is for model.classes=1"]),
        (["model.encoder_name=resnet81"], ["resnet81"]),
        (["model.encoder_weights=nowhere.pth"], ["nowhere.pth: no such file"]),
        (["optimizer.momentum=-1"], ["optimizer", "momentum"]),
        (["+optimizer.betas=[0.9,0.99]"], ["optimizer: ", "betas"]),
        (["scheduler.warmup=1.5"], ["scheduler.warmup=1.5"]),
        (["trainer.epochs=0", "trainer.val_every=0"], ["trainer.epochs=0: give", "trainer.val_every=0: give"]),
        (["trainer.monitor=val/iuo"], ["no such value, did you mean val/iou?; there are"]),
        (["trainer.precision=fp8"], ["trainer.precision=fp8: give auto, fp32, bf16, fp16"]),
        (["trainer.device=tpu9"], ["trainer.device=tpu9"]),
        (["trainer.ema=1.5"], ["trainer.ema=1.5"]),
        (["metrics=[iuo]"], ["did you mean iou?"]),
        (["metrics=[my.metric]"], ["my.metric can't be imported"]),
        (["ckpt=nowhere.pt"], ["nowhere.pt: no such checkpoint"]),
        (["+callbacks.mine={_target_:no.such.thing,_partial_:true}"], ["callbacks.mine", "no.such.thing"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and "=" in value[0] else "",
)
def test_a_sentence(run, arguments, sentences):
    done = run(*(ON_FILES if arguments[0].startswith("data=") else TINY), *arguments, code=1)
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    for sentence in sentences:
        assert sentence in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_asked_for_and_absent(run):
    assert "finds no CUDA device; use trainer.device=auto" in run(*TINY, "trainer.device=cuda", code=1).stderr


def test_a_mistake_that_is_found_early_leaves_no_checkpoint_behind(run, tmp_path):
    run(*TINY, "loss=ce", code=1)
    (folder,) = (tmp_path / "outputs" / "train").glob("*/*")
    assert not (folder / "checkpoints").exists() and "Traceback" in (folder / "run.log").read_text()
    assert '"status": "failed"' in (folder / "summary.json").read_text()


@pytest.mark.parametrize(("value", "shown"), [("0", False), ("", False), ("1", True)])
def test_a_traceback_is_shown_where_hydras_own_variable_asks_for_it(tmp_path, value, shown):
    command = f"HYDRA_FULL_ERROR={value} {sys.executable} {ROOT}/run.py seeed=1 out={tmp_path}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 1 and ("Traceback" in done.stderr) == shown and "seeed" in done.stderr


def test_a_reader_that_leaves_early_hears_no_traceback(tmp_path):
    command = f"{sys.executable} {ROOT}/run.py --help | true; {sys.executable} {ROOT}/run.py --help > /dev/full"
    quiet = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}  # an earlier call's
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, env=quiet)
    assert done.stderr == "error: the output can't be written: No space left on device\n"


def test_a_typo_leaves_nothing_behind(run, tmp_path):
    run(*TINY, "optimizer.lrr=1", code=1)
    assert not (tmp_path / "outputs").exists()


def test_a_folder_that_holds_a_checkpoint_is_not_written_over(run, finished):
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("*")}
    assert f"resume={finished}" in run(*TINY, f"hydra.run.dir={finished}", code=1).stderr
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("*")} == before


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(run, finished):
    before = saved(finished)
    told = run(f"resume={finished}", "optimizer.lr=1e30", "trainer.epochs=9", code=1).stderr
    assert "the loss is not finite at step" in told and "synthetic_0" in told
    torch.testing.assert_close(saved(finished)["model"], before["model"], rtol=0, atol=0)


def test_a_photograph_that_breaks_during_training_is_named(run, tmp_path, monkeypatch):
    root = write_people(tmp_path / "a", 12)
    data = (root / "images" / "005.png").read_bytes()
    (root / "images" / "005.png").write_bytes(data[: len(data) // 2])
    monkeypatch.setattr(
        "humanseg.data.photographs.check", lambda source, index: None
    )  # it was whole when the run began
    for workers in (0, 1):
        options = [item for item in ON_FILES if "num_workers" not in item] + [f"data.num_workers={workers}"]
        done = run(*options, "data=folder", f"data.root={root}", "trainer.steps_per_epoch=4", code=1)
        assert (
            done.stderr.startswith("error: ")
            and done.stderr.count("\n") == 1
            and "005.png can't be read" in done.stderr
        )


def test_a_checkpoint_that_is_damaged(run, finished, tmp_path):
    folder = finished
    path = tmp_path / "cut.pt"
    path.write_bytes((folder / "checkpoints" / "best.pt").read_bytes()[:100_000])
    for mode in ("train", "test"):
        assert "cut.pt is truncated, damaged or no checkpoint" in run(f"mode={mode}", f"ckpt={path}", code=1).stderr
    shutil.rmtree(folder)
    assert "no run under" in run("mode=test", "ckpt=latest", code=1).stderr
