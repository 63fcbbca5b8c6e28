"""What runs a network on uint8 squares: torch, ONNX Runtime or OpenVINO, from memory or from an exported file."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from humanseg.compute import Compute, choose_precision, to_input
from humanseg.inference import exported, known, runtimes, stranger
from humanseg.inference.convert import OnSquares, to_onnx, to_openvino
from humanseg.inference.packages import installed, require
from humanseg.inference.runtimes import Run
from humanseg.processes.hardware import choose_device

if TYPE_CHECKING:
    import openvino

BACKENDS = ("torch", "onnxruntime", "openvino")
# The packages that a backend needs to run a network in memory.
NEEDS = {"torch": (), "onnxruntime": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
# The runtimes that read an exported file with this suffix, its own first.
READERS = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",)}


@dataclass
class Engine:
    """A network that is ready to run."""

    backend: str  # torch | onnxruntime | openvino
    precision: str  # fp32 | bf16 | fp16
    device: torch.device
    run: Callable[[Tensor], Tensor]
    streams: int = 1  # so many threads may call it at the same time

    def __call__(self, squares: Tensor) -> Tensor:
        """uint8 NxSxSx3 on any device -> float32 logits NxCxSxS on the engine's."""
        return self.run(squares)


def of_network(
    network: nn.Module, compute: Compute, size: int, backend: str, precision: str, one_core_each: bool = False
) -> Engine:
    """A network in memory as an engine, for squares of `size` and, from when they are first met, of other sides.

    Args:
        compute: where torch would run it, and its mean and std.
        backend: auto | torch | onnxruntime | openvino. precision: as it was typed; for auto the backend chooses.
        one_core_each: on a CPU, so many batches as there are cores may run side by side, each on one. That takes less time
            than one after the other on all cores, which wait for each other at each layer. In torch the threads that
            call it must have been set to one core each.

    Raises:
        ValueError: the backend isn't installed, or doesn't support the device or the precision.
    """
    backend = choose_backend(backend, compute.device, precision)
    streams = torch.get_num_threads() if one_core_each and compute.device.type == "cpu" else 1
    if backend == "torch":
        placed = compute.place(network).eval()
        return Engine("torch", compute.precision, compute.device, lambda squares: compute(placed, squares), streams)
    whole = OnSquares(network, compute.mean, compute.std).cpu().eval()
    made, making = {}, threading.Lock()

    def converted(side: int) -> tuple[Run, str]:
        example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
        if backend == "openvino":
            model = to_openvino(whole, example)
            model.reshape([-1, side, side, 3])
            return openvino_run(model, precision, streams)
        model = to_onnx(whole, example, {0: "batch"}, "squares", ["logits"]).model_proto
        return onnxruntime_run(model.SerializeToString(), compute.device, precision, streams)

    def of_side(side: int) -> tuple[Run, str]:
        if side not in made:
            with making:
                if side not in made:
                    made[side] = converted(side)
        return made[side]

    def run(squares: Tensor) -> Tensor:
        return torch.from_numpy(of_side(squares.shape[1])[0](_array(squares))[0])

    return Engine(backend, of_side(size)[1], torch.device("cpu"), run, streams)


def of_file(path: Path, backend: str, device: str, precision: str) -> tuple[Engine, dict[str, Any]]:
    """An exported file as an engine for squares, and its facts; arguments and errors as for `open_file`."""
    run, backend, precision, facts = open_file(path, backend, device, precision)
    if facts["end_to_end"]:
        facts["classes"] = facts["classes"][:2]  # it gives only the person's probability

    def from_squares(squares: Tensor) -> Tensor:
        if facts["end_to_end"]:  # the letterbox doesn't change a square, so it gives the network's own probability
            return torch.from_numpy(run(_array(squares))[0]).logit(1e-7)[:, None]
        return torch.from_numpy(run(to_input(squares.cpu(), facts["mean"], facts["std"], False).numpy())[0])

    return Engine(backend, precision, torch.device("cpu"), from_squares), facts


