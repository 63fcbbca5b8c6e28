"""A checkpoint or an exported file as a callable: a uint8 photograph in, the person's probability at its size out.

    from humanseg.predictor import Predictor
    probability = Predictor("outputs/train/DATE/TIME")(image)

Test, predict and export all take this path: letterbox, network, undo the letterbox, resize the logits.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from humanseg import build, checkpoint, terminal
from humanseg.compute import Compute
from humanseg.data.transforms import letterbox, unletterbox, without_letterbox
from humanseg.inference import engines
from humanseg.inference.edges import enlarged_rows, refined
from humanseg.inference.engines import Engine
from humanseg.inference.folding import fold_batchnorm
from humanseg.media.photograph import Given, as_photograph
from humanseg.metrics import person_probability
from humanseg.runs import conf, find, recorded

# Photographs of which people fill less than this share get a second look, at so many times the network's size. Others would
# lose a little by one; humanseg/zoo/README.md has what it brings.
CLOSER = ((0.1, 2.0), (0.3, 1.5))
STRIDE = 32  # the side of a square that a network takes is a multiple of this


class Predictor:
    """The person's probability for photographs of any size.

    `engine` has the backend, precision and device. `size` is the side of the network's square in pixels. `classes` are
    the names of the network's classes.

    Args:
        ckpt: a checkpoint, a run's folder (its best.pt), a sweep's folder (its winner), ``latest``, a file that
            mode=export wrote (.onnx, .xml), or a name of the zoo, as ``portrait``.
        device: auto | cpu | cuda | cuda:1 | mps.
        precision: auto | fp32 | bf16 | fp16.
        backend: auto | torch | onnxruntime | openvino; auto takes the fastest that is installed for the device.
        config_dir: a folder of your own YAMLs that counts like conf/, as `--config-dir` does; your classes are named there.
        refine: edges follow the photograph's own, see `inference.edges`; without it the logits are only enlarged.
        closer: photographs whose people are small are looked at twice, see `logits_of`; not for the frames of a video, whose
            masks would jump. An exported file takes one size and looks once.

    Raises:
        ValueError: there is no such file, or it is damaged or names unknown code; the backend isn't installed, or
            doesn't support the device or the precision.
    """

    def __init__(
        self,
        ckpt: str | Path,
        device: str = "auto",
        precision: str = "auto",
        backend: str = "auto",
        refine: bool = True,
        config_dir: str | Path | None = None,
        closer: bool = True,
    ):
        self.refine, self.closer = refine, closer
        with conf.used(config_dir):
            self._open(ckpt, device, precision, backend)

    def _open(self, ckpt: str | Path, device: str, precision: str, backend: str) -> None:
        path = find.checkpoint(str(ckpt), conf.place_of_runs() if ckpt == "latest" else "")
        if find.is_exported(path):
            engine, facts = engines.of_file(path, backend, device, precision)
            self._use(engine, facts["image_size"], facts["pad_value"], facts["classes"])
            self.closer = False
            return
        payload = checkpoint.load(path)
        config = recorded.checkpoint_config(payload, {}, [])
        config["trainer"] |= {"device": device, "precision": precision, "threads": None}
        self._use_checkpoint(path, payload, config, backend)

    @classmethod
    def of_checkpoint(
        cls,
        path: Path,
        payload: dict,
        config: dict,
        backend: str = "torch",
        refine: bool = False,
        closer: bool = False,
        one_core_each: bool = False,
    ) -> "Predictor":
        """A predictor of a checkpoint that is loaded already, with the config to use it with, see `recorded`.

        Args:
            one_core_each: see `engines.of_network`.
        """
        predictor = cls.__new__(cls)
        predictor.refine, predictor.closer = refine, closer
        predictor._use_checkpoint(path, payload, config, backend, one_core_each)
        return predictor

    @classmethod
    def of(cls, network: nn.Module, compute: Compute, size: int, pad_value: int) -> "Predictor":
        """A predictor of a network that is in memory, in torch."""
        predictor = cls.__new__(cls)
        predictor.refine = predictor.closer = False
        engine = engines.of_network(network, compute, size, "torch", compute.precision)
        predictor._use(engine, size, pad_value, class_names(1))
        return predictor

    def _use_checkpoint(
        self, path: Path, payload: dict, config: dict, backend: str, one_core_each: bool = False
    ) -> None:
        network = fold_batchnorm(build.model_of(payload, config["model"], path))
        data, trainer = config["data"], config["trainer"]
        compute, size = build.compute(trainer, data), data["image_size"]
        engine = engines.of_network(network, compute, size, backend, trainer["precision"], one_core_each)
        self._use(engine, size, data["pad_value"], class_names(config["model"]["classes"]))

    def _use(self, engine: Engine, size: int, pad_value: int, classes: list[str]) -> None:
        self.engine, self.size, self.pad_value, self.classes = engine, size, pad_value, classes

    def __call__(self, image: Given | list[Given]) -> np.ndarray | list[np.ndarray]:
        """The person's probability in a photograph, float32 HxW in [0, 1]; a list for a list of photographs.

        Args:
            image: uint8 HxWx3 RGB, HxWx4 RGBA or HxW grey, or a file's path.

        Raises:
            ValueError: it is none of these, or the file can't be read.
        """
        return self.probabilities(image) if isinstance(image, list | tuple) else self.probabilities([image])[0]

    @torch.inference_mode()
    def probabilities(self, images: list[Given]) -> list[np.ndarray]:
        """Photographs of any sizes -> the person's probability, float32 HxW in [0, 1] each; else as for one."""
        if not images:
            return []
        images = [as_photograph(image) for image in images]
        return [self.probability(one, image) for one, image in zip(self.logits_of(images), images, strict=True)]

    @torch.inference_mode()
    def probability(self, logits: Tensor, image: np.ndarray) -> np.ndarray:
        """Logits CxSxS of a photograph's square and the photograph, uint8 HxWx3 -> float32 HxW in [0, 1]."""
        size = image.shape[:2]
        if self.refine:
            return cv2.resize(self._refined(logits, image), size[::-1])
        return person_probability(unletterbox(logits, *size)[None])[0].cpu().numpy()

    @torch.inference_mode()
    def probability_rows(self, logits: Tensor, image: np.ndarray) -> Callable[[slice], np.ndarray]:
        """As `probability`, for some rows of a large photograph at a time."""
        height, width = image.shape[:2]
        if self.refine:
            return partial(enlarged_rows, self._refined(logits, image), height, width)
        inner = without_letterbox(logits, height, width)

        def values(rows: slice) -> np.ndarray:
            planes = [enlarged_rows(plane.numpy(), height, width, rows) for plane in inner.cpu()]
            return person_probability(torch.from_numpy(np.stack(planes))[None])[0].numpy()

        return values

    def _refined(self, logits: Tensor, image: np.ndarray) -> np.ndarray:
        coarse = person_probability(without_letterbox(logits, *image.shape[:2])[None])[0].cpu()
        return refined(np.ascontiguousarray(coarse), image, logits.shape[-1])

    @torch.inference_mode()
    def logits_of(self, images: list[np.ndarray]) -> list[Tensor]:
        """uint8 HxWx3 photographs of any sizes -> float32 logits CxSxS of their squares.

        S is `size`, and larger for those that `look_closer` looks at.
        """
        found = list(self.on_squares(self.squares(images)))
        return self.look_closer(found, images) if self.closer else found

    @torch.inference_mode()
    def look_closer(self, found: Sequence[Tensor], images: list[np.ndarray]) -> list[Tensor]:
        """Look a second time at photographs in which people are small.

        Args:
            found: logits CxSxS of the photographs' squares, by the first look. images: the photographs, uint8 HxWx3.

        Returns:
            The logits. Those of a photograph that is looked at twice are the mean of both looks, at the second one's size.

        Raises:
            ValueError: the network can't take a larger square.
        """
        looks = list(found)
        for side, indices in second_looks(looks, images, self.size).items():
            second = self._on_larger_squares([images[index] for index in indices], side)
            second = second.to(looks[0].device)  # the first look may have left the GPU
            for index, finer in zip(indices, second, strict=True):
                looks[index] = (resized(looks[index][None], side)[0] + finer) / 2
        return looks

    def _on_larger_squares(self, images: list[np.ndarray], side: int) -> Tensor:
        try:
            return self.on_squares(self.squares(images, side))
        except (RuntimeError, AssertionError) as error:  # each network has its own for it
            raise ValueError(
                f"the network of {self.size} px can't take {side} px, for a second look at small people "
                f"({terminal.reason(error)}): look once, by tta=[] or closer=False"
            ) from error

    @torch.inference_mode()
    def logits(self, images: list[np.ndarray]) -> list[Tensor]:
        """uint8 HxWx3 photographs of any sizes -> float32 CxHxW logits, each at its photograph's size."""
        found = self.on_squares(self.squares(images))
        return [unletterbox(one, *image.shape[:2]) for one, image in zip(found, images, strict=True)]

    def squares(self, images: list[np.ndarray], size: int | None = None) -> Tensor:
        """uint8 HxWx3 photographs of any sizes -> the squares that the network sees, uint8 NxSxSx3; S is `size`."""
        size = size or self.size
        squares = [letterbox(image, np.zeros(image.shape[:2], np.uint8), size, self.pad_value)[0] for image in images]
        return torch.from_numpy(np.stack(squares))

    @torch.inference_mode()
    def on_squares(self, squares: Tensor) -> Tensor:
        """uint8 NxSxSx3 -> float32 logits NxCxSxS on the engine's device."""
        return self.engine(squares)


