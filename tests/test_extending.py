"""What the README's table "to extend it" names, from empty files: it trains, and what was trained can be used."""

import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, broken_off, call_run_py, jobs, rows, summary, the_sweep

from humanseg.cli import commandline, entry
from humanseg.predictor import Predictor
from humanseg.runs import conf

YAMLS = {
    "a model": ("model/mine", "_target_: my_package.Network\nclasses: 1\n"),
    "a loss": ("loss/mine", "_target_: my_package.Loss\n"),
    "a metric": ("experiment/mine", "# @package _global_\nmetrics: [iou, my_package.my_metric]\n"),
    "an optimizer": (
        "optimizer/mine",
        "_target_: torch.optim.Adagrad\n_partial_: true\nlr: 0.01\ndecay_norms_and_biases: true\n",
    ),
    "a schedule": (
        "scheduler/mine",
        "_target_: humanseg.schedules.Schedule\n_partial_: true\ncurve: {_target_: my_package.half, _partial_: true}\n",
    ),
    "a data set": ("data/mine", "defaults: [/data_base@_here_, _self_]\n_target_: my_package.squares\ncount: 16\n"),
    "an augmentation": (
        "augment/mine",
        "_target_: albumentations.Compose\ntransforms:\n  - {_target_: my_package.Darker, p: 0.5}\n",
    ),
    "a callback": (
        "callbacks/mine",
        "defaults: [none, _self_]\nmine: {_target_: my_package.callback, _partial_: true}\n",
    ),
    "a tracker": ("callbacks/tracked", "defaults: [none, _self_]\ntracked: {_target_: my_package.Lines}\n"),
}
CODE = """
import albumentations
import numpy as np
import torch
from torch import nn


class Network(nn.Module):
    def __init__(self, classes, encoder_name="plain"):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.decoder = nn.Sequential(nn.Conv2d(8, classes, 3, 1, 1), nn.Upsample(scale_factor=2))

    def forward(self, images):
        logits = self.decoder(self.encoder(images))
        return logits, logits / 2


class Loss(nn.Module):
    def forward(self, logits, target, images):
        valid = target != 255
        assert images.shape[:3] == target.shape and images.dtype == torch.uint8
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 0][valid], target[valid].float())


def my_metric(counts):
    return counts.confusion[1, 1].item() / max(counts.confusion.sum().item(), 1)


def half(step, total):
    return 0.5


class Squares:
    def __init__(self, count):
        self.names = [f"square {number}" for number in range(count)]

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        mask = np.zeros((40, 48), np.uint8)
        mask[8:30, 10:30] = 1
        return np.random.default_rng(index).integers(0, 99, (40, 48, 3), dtype=np.uint8) + 100 * mask[..., None], mask


def squares(count):
    return {"train": Squares(count)}


class Darker(albumentations.ImageOnlyTransform):
    def apply(self, img, **params):
        return img // 2


def callback(record, writer, step):
    record.log["val/mine"] = 2.0
"""
SMALL = ["data.image_size=32", "data.batch_size=4", "data.val_split=4", "data.num_workers=0", "trainer.epochs=1",
         "trainer.steps_per_epoch=2", "trainer.log_every=1", "trainer.precision=fp32"]  # fmt: skip
GROUPS = [*dict.fromkeys(path.partition("/")[0] for path, _ in YAMLS.values())]
MINE = [*SMALL, *(f"{group}=mine" for group in GROUPS if group != "callbacks"), "callbacks=[mine,tracked]"]
TRACKER = (ROOT / "conf" / "README.md").read_text().partition("\n```python\n")[2].partition("```")[0]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """The suite with a YAML for each row of the table; the module that they name is importable."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "conf", root / "conf")
    shutil.copy(ROOT / "run.py", root)
    for path, text in YAMLS.values():
        (root / "conf" / f"{path}.yaml").write_text(text)
    (root / "my_package.py").write_text(CODE + TRACKER)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        for module in (conf, commandline):
            patch.setattr(module, "CONF", root / "conf")
        importlib.reload(entry)  # for this conf/
        yield root
    importlib.reload(entry)


@pytest.fixture(scope="module")
def call(project):
    """``python run.py`` of that project, in this process."""

    def called(*arguments: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            call_run_py(patch, f"out={project}/outputs", *arguments, root=project)

    return called


@pytest.fixture(scope="module")
def trained(project, call) -> Path:
    """A run of all that is one's own."""
    call(*MINE, f"hydra.run.dir={project}/run")
    return project / "run"


