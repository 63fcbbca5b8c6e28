"""Does the fast path cost accuracy? The portrait recipe on it and, in fp32, on a plain path, over seeds. Run by hand:

    python tests/bench/accuracy.py DIR [WEIGHTS]

DIR is a data folder, WEIGHTS an encoder's state dict. Both paths share the loop, the optimizer, the schedule and what the
augmentation draws from. The plain path decodes each photograph in full in each epoch, warps it from its full size, uses
albumentations' own colours and noise, normalises to float on the CPU, and runs in fp32 and the default memory format.
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import mean, stdev

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from humanseg import build, loop, metrics
from humanseg.compute import Compute
from humanseg.data.augment import Grain, Reframe, Tint
from humanseg.data.loading import Data
from humanseg.runs.conf import CONF

SIZE, EPOCHS, SEEDS = 160, 4, (0, 1, 2)


class Photographs(Dataset):
    """Training samples from their files: float 3xSxS and class ids SxS."""

    def __init__(self, data: Data, compute: Compute):
        self.split = data.splits["train"]
        ours = {Tint: _jitter, Grain: _noise, Reframe: lambda reframe: reframe}
        recipe = [ours.get(type(one), lambda other: other)(one) for one in data.augment.transforms]
        self.transform = A.Compose([*recipe, A.Normalize(compute.mean, compute.std), A.ToTensorV2()], seed=data.seed)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.split[index]
        done = self.transform(image=image, mask=mask)
        return done["image"], done["mask"]


def _jitter(tint: Tint) -> A.ColorJitter:
    return A.ColorJitter(tint.brightness, tint.contrast, tint.saturation, (-tint.hue, tint.hue), p=tint.p)


def _noise(grain: Grain) -> A.GaussNoise:
    return A.GaussNoise(grain.std, p=grain.p)


@dataclass
class PlainData(Data):
    """The same splits; training batches are float NxCxHxW and come from the files."""

    compute: Compute | None = None

    def train_batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.Generator().manual_seed(self.seed)
        photographs, size = Photographs(self, self.compute), self.config.batch_size
        loader = DataLoader(photographs, size, shuffle=True, drop_last=True, generator=order)
        while True:
            yield from loader


class PlainCompute(Compute):
    """fp32 in the default memory format, on images that are normalised already; validation's are not."""

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        return super().__call__(model, images) if images.dtype == torch.uint8 else model(images.to(self.device))


def train(overrides: list[str], plain: bool) -> tuple[float, float]:
    """Validation's IoU after the last epoch, and images a second."""
    cfg = OmegaConf.to_container(compose("config", overrides), resolve=True)
    torch.manual_seed(cfg["seed"])
    data = build.data(cfg["data"], cfg["augment"], cfg["model"]["classes"], cfg["seed"])
    compute = build.compute(cfg["trainer"], cfg["data"])
    if plain:
        compute = PlainCompute(compute.device, "fp32", False, compute.mean, compute.std)
        data = PlainData(data.splits, replace(data.config, cache=False), data.seed, data.augment, compute=compute)
    trainer, steps = cfg["trainer"], data.batches_per_pass()
    epochs, clip = trainer["epochs"], trainer["grad_clip"]
    settings = loop.Settings(epochs, steps, grad_clip=clip, val_every=epochs)
    state = build.state(build.model(cfg["model"]), compute, cfg, epochs * steps)
    loss = build.loss(cfg["loss"], cfg["model"]["classes"])
    loop.fit(state, loop.Setup(data, compute, loss, metrics.find(["iou"]), settings))
    return state.history[-1]["val/iou"], state.history[-1]["time/images_per_second"]


def main(root: str, weights: str = "null") -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        found = {"fast": [], "plain": []}
        for seed in SEEDS:
            overrides = ["experiment=portrait", f"data.root={root}", f"model.encoder_weights={weights}", f"seed={seed}"]
            overrides += [
                f"data.image_size={SIZE}",
                f"trainer.epochs={EPOCHS}",
                "data.num_workers=0",
                "trainer.threads=1",
            ]
            for path, values in found.items():
                started = time.perf_counter()
                iou, rate = train(overrides, path == "plain")
                values.append(100 * iou)
                print(
                    f"seed {seed}, {path}: val/iou {100 * iou:.2f}, {rate:.1f} images/s, {time.perf_counter() - started:.0f} s",
                    flush=True,
                )
        error = (sum(stdev(values) ** 2 for values in found.values()) / len(SEEDS)) ** 0.5
        difference = mean(found["fast"]) - mean(found["plain"])
        print(f"fast - plain: {difference:+.2f} points, standard error {error:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
