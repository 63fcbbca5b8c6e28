"""A network as a file that is used without this project, and the proof that it does what the checkpoint does."""

import copy
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from humanseg.compute import Compute
from humanseg.data.transforms import IGNORE, unletterbox
from humanseg.inference import engines, exported, known
from humanseg.inference.convert import EndToEnd, FirstOutput, Half, OnSquares, to_onnx, to_openvino
from humanseg.inference.packages import import_openvino
from humanseg.metrics import person_probability
from humanseg.predictor import Predictor
from humanseg.runs import atomic

log = logging.getLogger(__name__)

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt"}
RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}
IOU_MAY_DIFFER = {"fp32": 0.001, "fp16": 0.003}
# A stage that differs by more is at fault. Preprocessing is in levels of 255, as OpenCV may round differently; the
# others are in probability.
STAGE_MAY_DIFFER = {
    "fp32": {"preprocessing": 1.5, "network": 0.001, "upsampling": 0.001},
    "fp16": {"preprocessing": 1.5, "network": 0.02, "upsampling": 0.01},
}


@dataclass
class Recipe:
    """What is exported and how."""

    network: nn.Module  # in fp32 on the CPU
    format: str  # onnx | openvino | torch
    precision: str  # fp32 | fp16
    end_to_end: bool
    image_size: int
    pad_value: int
    mean: list[float]
    std: list[float]

    def reference(self) -> Predictor:
        """What the file is compared with: the checkpoint in torch, in fp32."""
        compute = Compute(torch.device("cpu"), "fp32", False, self.mean, self.std)
        return Predictor.of(self.network, compute, self.image_size, self.pad_value)

    def module(self, stages: bool = False) -> nn.Module:
        """The network with all that goes into the file. OpenVINO's own writer makes its weights fp16, later."""
        halved = self.precision == "fp16" and self.format == "onnx"
        network = Half(copy.deepcopy(self.network)) if halved else self.network
        if not self.end_to_end:
            return FirstOutput(network).eval()
        return EndToEnd(OnSquares(network, self.mean, self.std), self.image_size, self.pad_value, stages).eval()

    def example(self, height: int, width: int) -> Tensor:
        """An input with a batch of 2: torch.export takes a batch size of 1 for a constant."""
        if self.end_to_end:
            return torch.zeros(2, height, width, 3, dtype=torch.uint8)
        return torch.zeros(2, 3, height, width)


def convert(recipe: Recipe, stages: bool = False) -> tuple[Any, bool]:
    """The model, and whether its height and width are free. They are fixed where the network needs that.

    Raises:
        ValueError: the network can't be converted.
    """
    module, size = recipe.module(stages), recipe.image_size
    example = recipe.example(size, size)
    if recipe.end_to_end:
        return _model(recipe, module, example, {0: "batch", 1: "height", 2: "width"}, stages), True
    try:
        model = _model(recipe, module, example, {0: "batch", 2: "height", 3: "width"})
        if _runs_at(recipe, model, size, size + 64) and _runs_at(recipe, model, size + 32, size):
            return model, True
    except ValueError:  # the network can't leave its size free; any other error is raised again below
        pass
    model = _model(recipe, module, example, {0: "batch"})
    if recipe.format == "openvino":
        model.reshape([-1, 3, size, size])
    return model, False


def _model(recipe: Recipe, module: nn.Module, example: Tensor, free: dict[int, str], stages: bool = False) -> Any:
    outputs = ["squares", "logits", "probability"] if stages else ["probability" if recipe.end_to_end else "logits"]
    if recipe.format == "onnx":
        return to_onnx(module, example, free, "image", outputs).model_proto
    model = to_openvino(module, example)
    model.input(0).get_tensor().set_names({"image"})
    for output, name in zip(model.outputs, outputs, strict=True):
        output.get_tensor().set_names({name})
    return model


