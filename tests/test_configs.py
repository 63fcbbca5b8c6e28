"""Every YAML of conf/ composes, builds and takes a training step; what a group promises holds."""

import math

import pytest
import torch
from conftest import ROOT, TINY, board, composed, experiments, rows
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import nn

from humanseg import build
from humanseg.compute import Compute


def names(group: str, *left_out: str) -> list[str]:
    return sorted(file.stem for file in (ROOT / "conf" / group).glob("*.yaml") if file.stem not in left_out)


CPU = Compute(torch.device("cpu"), "fp32", True, [0.5, 0.5, 0.5], [0.25, 0.25, 0.25])


class Dot(nn.Module):
    """The smallest network with a norm and biases."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3, padding=1)
        self.decoder = nn.BatchNorm2d(4)
        self.segmentation_head = nn.Conv2d(4, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.segmentation_head(self.decoder(self.encoder(images)))


def step(network: nn.Module, size: int = 128, classes: int = 1, loss: str = "dice") -> float:
    """One optimizer step on two random pictures; returns the loss."""
    criterion = build.loss(composed(f"loss={loss}", f"model.classes={classes}")["loss"], classes)
    images = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8)
    target = torch.zeros(2, size, size, dtype=torch.long)
    target[:, 10:40, 20:50] = 1
    value = criterion(CPU(CPU.place(network).train(), images), target)
    value.backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    return value.item()


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("name", names("model"))
def test_model(name, classes):
    network = build.model(composed(f"model={name}", f"model.classes={classes}")["model"])
    before = [parameter.detach().clone() for parameter in network.parameters()]
    assert 0 < step(network, classes=classes) < 2
    after = list(network.named_parameters())
    moved = [name for (name, new), old in zip(after, before, strict=True) if not torch.equal(old, new)]
    assert {name.split(".")[0] for name in moved} == {"encoder", "decoder", "segmentation_head"}
    assert network.eval()(torch.zeros(1, 3, 160, 160)).shape == (1, classes, 160, 160)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-mobilenetv3_small_050"])
def test_other_encoders(encoder):
    network = build.model(composed(f"model.encoder_name={encoder}")["model"])
    assert 0 < step(network) < 2


def test_an_encoder_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="resnet81"):
        build.model(composed("model.encoder_name=resnet81")["model"])


def test_encoder_weights_from_a_file(tmp_path):
    config = composed()["model"]
    source = build.model(config)
    weights = {key: value for key, value in source.encoder.state_dict().items() if "num_batches" not in key}
    torch.save(weights | {"classifier.1.weight": torch.zeros(1000, 1280)}, tmp_path / "encoder.pth")
    loaded = build.model(config | {"encoder_weights": str(tmp_path / "encoder.pth")})
    for key, value in source.encoder.state_dict().items():
        assert torch.equal(value, loaded.encoder.state_dict()[key]), key


def test_encoder_weights_that_do_not_fit_say_where(tmp_path):
    config = composed()["model"]
    weights = build.model(config).encoder.state_dict()
    weights["features.0.0.weight"] = torch.zeros(16, 3, 3, 3)
    weights["features.99.weight"] = weights.pop("features.1.conv.0.0.weight")
    torch.save(weights, tmp_path / "encoder.pth")
    with pytest.raises(ValueError) as error:
        build.model(config | {"encoder_weights": str(tmp_path / "encoder.pth")})
    for difference in (
        "features.0.0.weight is (16, 3, 3, 3) instead of (32, 3, 3, 3)",
        "features.1.conv.0.0.weight is missing",
        "features.99.weight is not in the model",
    ):
        assert difference in str(error.value)


def test_encoder_weights_without_a_connection_say_what_to_do(monkeypatch):
    import segmentation_models_pytorch as smp

    def offline(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(smp.encoders, "load_state_dict_from_url", offline, raising=False)
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("huggingface_hub.file_download.http_get", offline, raising=False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline, raising=False)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline, raising=False)
    with pytest.raises(ValueError, match="can't be downloaded, as without a connection.*model.encoder_weights=null"):
        build.model(composed("model.encoder_weights=imagenet")["model"])


@pytest.mark.parametrize("name", names("optimizer"))
def test_optimizer(name):
    network = Dot()
    optimizers = build.optimizers(composed(f"optimizer={name}")["optimizer"], network)
    before = {key: value.clone() for key, value in network.state_dict().items() if "num_batches" not in key}
    CPU(network, torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)).square().mean().backward()
    for optimizer in optimizers.values():
        optimizer.step()
    still = {"decoder.running_mean", "decoder.running_var"}
    for key in before.keys() - still - {"encoder.bias"}:  # batch norm cancels the bias before it
        assert not torch.equal(before[key], network.state_dict()[key]), key


def test_torchs_own_optimizers_step_in_one_kernel_unless_told_otherwise():
    def fused(*overrides: str) -> bool:
        return bool(build.optimizers(composed(*overrides)["optimizer"], Dot())["model"].param_groups[0].get("fused"))

    assert fused("optimizer=sgd") and fused("optimizer=adamw") and not fused("optimizer=rmsprop")
    assert not fused("+optimizer.fused=false") and not fused("+optimizer.foreach=true")


@pytest.mark.parametrize(
    "overrides", [["optimizer=sgd"], ["optimizer=sgd", "+optimizer.fused=true"], ["optimizer=adamw"]]
)
def test_a_first_step_that_overflows_leaves_nothing_behind(overrides):
    network, scaler = torch.nn.Linear(1000, 1), torch.amp.GradScaler("cpu", init_scale=2.0)
    optimizer = build.optimizers(composed(*overrides)["optimizer"], network)["model"]
    taken = [torch.full((1, 1000), math.nan) for _ in range(9)]
    del taken  # memory that the optimizer may get
    for factor in (math.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale(factor * network.weight.sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
    assert network.weight.isfinite().all()


def test_norms_and_biases_are_spared_from_decay_where_the_choice_says_so():
    optimizer = build.optimizers(composed("optimizer=adamw")["optimizer"], Dot())["model"]
    decayed, spared = optimizer.param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 3, 3), (1, 4, 1, 1)] and decayed["weight_decay"] == 0.01
    assert [p.ndim for p in spared["params"]] == [1, 1, 1, 1] and spared["weight_decay"] == 0
    assert len(build.optimizers(composed("optimizer=sgd")["optimizer"], Dot())["model"].param_groups) == 1


def test_several_optimizers_share_out_the_model():
    built = build.optimizers(composed("optimizer=encoder_decoder")["optimizer"], Dot())
    kinds = {part: (type(optimizer).__name__, optimizer.defaults["lr"]) for part, optimizer in built.items()}
    assert kinds == {"encoder": ("AdamW", 1e-4), "decoder": ("AdamW", 1e-3), "segmentation_head": ("SGD", 1e-2)}


def test_the_rest_of_the_model_is_what_no_other_part_names():
    network, config = Dot(), composed("optimizer=encoder_rest")["optimizer"]
    network.deep_heads = nn.ModuleList([nn.Conv2d(4, 1, 1)])  # as a network with several outputs has
    built = build.optimizers(config, network)
    held = {part: {id(p) for group in one.param_groups for p in group["params"]} for part, one in built.items()}
    assert held["encoder"] == {id(p) for p in network.encoder.parameters()}
    assert held["rest"] == {id(p) for p in network.parameters()} - held["encoder"]
    assert [one.defaults["lr"] for one in built.values()] == [1e-4, 1e-3]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["~optimizer.parts.decoder"], "no part holds decoder.weight"),
        (["+optimizer.parts.neck=${optimizer.parts.encoder}"], "the model has no neck; its parts are encoder, decoder"),
    ],
)
def test_parts_that_do_not_make_up_the_model(overrides, sentence):
    config = composed("optimizer=encoder_decoder", *overrides)["optimizer"]
    with pytest.raises(ValueError, match=sentence):
        build.optimizers(config, Dot())


def test_a_frozen_part_needs_no_optimizer():
    network, config = Dot(), composed("optimizer=encoder_decoder")["optimizer"]
    network.encoder.requires_grad_(False)
    assert list(build.optimizers(config, network)) == ["decoder", "segmentation_head"]
    del config["parts"]["encoder"]
    assert list(build.optimizers(config, network)) == ["decoder", "segmentation_head"]
    with pytest.raises(ValueError, match="optimizer.parts: all parameters of its parts are frozen"):
        build.optimizers(config, network.requires_grad_(False))


def test_parts_that_overlap():
    network, config = Dot(), composed("optimizer=encoder_decoder")["optimizer"]
    network.encoder = nn.Sequential(network.encoder)
    config["parts"]["encoder.0"] = config["parts"]["encoder"]
    with pytest.raises(ValueError, match="two parts share parameters"):
        build.optimizers(config, network)


@pytest.mark.parametrize("augment", names("augment"))
def test_augment(augment, people):
    cfg = composed(
        "data=folder", f"data.root={people}", f"augment={augment}", "data.image_size=64", "data.batch_size=4"
    )
    data = build.data(cfg["data"] | {"num_workers": 0}, cfg["augment"], 1, 0)
    images, masks = next(data.train_batches(0, 1))
    assert images.shape == (4, 64, 64, 3) and images.dtype == torch.uint8
    assert set(masks.unique().tolist()) <= {0, 1, 255} and (masks == 1).any()


@pytest.mark.parametrize("name", ["synthetic", "folder", "pairs"])
def test_data(name, people, tmp_path):
    lines = [f"people/images/{n:03d}.png, people/masks/{n:03d}.png\n" for n in range(12)]
    (tmp_path / "pairs.txt").write_text("".join(lines))
    where = {"synthetic": "samples=12", "folder": f"root={people}", "pairs": f"pairs={tmp_path / 'pairs.txt'}"}
    cfg = composed(f"data={name}", f"data.{where[name]}", "data.val_split=0.25", "data.image_size=64")
    data = build.data(cfg["data"] | {"num_workers": 0, "batch_size": 4}, cfg["augment"], 1, 0)
    assert {part: len(split) for part, split in data.splits.items()} == {"train": 9, "val": 3, "test": 0}
    images, masks = next(iter(data.eval_batches("val")))
    assert images.shape == (3, 64, 64, 3) and masks.shape == (3, 64, 64) and (masks == 1).any()


@pytest.mark.parametrize("name", names("callbacks", "mlflow", "wandb", "latency"))  # tests/logs has those of trackers
def test_callbacks(name, run, recwarn):
    done = run(*TINY[:-1], f"callbacks={name}", *(["callbacks.histograms.every=1"] if name != "none" else []))
    tags = board(done.folder).Tags()
    assert ("previews" in tags["images"]) == (name != "none")
    assert ("gradients/segmentation_head.0" in tags["histograms"]) == (name != "none")
    assert bool(tags["graph"]) == (name == "all")
    # torch 2.11 has a DeprecationWarning, which Python does not show.
    shown = [one for one in recwarn if one.category is not DeprecationWarning]
    assert not [one for one in shown if "torch.jit" in str(one.message)]


def test_the_networks_latency_is_a_value_of_an_epoch(run):
    done = run(*TINY[:-1], "callbacks=latency")
    assert all(float(row["latency_ms"]) > 0 for row in rows(done.folder))


@pytest.mark.parametrize("name", names("mode"))
def test_mode(name):
    assert composed(f"mode={name}")["mode"] == name
    assert (ROOT / "humanseg" / "modes" / f"{name}.py").is_file()


@pytest.mark.parametrize("name", experiments(several=False))  # tests/data/test_sources.py has the others
def test_experiment(name, run, people):
    source = [] if name in ("debug", "overfit") else [f"data.root={people}"]
    small = [item for item in TINY if not item.startswith("data.samples")] + (["data.samples=24"] if not source else [])
    small = [f"+{item}" if item.startswith("+") else item for item in small]  # an experiment may have the key
    done = run(f"experiment={name}", *source, *small)
    assert "best       epoch" in done.stdout


def test_the_experiment_that_is_a_sweep():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        hydra = compose("config", ["experiment=sweep_lr_loss"], return_hydra_config=True).hydra
    assert hydra.mode.name == "MULTIRUN" and set(hydra.sweeper.params) == {"optimizer.lr", "loss"}


@pytest.mark.parametrize("sampler", names("hydra/sweeper/sampler"))
@pytest.mark.parametrize("pruner", names("hydra/sweeper/pruner"))
def test_the_experiment_that_is_a_search(sampler, pruner):
    optuna = pytest.importorskip("optuna")
    chosen = [f"hydra/sweeper/sampler={sampler}", f"hydra/sweeper/pruner={pruner}"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("config", ["experiment=[portrait,search]", *chosen], return_hydra_config=True)
    sweeper = OmegaConf.to_container(config, resolve=False)["hydra"]["sweeper"]
    sweeper["pruner"].update({"max_resource": 8} if pruner == "hyperband" else {})
    assert config.hydra.mode.name == "MULTIRUN" and config.data.image_size == 224
    assert isinstance(build.build(sweeper["sampler"], "sampler")(seed=1), optuna.samplers.BaseSampler)
    assert isinstance(build.build(sweeper["pruner"], "pruner"), optuna.pruners.BasePruner)


def test_experiments_of_values_stack():
    cfg = composed("experiment=[portrait,overfit]")
    assert cfg["augment"] is None and cfg["data"]["val_split"] == "train" and cfg["data"]["limit"] == 8
    assert cfg["data"]["_target_"] == "humanseg.data.files.folder" and cfg["optimizer"]["_target_"].endswith("AdamW")


def test_classic_unet_has_the_templates_numbers():
    cfg = composed("experiment=classic_unet")
    assert cfg["model"] | {"classes": 2, "encoder_name": "mobilenet_v2"} == cfg["model"]
    assert cfg["data"]["image_size"] == 320 and cfg["data"]["batch_size"] == 16
    assert cfg["optimizer"] | {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-8} == cfg["optimizer"]
    assert cfg["scheduler"]["curve"]["power"] == 0.9 and cfg["trainer"]["epochs"] == 80
    assert (cfg["trainer"]["monitor"], cfg["trainer"]["monitor_mode"]) == ("val/loss", "min")
    assert cfg["loss"]["loss"]["mode"] == "multiclass"
