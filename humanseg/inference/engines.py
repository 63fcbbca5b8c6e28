"""What runs a network on uint8 squares: torch, ONNX Runtime or OpenVINO, from memory or from an exported file."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from humanseg.compute import Compute, choose_precision, to_input
from humanseg.inference.convert import OnSquares, installed, require, to_onnx, to_openvino
from humanseg.processes.hardware import choose_device

if TYPE_CHECKING:
    import openvino

BACKENDS = ("torch", "onnxruntime", "openvino")
# The packages that a backend needs to run a network in memory.
NEEDS = {"torch": (), "onnxruntime": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
# The runtimes that read an exported file with this suffix, its own first.
READERS = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",)}
# The metadata of an exported file, each value as JSON, and the type of the value.
FACTS = {"image_size": int, "pad_value": int, "mean": list, "std": list, "classes": list, "precision": str,
         "end_to_end": bool}  # fmt: skip

Run = Callable[[np.ndarray], list[np.ndarray]]  # a runtime's function: the input -> all outputs


@dataclass
class Engine:
    """A network that is ready to run."""

    backend: str  # torch | onnxruntime | openvino
    precision: str  # fp32 | bf16 | fp16
    device: torch.device
    run: Callable[[Tensor], Tensor]

    def __call__(self, squares: Tensor) -> Tensor:
        """uint8 NxSxSx3 on any device -> float32 logits NxCxSxS on the engine's."""
        return self.run(squares)


def of_network(network: nn.Module, compute: Compute, size: int, backend: str, precision: str) -> Engine:
    """A network in memory as an engine.

    Args:
        compute: where torch would run it, and its mean and std.
        backend: auto | torch | onnxruntime | openvino. precision: as it was typed; for auto the backend chooses.

    Raises:
        ValueError: the backend isn't installed, or doesn't support the device or the precision.
    """
    backend = choose_backend(backend, compute.device, precision)
    if backend == "torch":
        placed = compute.place(network).eval()
        return Engine("torch", compute.precision, compute.device, lambda squares: compute(placed, squares))
    whole = OnSquares(network, compute.mean, compute.std).cpu().eval()
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    if backend == "openvino":
        model = to_openvino(whole, example)
        model.reshape([-1, size, size, 3])
        run, precision = openvino_run(model, precision)
    else:
        model = to_onnx(whole, example, {0: "batch"}, "squares", ["logits"]).model_proto
        run, precision = onnxruntime_run(model.SerializeToString(), compute.device, precision)
    return Engine(backend, precision, torch.device("cpu"), lambda squares: torch.from_numpy(run(_array(squares))[0]))


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
    """An exported file in a runtime.

    Args:
        backend: auto | onnxruntime | openvino. device: auto | cpu | cuda. precision: auto | fp32 | bf16 | fp16.

    Returns:
        The function that runs it, the chosen backend and precision, and the file's metadata (`FACTS`).

    Raises:
        ValueError: there is no such file, the runtime can't read it, or mode=export didn't write it; the backend isn't
            installed, or doesn't support the device or the precision.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
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
    try:
        if backend == "openvino":
            model, told = _read_openvino(path)
        else:
            session = _session(str(path), where)
            told = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # the runtimes raise errors of many types for a damaged file
        raise ValueError(f"{path} can't be read by {backend}: {str(error).strip().splitlines()[0]}") from error
    facts = _facts(told, path)
    if backend == "openvino":
        run, precision = openvino_run(model, precision)
    else:
        run, precision = _session_run(session, precision, facts["precision"])
    return run, backend, precision, facts


def choose_backend(name: str, device: torch.device, precision: str) -> str:
    """The backend for a network in memory; `auto` takes the fastest that is installed.

    Milliseconds of unet_mbv2 at 256 px on 2 cores with AVX512-BF16 (tests/bench/prediction.py): openvino bf16 22, fp32
    41; torch bf16 35, fp32 53; onnxruntime fp32 46.

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


def openvino_run(model: "openvino.Model", precision: str) -> tuple[Run, str]:
    """A model in OpenVINO on the CPU, and the precision that it computes in.

    Raises:
        ValueError: this CPU doesn't support the precision.
    """
    core = _openvino()
    precision = choose_precision(precision, torch.device("cpu"))
    if precision.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ValueError(f"precision={precision}: this CPU has no {precision} for openvino; give fp32 or auto")
    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",  # all cores work on one batch; with THROUGHPUT each stream has one core
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda batch: [found.copy() for found in request.infer([batch], share_inputs=True).values()], precision


@cache
def _openvino() -> "openvino.Core":
    """The only Core of this process. Each Core sets a stack for signals; of several, one may restore a freed stack."""
    import openvino

    return openvino.Core()


def onnxruntime_run(model: bytes, device: torch.device, precision: str) -> tuple[Run, str]:
    """An fp32 ONNX model in ONNX Runtime, and the precision that it computes in.

    Raises:
        ValueError: the precision is neither fp32 nor auto.
    """
    return _session_run(_session(model, device), precision, "fp32")


def _session_run(session: Any, precision: str, own: str) -> tuple[Run, str]:
    if precision not in ("auto", own):
        raise ValueError(f"precision={precision}: onnxruntime computes in the model's own {own}; give {own} or auto")
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch}), own


def _session(model: bytes | str, device: torch.device) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # fatal errors alone; all errors are raised as well
    providers = ["CUDAExecutionProvider"] if device.type == "cuda" else []
    return onnxruntime.InferenceSession(model, options, providers=[*providers, "CPUExecutionProvider"])


def _read_openvino(path: Path) -> tuple["openvino.Model", dict[str, str]]:
    model = _openvino().read_model(path)
    section = "framework" if path.suffix == ".onnx" else "humanseg"  # OpenVINO has ONNX's metadata in `framework`
    return model, {
        name: model.get_rt_info([section, name]).value for name in FACTS if model.has_rt_info([section, name])
    }


def _facts(told: dict[str, str], path: Path) -> dict[str, Any]:
    """A file's metadata, plain values of the right types. Anyone may have written it, so anything else is refused."""
    facts = {}
    for name, kind in FACTS.items():
        try:
            facts[name] = json.loads(told[name])
        except (KeyError, ValueError):
            facts[name] = None
        if not isinstance(facts[name], kind):
            raise ValueError(f"{path} was not written by mode=export: its metadata has no {name}")
    if not (0 < facts["image_size"] <= 2**14 and all(len(facts[name]) == 3 for name in ("mean", "std"))):
        raise ValueError(f"{path}: image_size, mean or std in its metadata are not those of a network")
    return facts


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
