"""A network learns from a teacher: its answers are asked once, and go the way of the masks, to the same bits."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ON_FILES, broken_off, composed, rows, run_into, saved, summary, write_people
from killing import kill_at

from humanseg import build, checkpoint, distillation, losses
from humanseg.compute import Compute
from humanseg.cross_entropies import Distilled
from humanseg.data.answers import Teacher
from humanseg.data.formats.unlabelled import unlabelled
from humanseg.data.photographs import Photographs

CPU = Compute(torch.device("cpu"), "fp32", True, [0.5, 0.5, 0.5], [0.25, 0.25, 0.25])
PARTS = ("model", "optimizers", "random", "step")


def answers(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8).view(1, 1, -1)


def logits_of(probability: torch.Tensor) -> torch.Tensor:
    return probability.logit().view(1, 1, 1, -1).requires_grad_()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_distillation_is_the_divergence_of_the_softened_answers(temperature):
    logits, target = logits_of(torch.tensor([0.2, 0.5, 0.9])), torch.full((1, 1, 3), 255)
    asked = torch.tensor([25, 127, 200]) / 254
    pairs = [torch.stack([one, 1 - one]) for one in ((asked.logit() / temperature).sigmoid(),
             (logits.flatten() / temperature).sigmoid())]  # fmt: skip
    expected = torch.nn.functional.kl_div(pairs[1].log(), pairs[0], reduction="none").sum(0).mean() * temperature**2
    loss = Distilled(temperature)
    torch.testing.assert_close(loss(logits, target, answers(25, 127, 200)), expected)
    both = torch.cat([-logits / 2, logits / 2], 1)  # of two classes, whose difference is the person's logit
    torch.testing.assert_close(loss(both, target, answers(25, 127, 200)), expected)


def test_who_says_what_the_teacher_says_pays_nothing_and_where_it_says_nothing_nobody_pays():
    loss, target = Distilled(2.0), torch.zeros(1, 1, 3, dtype=torch.long)
    logits = logits_of(torch.tensor([127, 0.5, 254 - 0.5]) / 254)
    torch.testing.assert_close(loss(logits, target, answers(127, 0, 254)), torch.zeros(()), atol=1e-6, rtol=0)
    far = logits_of(torch.tensor([0.9, 0.5, 0.1]))
    loss(far, target, answers(25, 255, 200)).backward()
    assert far.grad[..., 0] > 0 and far.grad[..., 1] == 0 and far.grad[..., 2] < 0
    assert loss(far, target, answers(255, 255, 255)) == 0


def test_every_output_of_a_network_hears_the_teacher():
    logits, target = torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
    said = torch.full((1, 4, 4), 254, dtype=torch.uint8)
    loss = build.loss(composed("loss=bce_dice_distill", "loss.weights.distill=3")["loss"], 1)
    alone = Distilled(2.0)(logits, target, said)
    _, terms = losses.total_loss(loss, [logits, logits[..., ::2, ::2]], target, weights=[1, 0.5], teacher=said)
    torch.testing.assert_close(terms["loss_distill"], 3 * alone)
    torch.testing.assert_close(terms["loss_output2"], 0.5 * terms["loss_output1"])
    assert build.loss(composed("loss=ce_dice_distill", "model.classes=2")["loss"], 2).weights["distill"] == 1


@pytest.mark.parametrize(
    ("loss", "distill", "told"),
    [("bce_dice_distill", None, "the loss asks for a teacher: give distill=PATH"),
     ("bce_dice", "run", "distill=run: the loss does not ask for a teacher: give loss=bce_dice_distill")],
)  # fmt: skip
def test_a_teacher_and_a_loss_that_asks_for_it_belong_together(loss, distill, told):
    with pytest.raises(ValueError, match=told):
        distillation.refuse_unasked(build.loss(composed(f"loss={loss}")["loss"], 1), distill)


class Listens(torch.nn.Module):
    """A loss that takes a teacher's answers where there are some."""

    def forward(self, logits, target, teacher=None):
        return logits.mean()