def open_file(path: Path, backend: str, device: str, precision: str) -> tuple[Run, str, str, dict[str, Any]]:
    """An exported file in a runtime: in this process where this user exported it, else in one of its own.

    Args:
        backend: auto | onnxruntime | openvino. device: auto | cpu | cuda. precision: auto | fp32 | bf16 | fp16.

    Returns:
        The function that runs it, the chosen backend and precision, and the file's metadata, see `exported`.

    Raises:
        ValueError: as for `exported` and `stranger`; the backend isn't installed, or doesn't support the device or the
            precision.
    """
    readers = READERS[path.suffix]
    if backend not in ("auto", *readers):
        raise ValueError(f"backend={backend} can't run {path.name}: give {' or '.join(readers)}, or auto")
    where = choose_device(device)
    if device == "auto" and not (where.type == "cuda" and "onnxruntime" in readers and _onnxruntime_has_cuda()):
        where = torch.device("cpu")
    if backend == "auto":
        faster = where.type == "cpu" and installed("openvino")
        backend = "openvino" if faster else readers[0]
    _refuse_missing(backend, where)
    if backend == "openvino" or precision != "auto":
        precision = choose_precision(precision, where)
    how = exported.How(backend, where.type == "cuda", precision, torch.get_num_threads())
    content = exported.read(path)
    own = known.is_known(content)
    run, precision, facts = exported.opened(path, content, how) if own else stranger.open_apart(path, how)
    return run, backend, precision, facts


def choose_backend(name: str, device: torch.device, precision: str) -> str:
    """The backend for a network in memory; `auto` takes the fastest that is installed.

    On a CPU that is OpenVINO; without it ONNX Runtime where torch would compute in fp32, and else torch.
    `mode=benchmark parts=[model]` measures them all.

    Raises:
        ValueError: an unknown backend, or one that isn't installed or doesn't support the device.
    """
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"backend={name}: give auto, {', '.join(BACKENDS)}")
    if name != "auto":
        _refuse_missing(name, device)
        return name
    if device.type != "cpu" or precision == "fp16":
        return "torch"
    if is_there("openvino"):
        return "openvino"
    slow = choose_precision(precision, device) == "fp32"
    return "onnxruntime" if slow and is_there("onnxruntime") else "torch"


def is_there(backend: str) -> bool:
    """Whether a backend can run a network in memory: all packages that it needs are installed."""
    return all(map(installed, NEEDS[backend]))


def openvino_run(model: "openvino.Model", precision: str, streams: int = 1) -> tuple[Run, str]:
    """A model in OpenVINO on the CPU, and the precision that it computes in.

    Raises:
        ValueError: this CPU doesn't support the precision.
    """
    precision = choose_precision(precision, torch.device("cpu"))
    return runtimes.openvino_run(model, precision, torch.get_num_threads(), streams), precision


def onnxruntime_run(model: bytes, device: torch.device, precision: str, streams: int = 1) -> tuple[Run, str]:
    """An fp32 ONNX model in ONNX Runtime, and the precision that it computes in.

    Raises:
        ValueError: the precision is neither fp32 nor auto.
    """
    if precision not in ("auto", "fp32"):
        raise ValueError(f"precision={precision}: onnxruntime computes in the model's own fp32; give fp32 or auto")
    read = runtimes.read_onnxruntime(model, device.type == "cuda", torch.get_num_threads() // streams)
    return runtimes.onnxruntime_run(read), "fp32"


def _refuse_missing(backend: str, device: torch.device) -> None:
    if backend == "torch":
        return
    require(backend)
    if backend == "openvino" and device.type != "cpu":
        raise ValueError(f"backend=openvino runs on the CPU: give device=cpu instead of {device}, or backend=torch")
    if backend == "onnxruntime" and device.type != "cpu" and not (device.type == "cuda" and _onnxruntime_has_cuda()):
        raise ValueError(f"backend=onnxruntime has no {device} here: give device=cpu, or install onnxruntime-gpu")


def _onnxruntime_has_cuda() -> bool:
    if not installed("onnxruntime"):
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _array(squares: Tensor) -> np.ndarray:
    return squares.cpu().numpy()
