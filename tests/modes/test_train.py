"""What ``python run.py`` leaves behind, as a user finds it."""

import logging
import math
import re
import subprocess
from pathlib import Path

import cv2
import pytest
import torch
import yaml
from conftest import ON_FILES, ROOT, TINY, board, rows, saved, summary, weights
from tensorboard.plugins.hparams import plugin_data_pb2

from humanseg.callbacks import Record
from humanseg.monitor import mode_of
from humanseg.runs import provenance
from humanseg.runs.summary import Run


def test_a_run_from_a_shell_owns_one_folder_and_closes_with_what_to_do_next(cli, tmp_path):
    done = cli(*TINY, "name=first", "tags=[a,b]", "trainer.save_every=1", "callbacks=default")
    folder = tmp_path / done.folder
    assert re.fullmatch(r"outputs/train/\d{4}-\d\d-\d\d/\d\d-\d\d-\d\d_first", str(folder.relative_to(tmp_path)))
    assert {file.name for file in folder.iterdir() if "tfevents" not in file.name} == {
        ".hydra", ".lock", "config.yaml", "run.log", "checkpoints", "metrics.csv", "summary.json", "train_batch.png",
        "best_and_worst.png",
    } | ({"code.patch"} & {file.name for file in folder.iterdir()})  # fmt: skip
    assert {file.name for file in (folder / "checkpoints").iterdir()} == {
        "last.pt", "previous.pt", "best.pt", "epoch_0001.pt", "epoch_0002.pt"
    }  # fmt: skip
    assert [file.name for file in tmp_path.iterdir()] == ["outputs"]

    opening = done.stdout.split("epoch 1/2")[0].splitlines()
    assert len(opening) <= 12 and "18 train, 6 val" in done.stdout
    assert f"python run.py mode=test ckpt={done.folder}" in done.stdout
    assert "encoder.features.0" in (folder / "run.log").read_text()  # the model's summary
    command = summary(folder)["environment"]["command"]
    # into a pipe goes a line an epoch and no progress bar
    assert sum(line.startswith("epoch ") for line in done.stdout.splitlines()) == 2
    assert "it/s" not in done.stderr and "\r" not in done.stderr
    assert command.startswith("python ") and command.endswith("callbacks=default") and "'tags=[a,b]'" in command


def test_summary_metrics_and_config_tell_the_same_story(run):
    done = run(*TINY, "optimizer.lr=0.01", "tags=[x]")
    found, table = summary(done.folder), rows(done.folder)
    assert found["status"] == "completed" and found["tags"] == ["x"] and found["seed"] == 0
    assert [row["epoch"] for row in table] == ["1", "2"]
    best = max(table, key=lambda row: float(row["val/iou"]))
    assert found["best"]["epoch"] == int(best["epoch"])
    assert found["monitored"] == found["best"]["val/iou"] == pytest.approx(float(best["val/iou"]))
    assert found["environment"]["versions"]["torch"] == torch.__version__.split("+")[0]
    assert found["speed"]["images_per_second"] > 0 and "commit" in found["environment"]
    columns = list(table[0])
    assert columns[:2] == ["epoch", "step"] and columns[-1].startswith("time/")
    assert {"lr", "train/loss", "train/iou", "val/loss", "val/iou", "val/boundary_iou"} < set(columns)
    assert yaml.safe_load((done.folder / "config.yaml").read_text())["optimizer"]["lr"] == 0.01
    assert "optimizer.lr=0.01" in yaml.safe_load((done.folder / ".hydra" / "overrides.yaml").read_text())


def test_a_run_can_be_repeated_to_the_bit_and_a_seed_changes_it(run, tiny_once):
    first, again, other = weights(tiny_once), weights(run(*TINY).folder), weights(run(*TINY, "seed=1").folder)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


def test_tensorboard_shows_scalars_pictures_config_and_hparams(run):
    done = run(*TINY[:-1], "loss=bce_dice", "callbacks.histograms.every=1", "trainer.test=true", "data.test_split=4")
    shown = board(done.folder)
    tags = shown.Tags()
    assert set(tags["scalars"]) > {
        "lr", "grad_norm", "train/loss", "train/loss_bce", "val/loss", "val/loss_dice", "train/iou", "val/iou",
        "val/boundary_iou", "time/images_per_second", "time/data_wait_share", "best/val/iou", "best/test/iou",
    }  # fmt: skip
    assert set(tags["images"]) == {"train_batch", "previews", "best_and_worst"} and tags["histograms"]
    assert {"config/text_summary", "custom_scalars__config__", "person"} < set(tags["tensors"])
    assert [event.step for event in shown.Scalars("val/iou")] == [2, 4]

    events = "".join(str(file) for file in done.folder.glob("events.*"))
    assert events.count("tfevents") == 1
    start = shown.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info.hparams
    assert hparams["loss"].string_value == "bce_dice" and hparams["model"].string_value == "unet_mbv2"


