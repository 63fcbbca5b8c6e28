"""One command trains several sources; what it recorded is resumed, tested and swept like any run, to the same bits."""

import json
import re
import shutil
from pathlib import Path

import cv2
import pytest
import torch
from conftest import ON_FILES, jobs, run_into, saved, summary, the_sweep, weights, write_people
from killing import finish, kill_at

from humanseg.runs.atomic import write_json
from humanseg.runs.summary import read_sweep

SMALL = [item for item in ON_FILES if "steps_per_epoch" not in item and "val_split" not in item]


def sources(root: Path) -> list[str]:
    """What a user types for a mix of a folder, a list, annotations and drawn people."""
    return [
        "data=mix", "data.val_split=2", "+data@data.sources.mine=folder", f"data.sources.mine.root={root}/mine",
        "data.sources.mine.weight=2", "+data@data.sources.listed=pairs", f"data.sources.listed.pairs={root}/list.txt",
        "data.sources.listed.weight=0.5", "+data@data.sources.annotated=coco", f"data.sources.annotated.root={root}/coco",
        "+data@data.sources.drawn=synthetic", "data.sources.drawn.samples=8",
        "data.sources.drawn.only=val",
    ]  # fmt: skip


def write_coco(root: Path) -> None:
    """People in COCO's layout, their outlines as polygons."""
    write_people(root, 6, (44, 44))
    images, people = [], []
    for number, file in enumerate(sorted((root / "masks").iterdir())):
        mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        (outline,) = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
        outlined = {"segmentation": [outline.flatten().tolist()], "area": int((mask > 0).sum()), "iscrowd": 0}
        images.append({"id": number, "file_name": file.name, "height": 44, "width": 44})
        people.append({"id": number + 1, "image_id": number, "category_id": 1} | outlined)
    content = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
    (root / "instances.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """The folder of a run of a mix that nothing touched; its photographs lie beside it. Tests only read it."""
    root = tmp_path_factory.mktemp("mix")
    write_people(root / "mine", 8)
    write_coco(root / "coco")
    write_people(root / "listed", 10, (40, 56))
    lines = [f"listed/images/{number:03d}.png, listed/masks/{number:03d}.png\n" for number in range(10)]
    (root / "list.txt").write_text("".join(lines))
    finish(root / "log", *SMALL, *sources(root), "augment=portrait", f"out={root}/outputs", f"hydra.run.dir={root}/run")
    return root / "run"


@pytest.fixture
def copied(mixed, tmp_path) -> Path:
    """A copy of it of one's own."""
    return Path(shutil.copytree(mixed, tmp_path / "outputs" / "train" / "day" / "copied"))


def test_a_mix_that_is_killed_twice_ends_with_the_same_bits(mixed, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    arguments = [*SMALL, *sources(mixed.parent), "augment=portrait", f"out={tmp_path}", f"hydra.run.dir={folder}"]
    kill_at("torch.optim:SGD.step", log, *arguments, "trainer.save_minutes=0", call=3)
    kill_at("humanseg.loop:total_loss", log, f"resume={folder}", call=4)
    finish(log, f"resume={folder}")
    assert summary(folder)["status"] == "completed"
    for part in ("model", "optimizers", "random", "step"):
        torch.testing.assert_close(saved(folder)[part], saved(mixed)[part], rtol=0, atol=0)


def test_a_run_of_a_mix_goes_on_where_its_sources_lie_and_with_no_other_weights(run, mixed, copied, own, tmp_path):
    root = Path(shutil.copytree(mixed.parent / "mine", tmp_path / "mine"))
    told = run(f"resume={copied}", "trainer.epochs=3", f"data.sources.mine.root={root}").stdout
    assert "epoch 3/3" in told and saved(copied)["config"]["data"]["sources"]["mine"]["root"] == str(root)
    told = run(f"resume={copied}", "data.sources.mine.weight=3", code=1).stderr
    assert "can't go on with another data.sources.mine.weight (2 -> 3)" in told
    shutil.rmtree(root)
    last = f"ckpt={copied}/checkpoints/last.pt"
    assert "data.sources.mine.root: " in run("mode=test", last, code=1).stderr
    run("mode=test", last, f"--config-dir={own}")  # whose local/default.yaml knows where the source lies


@pytest.mark.parametrize(
    ("typed", "samples"),
    [
        ([], 14),
        (["data=mix", "~data.sources.drawn"], 6),
        (["data.sources.listed.pairs={root}/list.txt", "data.sources.mine.test_root={root}/listed"], 10),
        (["+data@data.sources.new=folder", "data.sources.new.test_root={root}/mine"], 8),
        (["+data@data.sources.drawn=folder", "data.sources.drawn.root={root}/mine"], 8),
        (["data=folder", "data.test_root={root}/mine"], 8),
    ],
)
def test_a_checkpoint_of_a_mix_is_tested_with_what_is_typed(run, mixed, typed, samples):
    typed = [item.format(root=mixed.parent) for item in typed]
    assert f"samples    {samples} " in run("mode=test", f"ckpt={mixed}", *typed).stdout


def test_a_sweep_over_weights_goes_on(run, mixed, tmp_path):
    short = [*SMALL, *sources(mixed.parent), "trainer.epochs=1", "trainer.steps_per_epoch=1"]
    run("-m", *short, "data.sources.mine.weight=1,3")
    sweep = the_sweep(tmp_path)
    assert [*jobs(sweep)] == ["0_data.sources.mine.weight-1", "1_data.sources.mine.weight-3"]
    before = weights(sweep / "1_data.sources.mine.weight-3")
    shutil.rmtree(sweep / "1_data.sources.mine.weight-3")
    write_json(sweep / "sweep.json", read_sweep(sweep) | {"status": "failed"})
    run(f"resume={sweep}")
    torch.testing.assert_close(weights(sweep / "1_data.sources.mine.weight-3"), before, rtol=0, atol=0)


OF_MINE = "  - /data{at}sources.mine: folder\n  - /data{at}sources.listed: pairs\n"
KEYS = "val_split: 2\nsources:\n  mine: {root: ROOT/mine, weight: 2}\n  listed: {pairs: ROOT/list.txt}\n"


@pytest.fixture
def own(mixed, tmp_path) -> Path:
    """A folder of a user's YAMLs: a mix as a choice of data, and in an experiment; and where this machine has a source."""
    keys = KEYS.replace("ROOT", str(mixed.parent))
    indented = "".join(f"  {line}\n" for line in keys.splitlines())
    yamls = {
        "data/everything.yaml": f"defaults:\n  - mix\n{OF_MINE.format(at='@')}  - _self_\n{keys}",
        "experiment/mine.yaml": f"# @package _global_\ndefaults:\n{OF_MINE.format(at='@data.')}  - _self_\n"
        f"  - override /data: mix\ndata:\n{indented}",
        "local/default.yaml": "# @package _global_\ndata:\n  sources:\n    mine:\n"
        f"      root: {mixed.parent}/mine\n    away:\n      root: nowhere\n",
    }
    for name, text in yamls.items():
        (tmp_path / "own" / name).parent.mkdir(parents=True)
        (tmp_path / "own" / name).write_text(text)
    return tmp_path / "own"


def test_a_mix_in_a_yaml_of_ones_own_or_in_an_experiment_is_the_one_that_is_typed(mixed, own, tmp_path):
    short = [*SMALL, "trainer.epochs=1", "trainer.steps_per_epoch=1", f"--config-dir={own}"]
    left_out = re.compile("drawn|annotated|listed.weight")
    typed = [item for item in sources(mixed.parent) if not left_out.search(item)]
    ways = {"typed": typed, "yaml": ["data=everything"], "experiment": ["experiment=mine"]}
    runs = {name: run_into(tmp_path / name, *short, *way) for name, way in ways.items()}
    for name in ("yaml", "experiment"):
        assert saved(runs[name])["config"]["data"] == saved(runs["typed"])["config"]["data"]
        torch.testing.assert_close(weights(runs[name]), weights(runs["typed"]), rtol=0, atol=0)


def test_this_machine_says_where_a_source_lies(run, mixed, own):
    short = [*SMALL, "trainer.epochs=1", "trainer.steps_per_epoch=1", f"--config-dir={own}", "data.val_split=2"]
    folder = run(*short, "data=mix", "+data@data.sources.mine=folder").folder
    assert saved(folder)["config"]["data"]["sources"]["mine"]["root"] == f"{mixed.parent}/mine"
    assert [*saved(folder)["config"]["data"]["sources"]] == ["mine"]
    folder = run(*short, "data=folder", f"data.root={mixed.parent}/listed").folder
    assert "sources" not in saved(folder)["config"]["data"]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["data=mix"], "data=mix has no source: name some, as +data@data.sources.coco=coco"),
        (["data=mix", "data@data.sources.a=folder"], "data@data.sources.a: a source is added by +data@data.sources.a="),
        (["data=mix", "data.sources.a.root=x"], "data.sources.a: there is no such source; add it by data=mix +data@data."),
        (["data=mix", "data.sources.a.weight=2"], "data.sources.a is no source: choose one by +data@data.sources.a="),
        (["data.sources.mine.wieght=2"], "data.sources.mine.wieght: there is no such key, did you mean data.sources.mine.weight?"),
        (["data.sources.mine.rot=2"], "data.sources.mine.rot: there is no such key, did you mean data.sources.mine.root?"),
        (["+data.sources.mine.mak=alpha"], "data.sources.mine.mak: there is no such key, did you mean mask?"),
        (["data.sources.mine.weight=-1", "data.sources.drawn.only=x"],
         "data.sources.mine.weight=-1: give a number from 0 to 1000\ndata.sources.drawn.only=x: give train, val, test"),
        (["data.sources.mine.only=val", "data.sources.listed.only=test", "data.sources.annotated.only=val"], "there is no training data"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_mix_is_a_sentence(run, mixed, typed, sentence):
    beside = [] if typed[0] == "data=mix" else sources(mixed.parent)
    typed = [*(item for item in beside if item.split("=")[0] not in {one.split("=")[0] for one in typed}), *typed]
    assert sentence in run(*SMALL, *typed, code=1).stderr
