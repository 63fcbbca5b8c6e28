"""A checkpoint as a callable: uint8 photographs in, the person's probability out, each at its own size.

    from humanseg.predictor import Predictor
    probability = Predictor("outputs/train/DATE/TIME")(image)

Test, predict and export all take this path: letterbox, network, undo the letterbox, resize the logits.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from humanseg import build, checkpoint, recorded, runs
from humanseg.data.transforms import letterbox, unletterbox
from humanseg.device import Compute
from humanseg.metrics import person_probability


class Predictor:
    """The person's probability for photographs of any size.

    Args:
        ckpt: a checkpoint, a run's folder (its best.pt), a sweep's folder (its winner) or ``latest``.
        device: auto | cpu | cuda | cuda:1 | mps.
        precision: auto | fp32 | bf16 | fp16.

    Raises:
        ValueError: no checkpoint there, or one that is damaged or names strange code.
    """

    def __init__(self, ckpt: str | Path, device: str = "auto", precision: str = "auto"):
        path = runs.find_checkpoint(str(ckpt), "outputs")
        payload = checkpoint.load(path)
        config = recorded.checkpoint_config(payload, {}, [])
        network = build.model(config["model"])
        checkpoint.load_weights(network, payload, path)
        trainer = config["trainer"] | {"device": device, "precision": precision, "threads": None}
        self.use(
            network, build.compute(trainer, config["data"]), config["data"]["image_size"], config["data"]["pad_value"]
        )

    @classmethod
    def of(cls, network: nn.Module, compute: Compute, size: int, pad_value: int) -> "Predictor":
        """A predictor of a network that is in memory."""
        predictor = cls.__new__(cls)
        predictor.use(network, compute, size, pad_value)
        return predictor

    def use(self, network: nn.Module, compute: Compute, size: int, pad_value: int) -> None:
        self.network, self.compute = compute.place(network).eval(), compute
        self.size, self.pad_value = size, pad_value

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 HxWx3 RGB -> float32 HxW in [0, 1]."""
        return person_probability(self.logits([image])[0][None])[0].cpu().numpy()

    @torch.inference_mode()
    def logits(self, images: list[np.ndarray]) -> list[Tensor]:
        """uint8 HxWx3 photographs of any sizes -> float32 CxHxW logits, each at its photograph's size."""
        squares = [
            letterbox(image, np.zeros(image.shape[:2], np.uint8), self.size, self.pad_value)[0] for image in images
        ]
        found = self.compute(self.network, torch.from_numpy(np.stack(squares)))
        return [unletterbox(one, *image.shape[:2]) for one, image in zip(found, images, strict=True)]