def test_the_first_training_batch_can_be_looked_at(tiny_once):
    assert cv2.imread(str(tiny_once / "train_batch.png")).shape == (32, 4 * 32, 3)


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A repository in the place of the project's own, with a file that is committed."""
    root = tmp_path / "project"
    root.mkdir()
    monkeypatch.setattr(provenance, "ROOT", root)
    (root / "old.py").write_text("one = 1\n")
    (root / ".gitignore").write_text("local/\n")
    for command in ("init -q", "add .", "-c user.name=A -c user.email=a@b commit -qm first"):
        subprocess.run(["git", "-C", root, *command.split()], check=True)
    return root


def test_what_git_had_not_committed_is_kept(repository, tmp_path):
    new = {"new.py": "two = 2\n", "conf/mine.yaml": "lr: 0.1", "odd näme.py": "# caf\xe9\n", "local/a.yaml": "key: 1",
           "secrets.env": "KEY=1", "notes.txt": "mine", "env/pyvenv.cfg": "", "env/site.py": "theirs"}  # fmt: skip
    (repository / "old.py").write_text("one = 11\n")
    for name, text in new.items():
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_bytes(text.encode("latin-1"))
    (repository / "large.py").write_text("#" * provenance.LARGEST)
    Run(tmp_path / "run", "train", True)
    told = summary(tmp_path / "run")
    assert told["code_patch"]["untracked"] == 3 and told["code_patch"]["left_out"] == ["large.py"]
    assert re.fullmatch("[0-9a-f]{40}", told["environment"]["commit"])
    subprocess.run(["git", "clone", "-q", repository, tmp_path / "clone"], check=True)
    subprocess.run(["git", "-C", tmp_path / "clone", "apply", tmp_path / "run" / "code.patch"], check=True)
    there = {str(file.relative_to(tmp_path / "clone")) for file in (tmp_path / "clone").rglob("*.*") if file.is_file()}
    assert {name for name in there if ".git/" not in name} == {".gitignore", "old.py", *[*new][:3]}
    for name in ("old.py", *[*new][:3]):
        assert (tmp_path / "clone" / name).read_bytes() == (repository / name).read_bytes()