def test_a_loss_may_do_without_a_teacher():
    for distill in (None, "run"):
        distillation.refuse_unasked(losses.WeightedSum({"one": Listens()}, {"one": 1}), distill)


@pytest.fixture
def reds(tmp_path) -> Path:
    """A data folder of red people on green, two photographs without people, and beside it two without labels."""
    for folder in ("people/images", "people/masks", "unlabelled"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(12):
        mask = np.zeros((60, 48), np.uint8)
        if number not in (8, 9):
            cv2.ellipse(mask, (24 - number, 30), (8, 22), 0, 0, 360, 255, -1)
        image = np.where(mask[..., None] > 0, (0, 0, 255), (0, 255 - number, 0)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / ("people/images" if number < 10 else "unlabelled") / f"{number}.png"), image)
        if number < 10:
            cv2.imwrite(str(tmp_path / "people" / "masks" / f"{number}.png"), mask)
    return tmp_path / "people"


class Asked:
    """A teacher that takes what is red for a person, and counts what it is asked."""

    def __init__(self, mark: str = "00000000000000ff"):
        self.times, self.teacher = 0, Teacher("red", mark, 60, self)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.times += 1
        return (image[..., 0] > 128).astype(np.float32)


def data(root: Path, teacher: Teacher, augment: str, *more: str):
    cfg = composed(
        "data=mix", "data.val_split=2", "+data@data.sources.mine=folder", f"data.sources.mine.root={root}",
        "+data@data.sources.any=unlabelled", f"data.sources.any.root={root.parent}/unlabelled", "data.image_size=64",
        f"augment={augment}", f"out={root.parent}/out", "data.batch_size=5", "data.num_workers=0", *more,
    )  # fmt: skip
    return replace(build.data(cfg["data"], cfg["augment"], 1, 0), teacher=teacher)


@pytest.mark.parametrize(("augment", "least"), [("none", 1), ("classic", 1), ("portrait", 1), ("composed", 0.99)])
def test_answers_take_the_way_of_the_masks(reds, augment, least):
    found = data(reds, Asked().teacher, augment, *(["augment.compose.p=1"] if augment == "composed" else []))
    seen = 0
    for _, masks, said in [*found.train_batches(0, 6), *found.eval_batches("val")]:
        labelled = masks != 255
        assert ((said >= 127) == (masks == 1))[labelled].float().mean() >= least
        assert (said[labelled] != 255).all() and (said == 255).any()
        unknown = (~labelled & (said != 255)).flatten(1).any(1)
        seen += int(unknown.sum())
    assert seen  # the teacher speaks of photographs without labels


def test_a_teacher_is_asked_once_for_each_photograph_and_each_teacher_for_itself(reds):
    first = Asked()
    batches = list(data(reds, first.teacher, "composed").train_batches(0, 4))
    assert first.times == 12
    for more in (["data.num_workers=2"], ["data.cache=false"]):
        again = data(reds, first.teacher._replace(ask=None), "composed", *more).train_batches(0, 4)
        assert all(torch.equal(a, b) for x, y in zip(batches, again, strict=True) for a, b in zip(x, y, strict=True))
    other = Asked("00000000000000fe")
    next(data(reds, other.teacher, "none").train_batches(0, 1))
    assert (first.times, other.times) == (12, 12)
    with pytest.raises(
        ValueError, match="distill=gone: no such checkpoint, and the cache lacks its answers to 10 photo"
    ):
        data(reds, Teacher("gone", "00000000000000fd", 1, None), "none").train_batches(0, 1)


@pytest.mark.parametrize("cache", ["true", "false"])
def test_a_photograph_that_breaks_has_no_answer(reds, monkeypatch, cache):
    prepared = Photographs.prepared

    def breaks(self, index, longest):
        if self.names[index].endswith("people/images/3.png"):
            raise ValueError("it broke")
        return prepared(self, index, longest)

    monkeypatch.setattr(Photographs, "prepared", breaks)
    asked, where = Asked(), ["data.split_seed=1", "data.num_workers=0", f"data.cache={cache}"]
    with pytest.raises(ValueError, match="it broke"):
        data(reds, asked.teacher, "none", *where).train_batches(0, 1)
    found = data(reds, asked.teacher, "portrait", *where, "data.on_error=skip")
    batches = [*found.train_batches(0, 6), *found.eval_batches("val")]
    assert {Path(one.path).name for one in found.tolerance.skipped(found.splits)} == {"3.png"}
    silent = [bool((said == 255).all()) for _, _, some in batches for said in some]
    assert any(silent) and not all(silent)