def _runs_at(recipe: Recipe, model: Any, height: int, width: int) -> bool:
    """Whether a model gives the network's output at another size and for a batch of one image."""
    image = torch.rand(recipe.example(height, width)[:1].shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = FirstOutput(recipe.network)(image).numpy()
    try:
        (found,) = _run(recipe, model)(image.numpy())
    except Exception:  # a runtime's own error: the size was a constant after all
        return False
    near = 1e-3 if recipe.precision == "fp32" else 0.03
    return found.shape == expected.shape and bool(np.abs(found - expected).max() <= near * (1 + np.abs(expected).max()))


def _run(recipe: Recipe, model: Any) -> engines.Run:
    """A model in its own runtime in fp32, as it was converted."""
    if recipe.format == "openvino":
        return engines.openvino_run(model, "fp32")[0]
    return engines.onnxruntime_run(model.SerializeToString(), torch.device("cpu"), "auto")[0]


def write(recipe: Recipe, model: Any, facts: dict[str, Any], path: Path) -> None:
    """Write a model; each fact goes into it as JSON under its name."""
    told = {name: json.dumps(value) for name, value in facts.items()}
    if recipe.format == "onnx":
        for name, value in told.items():
            model.metadata_props.add(key=name, value=value)
        path.write_bytes(model.SerializeToString())
        return
    for name, value in told.items():
        model.set_rt_info(value, ["humanseg", name])
    import_openvino().save_model(model, path, compress_to_fp16=recipe.precision == "fp16")


def export(recipe: Recipe, facts: dict[str, Any], path: Path, photographs: Iterable) -> dict[str, Any]:
    """Convert, write and check. Only a whole file that has passed the check appears at `path`.

    Args:
        facts: metadata of the file beside the recipe's.
        photographs: pairs of uint8 HxWx3 and uint8 HxW.

    Returns:
        What the check found, and `free_size`.

    Raises:
        ValueError: the network can't be converted, the file can't be written, or it differs from the checkpoint.
    """
    own = ("image_size", "pad_value", "mean", "std", "precision", "end_to_end")
    model, free_size = convert(recipe)
    facts = {name: getattr(recipe, name) for name in own} | facts | {"free_size": free_size}

    def written(file: Path) -> None:
        write(recipe, model, facts, file)
        _note(file)

    return _checked(recipe, written, path, photographs) | {"free_size": free_size}


def export_checkpoint(recipe: Recipe, payload: dict[str, Any], path: Path, photographs: Iterable) -> dict[str, Any]:
    """As `export`, for a checkpoint that is ready to be saved."""
    return _checked(recipe, lambda file: torch.save(payload, file), path, photographs)


def _checked(recipe: Recipe, write_to: Callable[[Path], None], path: Path, photographs: Iterable) -> dict[str, Any]:
    """Write a file beside its place, check it, and put it there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
            written = Path(folder) / path.name
            _write_or_explain(write_to, written, path)
            found = check(recipe, written, photographs)
            for file in sorted(written.parent.iterdir()):  # the weights (.bin) come before the .xml that needs them
                atomic.flush(file)
                os.replace(file, path.parent / file.name)
    except OSError as error:
        raise ValueError(f"{path} can't be written: {error.strerror or error}") from error
    return found


def _write_or_explain(write_to: Callable[[Path], None], written: Path, path: Path) -> None:
    try:
        write_to(written)
    except RuntimeError as error:  # OpenVINO's and torch's own, for example where the disk is full
        raise ValueError(f"{path} can't be written, perhaps because the disk is full: {error}") from error


def _note(path: Path) -> None:
    """Let this user's own file run in this user's own processes."""
    try:
        known.note(exported.read(path))
    except OSError as error:
        log.warning("%s can't be written (%s): the file will run as a stranger's does", known.record(), error.strerror)


def check(recipe: Recipe, path: Path, photographs: Iterable) -> dict[str, Any]:
    """Compare a written file, in its own runtime, with the checkpoint in torch fp32.

    Returns:
        `photographs` (how many), `iou_checkpoint`, `iou_exported`, `largest_difference` of the probability.

    Raises:
        ValueError: the IoU differs by more than is allowed; the sentence names the stage at fault.
    """
    reference, exported = recipe.reference(), _exported(recipe, path)
    areas, number, largest, worst = np.zeros((2, 2), np.int64), 0, -1.0, None
    for image, mask in photographs:
        number += 1
        expected, found = reference(image), exported(image)
        truth, valid = mask == 1, mask != IGNORE
        for area, probability in zip(areas, (expected, found), strict=True):
            person = (probability > 0.5) & valid
            area += np.count_nonzero(person & truth), np.count_nonzero(person | truth)
        difference = float(np.abs(expected - found).max())
        if not difference <= largest:  # also true for NaN
            largest, worst = difference, image
    before, after = (int(common) / int(union) if union else 1.0 for common, union in areas)
    if not (abs(before - after) <= IOU_MAY_DIFFER[recipe.precision] and np.isfinite(largest)):
        raise ValueError(
            f"the exported {recipe.precision} model is not the checkpoint's: IoU {before:.4f} became {after:.4f} on "
            f"{number} photographs, probability differs by up to {largest:.4f}; {differing_stage(recipe, worst)}"
        )
    return {
        "photographs": number,
        "iou_checkpoint": before,
        "iou_exported": after,
        "largest_difference": largest,
    }


def _exported(recipe: Recipe, path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """A written file in its own runtime as a function: uint8 HxWx3 -> probability HxW."""
    runtime = RUNTIMES[recipe.format]
    precision = recipe.precision if recipe.format == "onnx" else "fp32"  # elsewhere only weights are fp16
    if not recipe.end_to_end:
        return Predictor(path, "cpu", precision, runtime, refine=False, closer=False)  # as the reference: one look
    run, *_ = engines.open_file(path, runtime, "cpu", precision)
    return lambda image: run(image[None])[0][0]


def differing_stage(recipe: Recipe, image: np.ndarray) -> str:
    """In words, which stage differs from the checkpoint's. Each is judged on the input that it really got."""
    reference = recipe.reference()
    limits = STAGE_MAY_DIFFER[recipe.precision]
    if not recipe.end_to_end:
        return "the stage that differs is the network, the only one in the file"
    squares, logits, probability = map(torch.from_numpy, _run(recipe, convert(recipe, stages=True)[0])(image[None]))
    levels = (squares - reference.squares([image])).abs().max()
    expected = reference.on_squares(squares.round().clamp(0, 255).to(torch.uint8))
    network = (person_probability(logits) - person_probability(expected)).abs().max()
    enlarged = person_probability(unletterbox(logits[0], *image.shape[:2])[None])
    found = {
        "preprocessing": float(levels),
        "network": float(network),
        "upsampling": float((probability - enlarged).abs().max()),
    }
    at_fault = [name for name, value in found.items() if not value <= limits[name]] or ["none by itself"]
    return (
        f"the stage that differs: {', '.join(at_fault)} (preprocessing by {found['preprocessing']:.1f} levels of 255, "
        f"network by {found['network']:.4f} and upsampling by {found['upsampling']:.4f} in probability)"
    )