def scaled_side(size: int, scale: float) -> int:
    """The side of a square that a network of `size` takes, about `scale` times as large."""
    return size if scale == 1 else max(round(size * scale / STRIDE), 1) * STRIDE


def second_looks(found: list[Tensor], images: list[np.ndarray], size: int) -> dict[int, list[int]]:
    """Which photographs show small people or nobody: their indices, by the side of the square that a second look takes.

    Args:
        found: logits CxSxS of their squares. size: the side of the network's own.
    """
    sides: dict[int, list[int]] = {}
    for index, share in enumerate(map(_share, found, images)):
        if scale := next((scale for most, scale in CLOSER if share < most), None):
            sides.setdefault(scaled_side(size, scale), []).append(index)
    return sides


def resized(planes: Tensor, side: int) -> Tensor:
    """NxCxSxS -> NxCxsidexside, without steps where it grows or aliasing where it shrinks."""
    return F.interpolate(
        planes, size=(side, side), mode="bilinear", align_corners=False, antialias=side < planes.shape[-1]
    )


def _share(logits: Tensor, image: np.ndarray) -> float:
    """How much of a photograph is people."""
    return (person_probability(without_letterbox(logits, *image.shape[:2])[None]) > 0.5).float().mean().item()


def class_names(classes: int) -> list[str]:
    """Names for a network's classes; class 1 is the person."""
    return ["background", "person", *(f"class {number}" for number in range(2, classes))]