def test_a_damaged_answer_is_a_sentence_and_asked_for_again(reds):
    asked = Asked()
    found = data(reds, asked.teacher, "none")
    batches = list(found.train_batches(0, 2))
    (file,) = (reds.parent / "out" / "cache").glob("answers_*.pixels")
    body = bytearray(file.read_bytes())
    body[60 * 48 * found.splits["train"].parts[0].indices[0]] ^= 1
    file.write_bytes(body)
    with pytest.raises(ValueError, match="an answer of the teacher in .* is damaged: resume the run"):
        list(data(reds, asked.teacher, "none").train_batches(0, 2))
    again = list(data(reds, asked.teacher, "none").train_batches(0, 2))
    assert asked.times == 13 and all(torch.equal(x[2], y[2]) for x, y in zip(batches, again, strict=True))


def test_a_source_without_keys_is_told_by_its_pixels(tmp_path):
    cfg = composed("data.samples=6", "data.val_split=0", "data.image_size=32", "data.num_workers=0", f"out={tmp_path}")
    for times in (6, 0):
        asked = Asked()
        found = replace(build.data(cfg["data"] | {"batch_size": 3}, None, 1, 0), teacher=asked.teacher)
        _, _, said = next(found.train_batches(0, 1))
        assert asked.times == times and said.unique().tolist() == [0, 254]


def test_unlabelled_photographs_are_ignored_as_a_whole(tmp_path):
    root = write_people(tmp_path / "a", 3)
    found = unlabelled(root=str(root))
    assert len(found["train"]) == 3 and not (found["val"] or found["test"])
    assert all((mask == 255).all() and mask.shape == (48, 40) for _, mask in found["train"])
    with pytest.raises(ValueError, match="data.root: .* does not exist"):
        unlabelled(root=str(tmp_path / "b"))