def test_outside_of_a_repository_there_is_no_patch(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    Run(tmp_path / "run", "train", True)
    assert not (tmp_path / "run" / "code.patch").exists() and summary(tmp_path / "run")["environment"]["commit"] is None


def test_two_runs_of_the_same_second_get_two_folders(run, tmp_path):
    where = f"hydra.run.dir={tmp_path}/outputs/train/day/second"
    folders = {run(*TINY, "trainer.epochs=1").folder for _ in range(2)}
    assert len(folders) == 2
    assert run(*TINY, "trainer.epochs=1", where).folder == tmp_path / "outputs" / "train" / "day" / "second"


@pytest.mark.parametrize("classes", [2, 3])
def test_several_classes(run, people, tmp_path, classes):
    values = [0, 255, 100][:classes]
    done = run(
        *ON_FILES[:-1], "data=folder", f"data.root={people}", f"model.classes={classes}", f"data.mask={values}",
        "loss=ce_dice", "trainer.test=true", "trainer.early_stop=3",
    )  # fmt: skip
    best = summary(done.folder)["best"]
    assert math.isfinite(best["val/miou"]) and math.isfinite(best["val_full_size/iou"])
    assert not any(name.startswith("test/") for name in best)  # there is no test data
    assert (done.folder / "val_full_size" / "per_image.csv").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ["optimizer=encoder_decoder", "scheduler=cosine"],
        ["scheduler=plateau", "optimizer=adam"],
        ["trainer.accumulate=2", "trainer.ema=0.9", "trainer.grad_clip=1"],
        ["trainer.precision=bf16", "trainer.channels_last=false"],
        ["trainer.deterministic=true", "trainer.val_every=2"],
        ["data.val_split=0", "trainer.monitor=train/loss"],
        ["trainer.monitor=null", "augment=classic"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_choices_of_the_trainer(run, overrides):
    done = run(*TINY, *overrides)
    found = summary(done.folder)
    assert found["status"] == "completed" and len(rows(done.folder)) == 2
    if "trainer.monitor=null" in overrides:
        assert found["best"]["epoch"] == 2
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_compiled_training_saves_keys_without_a_prefix(run):
    done = run(*TINY, "trainer.compile=true", "trainer.epochs=1", "trainer.steps_per_epoch=1")
    assert "encoder.features.0.0.weight" in weights(done.folder)


def test_without_validation_the_best_is_the_last_and_this_is_said_once(run):
    done = run(*TINY, "data.val_split=0")
    assert done.stdout.count("best.pt is the last checkpoint") == 1
    assert saved(done.folder, "best.pt")["epoch"] == 2


@pytest.mark.slow
def test_eight_samples_are_learned_by_heart(run):
    done = run("experiment=overfit", "data.samples=32", "data.num_workers=0", "callbacks=none", "trainer.threads=2")
    assert summary(done.folder)["best"]["val/iou"] >= 0.98


def test_fine_tuning_starts_from_a_checkpoints_weights(run, tiny_once):
    same = run(*TINY, f"ckpt={tiny_once}", "optimizer.lr=1e-12")
    start, end = weights(tiny_once, "best.pt"), weights(same.folder)
    torch.testing.assert_close(end["segmentation_head.0.weight"], start["segmentation_head.0.weight"])

    other = run(*TINY, "ckpt=latest", "model.classes=2", "loss=ce")
    assert f"ckpt='{same.folder}/checkpoints/best.pt'" in summary(other.folder)["overrides"]
    assert "anew: segmentation_head.0.weight, segmentation_head.0.bias" in other.stdout
    done = run(*TINY, "ckpt=latest", "model.encoder_name=resnet18", code=1)
    assert "does not fit" in done.stderr
    assert done.stderr.strip().endswith("add model.encoder_name=mobilenet_v2")


def own_metric(counts) -> float:
    return 1.0 + float(counts.images)


def own_callback(record: Record, writer, step: int, offset: float = 0.0) -> None:
    record.log["val/mine"] = offset - record.epoch
    logging.getLogger("huggingface_hub").warning("a library that prints this itself")
    writer.add_scalar("mine/too", 1.0, step)


def test_a_metric_and_a_callback_of_ones_own(run):
    node = "{_target_:test_train.own_callback,_partial_:true,offset:5}"
    done = run(*TINY, "metrics=[iou,test_train.own_metric]", f"+callbacks.mine={node}", "trainer.monitor=val/mine",
               "trainer.monitor_mode=max", "trainer.epochs=3", "trainer.early_stop=1")  # fmt: skip
    assert "stopped    after epoch 2 of 3 by trainer.early_stop=1: val/mine became no better\n" in done.stdout
    assert f"mode=test ckpt={done.folder} 'metrics=[iou,test_train.own_metric]'\n" in done.stdout  # refused without it
    assert "a library" not in done.stdout
    table = rows(done.folder)
    assert [float(row["val/own_metric"]) for row in table] == [7, 7]
    assert summary(done.folder)["best"]["epoch"] == 1 and summary(done.folder)["monitored"] == 4


failing = iter(())


def failing_callback(record: Record, writer, step: int) -> None:
    if record.epoch == next(failing, None):
        raise KeyError("a mistake of one's own")
    record.log["val/mine"] = float(record.epoch)


@pytest.mark.parametrize("strict", [False, True])
def test_a_callback_that_fails_costs_no_epoch(run, tmp_path, monkeypatch, strict):
    monkeypatch.setitem(globals(), "failing", iter([1, 2]))
    node = "{_target_:test_train.failing_callback,_partial_:true}"
    own = [
        f"+callbacks.mine={node}",
        "trainer.monitor=val/mine",
        "trainer.monitor_mode=max",
        f"callbacks.strict={strict}",
    ]
    done = run(*TINY, *own, "trainer.epochs=3", code=int(strict))
    (folder,) = (tmp_path / "outputs" / "train").glob("*/*")
    found = saved(folder)
    assert found["epoch"] == len(rows(folder)) == (1 if strict else 3) and "Traceback" not in done.stdout + done.stderr
    told = (done.stderr if strict else done.stdout).count("callbacks.mine failed")
    assert told == 1 and "a mistake of one's own" in done.stdout
    if not strict:
        assert summary(folder)["best"]["epoch"] == 3 and summary(folder)["monitored"] == 3


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [
        ("val/loss", "min"),
        ("train/loss_dice", "min"),
        ("val/iou", "max"),
        ("val/average_precision", "max"),
        ("val/mean_boundary_iou", "max"),
        ("val/coco/loss_dice", "min"),
        (None, "max"),
    ],
)
def test_whether_higher_is_better_follows_from_the_name(monitor, mode):
    assert mode_of(monitor, "auto") == mode
    assert mode_of(monitor, "min") == "min"


def test_the_best_epoch_by_a_loss_has_the_lowest(run):
    folder = run(*TINY, "trainer.monitor=val/loss").folder
    losses = [float(row["val/loss"]) for row in rows(folder)]
    assert summary(folder)["monitored"] == min(losses) < max(losses) and summary(folder)["monitor_mode"] == "min"


def test_a_name_that_does_not_say_whether_higher_is_better_is_asked_for():
    with pytest.raises(ValueError, match="trainer.monitor=val/mine: give trainer.monitor_mode=max or min"):
        mode_of("val/mine", "auto")


def test_help_explains_groups_modes_and_overrides(run):
    told = run("--help").stdout
    for group in ("model", "data", "augment", "loss", "optimizer", "scheduler", "trainer", "callbacks", "experiment"):
        assert re.search(rf"^\s*{group}: ", told, re.M), group
    for mode in (ROOT / "conf" / "mode").glob("*.yaml"):
        assert re.search(rf"^\s*{mode.stem}  .*\w", told, re.M), mode.stem
    assert "mode=test ckpt=PATH" in told and "optimizer.lr" in told
    assert "split=auto" in run("mode=test", "--help").stdout