def test_every_row_of_the_table_is_tried():
    table = (ROOT / "README.md").read_text().partition("## To extend it")[2].partition("\n## ")[0]
    named = re.findall(r"^\| (an? [a-z ]+) \|", table, re.M)
    assert [*YAMLS, "a mode"] == named  # tests/modes/test_a_mode.py tries a mode


def test_it_trains_and_goes_on(trained, call):
    (row,) = rows(trained)
    assert row["val/mine"] == "2.0" and 0 < float(row["val/my_metric"]) < 1 and float(row["lr"]) == 0.005
    call(f"resume={broken_off(trained)}", "trainer.epochs=2")
    assert len(rows(trained)) == 2 and summary(trained)["status"] == "completed"
    # what the tracker of conf/README.md was told
    told = [json.loads(line) for line in (trained / "values.jsonl").read_text().splitlines()]
    starts, ends = [[one for one in told if name in one] for name in ("id", "status")]
    assert [one["id"] for one in starts] == [None, "an-id"] and {one["loss"] for one in starts} == {"mine"}
    logged = [one for one in told if "epochs" in one]
    assert [one["step"] for one in logged if "step/loss" in one] == [1, 2, 3, 4]
    assert [(one["step"], one["epochs"]) for one in logged if "val/mine" in one] == [(2, 1), (4, 2)]
    assert [one["status"] for one in ends] == ["completed", "completed"] and ends[0]["val/mine"] == 2


def test_it_is_tested_predicted_with_and_exported(trained, call, project):
    call("mode=test", f"ckpt={trained}", f"hydra.run.dir={project}/test")
    assert {"test/iou", "test/my_metric"} == set(summary(project / "test")["metrics"])
    photograph = np.full((30, 50, 3), 90, np.uint8)
    assert Predictor(trained, backend="torch")(photograph).shape == (30, 50)
    call("mode=export", f"ckpt={trained}", f"hydra.run.dir={project}/export")
    exported = Predictor(project / "export" / "model.onnx", backend="onnxruntime", refine=False)
    # As a file of one size looks.
    alone = Predictor(trained, backend="torch", refine=False, precision="fp32", closer=False)
    np.testing.assert_allclose(exported(photograph), alone(photograph), atol=1e-4)


def test_a_sweep_of_it_goes_on_and_a_new_run_starts_from_its_best(call, project):
    call("-m", *MINE, "optimizer.lr=0.1,0.01")
    sweep = the_sweep(project)
    (last,) = sweep.glob("1_*")
    shutil.rmtree(last)
    (sweep / "sweep.json").write_text((sweep / "sweep.json").read_text().replace('"completed"', '"running"'))
    call(f"resume={sweep}")
    assert {job["status"] for job in jobs(sweep).values()} == {"completed"} and len(jobs(sweep)) == 2
    call(*MINE, f"ckpt={sweep}", f"hydra.run.dir={project}/next")
    assert summary(project / "next")["status"] == "completed"


def test_a_network_that_knows_encoders_of_its_own(call, project):
    call(*MINE, "+model.encoder_name=my_encoder", f"hydra.run.dir={project}/named")
    call("mode=test", f"ckpt={project}/named", f"hydra.run.dir={project}/named_test")
    assert summary(project / "named_test")["status"] == "completed"