def student(root: Path, teacher: Path) -> list[str]:
    """What a user types to learn from a teacher, with photographs without labels beside the others."""
    return [
        *(item for item in ON_FILES if "val_split" not in item), "data=mix", "data.val_split=2", "augment=composed",
        "+data@data.sources.mine=folder", f"data.sources.mine.root={root}/people", "data.batch_size=4",
        "+data@data.sources.any=unlabelled", f"data.sources.any.root={root}/any", "loss=bce_dice_distill",
        f"distill={teacher}", f"out={root}/out",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def taught(tmp_path_factory, tiny_once) -> Path:
    """The folder of a run that learned from a copy of a small run, beside it, which nothing touched."""
    root = tmp_path_factory.mktemp("taught")
    write_people(root / "people", 10)
    write_people(root / "any", 4, (40, 44))
    shutil.copytree(tiny_once, root / "teacher")
    return run_into(root / "run", *student(root, root / "teacher"), f"out={root}/out")


def test_a_run_that_is_killed_goes_on_with_what_its_teacher_said_to_the_same_bits(run, taught, tmp_path):
    root = Path(shutil.copytree(taught.parent, tmp_path / "all", ignore=shutil.ignore_patterns("run", "out")))
    arguments = [*student(root, root / "teacher"), f"hydra.run.dir={tmp_path}/run", "trainer.save_minutes=0"]
    kill_at("torch.optim:SGD.step", tmp_path / "log", *arguments, call=3)
    (root / "teacher").rename(tmp_path / "elsewhere")
    run(f"resume={tmp_path}/run", f"out={root}/out")
    for part in PARTS:
        torch.testing.assert_close(saved(tmp_path / "run")[part], saved(taught)[part], rtol=0, atol=0)
    assert saved(tmp_path / "run")["teacher"] == saved(taught)["teacher"]
    assert {"train/loss_distill", "val/loss_distill"} <= rows(taught)[-1].keys()
    assert summary(tmp_path / "run")["status"] == "completed"

    shutil.rmtree(root / "out" / "cache")
    again = [f"resume={broken_off(tmp_path / 'run')}", f"out={root}/out", "trainer.epochs=3"]
    told = run(*again, code=1).stderr
    assert "teacher: no such checkpoint, and the cache lacks its answers to 10 photographs: put it back" in told
    assert "epoch 3/3" in run(*again, f"distill={tmp_path}/elsewhere").stdout


def test_a_run_keeps_its_teacher(run, taught, tmp_path):
    told = run(f"resume={taught}", "trainer.epochs=3", f"distill={taught}", code=1).stderr
    assert "best.pt is another teacher than the one that this run began with" in told
    told = run(f"resume={taught}", "trainer.epochs=3", "distill=null", code=1).stderr
    assert "can't go on with another distill" in told


def opened(path: Path, classes: int = 1) -> Teacher:
    return distillation.teacher(path, classes, CPU, None)


def test_a_teacher_that_does_not_fit_is_one_sentence(tiny_once, tmp_path):
    path = tiny_once / "checkpoints" / "best.pt"
    with pytest.raises(ValueError, match="the teacher has model.classes=1, and this network 2: give one of as many"):
        opened(path, 2)
    with pytest.raises(ValueError, match="a teacher tells people from the background, not model.classes=3"):
        opened(path, 3)
    payload = checkpoint.load(path)
    weights = payload["model"]
    name = next(name for name, tensor in weights.items() if tensor.ndim == 4 and tensor.shape[1] == 3)
    payload["config"]["model"]["in_channels"] = 4
    payload["model"] = weights | {name: torch.cat([weights[name], weights[name][:, :1]], 1)}
    checkpoint.save(tmp_path / "other.pt", payload)
    with pytest.raises(ValueError, match="other.pt: the teacher does not take photographs of three colours"):
        opened(tmp_path / "other.pt")
    payload = checkpoint.load(path)
    payload["model"]["segmentation_head.0.bias"] += math.inf  # certain of people everywhere
    checkpoint.save(tmp_path / "endless.pt", payload)
    with pytest.raises(ValueError, match="endless.pt: the teacher's answers are no numbers"):
        opened(tmp_path / "endless.pt")
    payload["config"]["model"] = {"_target_": "os.system", "classes": 1}
    checkpoint.save(tmp_path / "strange.pt", payload)
    with pytest.raises(ValueError, match="distill=.*strange.pt: the recorded config holds what no YAML of conf/ has"):
        opened(tmp_path / "strange.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(ValueError, match="^distill=.*/empty.pt is truncated, damaged or no checkpoint"):
        opened(tmp_path / "empty.pt")


@pytest.mark.parametrize(
    ("name", "told"),
    [("nothing.pt", "distill=.*nothing.pt: no such checkpoint"), ("a.onnx", "distill=.*a.onnx is exported"),
     ("latest", "distill=latest: no run under")],
)  # fmt: skip
def test_a_teacher_that_is_not_there_is_one_sentence(tmp_path, name, told):
    (tmp_path / "a.onnx").touch()
    with pytest.raises(ValueError, match=told):
        distillation.place(name if name == "latest" else str(tmp_path / name), str(tmp_path))


def test_a_teachers_mark_is_that_of_its_weights_and_of_what_it_sees(tiny_once):
    payload = checkpoint.load(tiny_once / "checkpoints" / "best.pt")
    config = json.loads(json.dumps(payload["config"]))
    network = build.model_of(payload, config["model"], tiny_once)
    mark = distillation.mark_of(network, config)
    assert opened(tiny_once / "checkpoints" / "best.pt").mark != distillation.mark_of(
        network, config | {"data": config["data"] | {"image_size": 64}}
    )
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] += 1e-3
    assert distillation.mark_of(network, config) != mark
