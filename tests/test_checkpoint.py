"""A checkpoint opens weights-only, is whole at every instant, and can't choose code to run."""

import copy
import errno
import os

import pytest
import torch
from conftest import TINY, composed

from humanseg import build, checkpoint, loop
from humanseg.compute import Compute
from humanseg.predictor import Predictor
from humanseg.restoring import restore
from humanseg.runs import recorded, trust

KEYS = {
    "architecture", "epoch", "step", "model", "ema", "optimizers", "schedule", "scaler", "random", "history", "config",
    "choices", "versions",
}  # fmt: skip


@pytest.fixture(scope="module")
def payload() -> dict:
    config = composed(*TINY)
    network = build.model(config["model"])
    return {
        "architecture": config["model"]["_target_"],
        "epoch": 1,
        "model": network.state_dict(),
        "ema": None,
        "config": config,
        "choices": {"model": "unet_mbv2", "data": "synthetic", "loss": "dice"},
    }


def test_it_opens_weights_only_and_holds_what_a_run_is(run):
    done = run(*TINY, "trainer.ema=0.9", "trainer.compile=false")
    opened = torch.load(done.folder / "checkpoints" / "last.pt", weights_only=True)
    assert opened.keys() >= KEYS
    assert opened["epoch"] == 2 and opened["step"] == 4 and len(opened["history"]) == 2
    assert opened["model"].keys() == opened["ema"].keys()
    assert not any(key.startswith(("module.", "_orig_mod.")) for key in opened["model"])
    assert opened["config"]["optimizer"]["lr"] == composed()["optimizer"]["lr"]


def test_a_save_that_is_cut_short_leaves_the_one_before(tmp_path, payload, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save(path, payload)
    whole = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ValueError, match="last.pt can't be written .*No space left"):
        checkpoint.save(path, payload | {"epoch": 2}, keep=tmp_path / "previous.pt")
    assert path.read_bytes() == whole and [file.name for file in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_run_can_go_on_in_another_memory_format(optimizer):
    """A fused step on the CPU reads parameters and averages in the order of memory, whatever their formats."""
    cfg = composed(f"optimizer={optimizer}", "scheduler=constant")

    def state(channels_last: bool) -> loop.State:
        torch.manual_seed(0)
        network, compute = torch.nn.Conv2d(3, 4, 3), Compute(torch.device("cpu"), "fp32", channels_last, [0.0], [1.0])
        return build.state(network, compute, cfg, 10)

    def step(one: loop.State) -> None:
        one.optimizers["model"].zero_grad()
        (one.model.weight.pow(3) * torch.arange(108.0).view(4, 3, 3, 3)).sum().backward()
        one.optimizers["model"].step()

    straight, other = state(True), state(False)
    step(straight)
    restore(other, copy.deepcopy(checkpoint.pack(straight, cfg)), torch.device("cpu"))
    step(straight), step(other)
    assert straight.model.weight.stride() != other.model.weight.stride()
    torch.testing.assert_close(straight.model.weight, other.model.weight)


def test_the_one_before_is_kept(tmp_path, payload):
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path / "last.pt", payload | {"epoch": epoch}, keep=tmp_path / "previous.pt")
    assert checkpoint.load(tmp_path / "last.pt")["epoch"] == 3
    assert checkpoint.load(tmp_path / "previous.pt")["epoch"] == 2


def test_files_that_are_no_checkpoints(tmp_path, payload):
    with pytest.raises(ValueError, match="nothing.pt: no such checkpoint"):
        checkpoint.load(tmp_path / "nothing.pt")
    path = tmp_path / "x.pt"
    checkpoint.save(path, payload)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match="truncated, damaged or no checkpoint"):
        checkpoint.load(path)
    path.write_text("not a checkpoint at all")
    with pytest.raises(ValueError, match="truncated, damaged or no checkpoint"):
        checkpoint.load(path)
    torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="is no checkpoint of humanseg"):
        checkpoint.load(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="is no checkpoint of humanseg"):
        checkpoint.load(path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_in_it_is_not_run(tmp_path, payload, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(payload | {"extra": Bomb()}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="no checkpoint"):
        checkpoint.load(tmp_path / "x.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "where",
    [
        lambda config: config["model"].update(_target_="os.system"),
        lambda config: config["data"].update(extra={"deep": [{"_target_": "subprocess.run"}]}),
        lambda config: config["loss"].update(_target_="humanseg.runs.provenance.git"),
        lambda config: config.update(metrics=["iou", "os.getcwd"]),
    ],
    ids=["model", "nested", "own code", "metric"],
)
def test_its_config_may_name_only_the_code_that_conf_names(tmp_path, payload, where):
    config = composed(*TINY)
    where(config)
    checkpoint.save(tmp_path / "x.pt", payload | {"config": config})
    with pytest.raises(ValueError, match="holds what no YAML of conf/ has"):
        recorded.checkpoint_config(checkpoint.load(tmp_path / "x.pt"), {}, [], trust.GROUPS)


def test_weights_of_another_architecture(tmp_path, payload):
    other = build.model(composed("model.encoder_name=resnet18")["model"])
    with pytest.raises(ValueError, match="does not fit: .* and .* more"):
        checkpoint.load_weights(other, payload, tmp_path / "x.pt")


def test_what_is_typed_beside_a_checkpoint_wins_and_nothing_else_changes(payload, people):
    typed = ["mode=test", "ckpt=x.pt", "data=folder", f"data.test_root={people}", "trainer.threads=1"]
    config = recorded.checkpoint_config(payload, composed("data=folder", *typed[3:], "seed=5"), typed)
    assert config["data"]["_target_"] == "humanseg.data.files.folder" and config["data"]["test_root"] == str(people)
    assert config["data"]["image_size"] == 32  # the checkpoint's, not the folder's 320
    assert config["trainer"]["threads"] == 1 and config["seed"] == 0
    assert config["model"]["encoder_weights"] is None

    typed = ["data.image_size=96", "data=synthetic"]
    config = recorded.checkpoint_config(payload, composed(*typed), typed)
    assert config["data"]["image_size"] == 96 and config["data"]["samples"] == 24


def test_where_the_cache_lies_is_this_machines_business(payload):
    here = composed("data.cache=false", "data.cache_dir=here")  # as conf/local has it: nothing was typed
    data = recorded.checkpoint_config(payload, here, [])["data"]
    assert data["cache"] is False and data["cache_dir"] == "here"
    assert data["image_size"] == payload["config"]["data"]["image_size"] != here["data"]["image_size"]


def test_an_experiment_beside_a_checkpoint_is_refused(payload):
    with pytest.raises(ValueError, match="experiment= can't be typed beside ckpt="):
        recorded.checkpoint_config(payload, composed(), ["experiment=debug"])


def test_the_predictor_gives_probabilities_at_the_photographs_own_size(tiny_once):
    predictor = Predictor(tiny_once, precision="fp32", backend="torch")
    for height, width in ((32, 32), (50, 81), (7, 3)):
        image = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()
        probability = predictor(image)
        assert probability.shape == (height, width) and probability.dtype.name == "float32"
        assert 0 <= probability.min() <= probability.max() <= 1


def test_what_is_raised_while_it_is_written_is_not_the_disks(tmp_path):
    class Killed:
        def __reduce__(self):
            raise RuntimeError("DataLoader worker (pid 7) is killed")

    with pytest.raises(RuntimeError, match="DataLoader worker"):
        checkpoint.save(tmp_path / "last.pt", {"weights": torch.zeros(9), "state": Killed()})
    assert not [*tmp_path.iterdir()]
