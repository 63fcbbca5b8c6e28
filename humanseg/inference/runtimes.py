"""ONNX Runtime and OpenVINO as functions of arrays. Nothing here imports torch, which takes a second and a half."""

from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from humanseg.inference.packages import import_openvino

if TYPE_CHECKING:
    import openvino

Run = Callable[[np.ndarray], list[np.ndarray]]  # the input -> all outputs

DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "f32": "float32", "u8": "uint8"}


class Port(NamedTuple):
    """An input or an output of a model as the model declares it; a side that is free is None."""

    name: str
    dtype: str
    shape: list[int | None] | None  # None: it may have any rank

    def __str__(self) -> str:
        sides = (
            "any shape" if self.shape is None else "x".join("?" if side is None else f"{side}" for side in self.shape)
        )
        return f"{self.name!r:.40} {self.dtype:.20} {sides:.60}"


class Model(NamedTuple):
    """A model that is read, but not yet compiled."""

    inputs: list[Port]
    outputs: list[Port]
    metadata: dict[str, str]
    runtime: Any  # the runtime's own object


def read_openvino(content: tuple[bytes, ...], names: list[str]) -> Model:
    """An ONNX file (one part), or an .xml and its .bin.

    Args:
        names: of the metadata to read.
    """
    model = openvino_core().read_model(*content)
    section = "humanseg" if len(content) == 2 else "framework"  # OpenVINO has ONNX's metadata in `framework`
    told = {name: model.get_rt_info([section, name]).value for name in names if model.has_rt_info([section, name])}
    return Model(*([_openvino_port(port) for port in ports] for ports in (model.inputs, model.outputs)), told, model)


def _openvino_port(port: "openvino.ConstOutput") -> Port:
    shape = port.get_partial_shape()
    sides = None if shape.rank.is_dynamic else [side.get_length() if side.is_static else None for side in shape]
    kind = port.get_element_type().to_string()
    return Port(min(port.get_names(), default=""), DTYPES.get(kind, kind), sides)


def openvino_run(model: "openvino.Model", precision: str, threads: int, streams: int = 1) -> Run:
    """A model in OpenVINO on the CPU. As many threads as there are streams may call it at the same time.

    Args:
        precision: fp32 | bf16 | fp16, in which it computes. streams: each has its part of the threads.

    Raises:
        ValueError: this CPU doesn't support the precision.
    """
    core = openvino_core()
    if precision.upper() not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise ValueError(f"precision={precision}: this CPU has no {precision} for openvino; give fp32 or auto")
    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[precision],
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled, idle = core.compile_model(model, "CPU", settings), SimpleQueue()
    for _ in range(streams):
        idle.put(compiled.create_infer_request())

    def run(batch: np.ndarray) -> list[np.ndarray]:
        request = idle.get()
        try:
            return [found.copy() for found in request.infer([batch], share_inputs=True).values()]
        finally:
            idle.put(request)

    return run


@cache
def openvino_core() -> "openvino.Core":
    """The only Core of this process. Each Core sets a stack for signals; of several, one may restore a freed stack."""
    return import_openvino().Core()


def read_onnxruntime(content: bytes, cuda: bool, threads: int) -> Model:
    """An ONNX file in ONNX Runtime, which compiles it as it reads it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # fatal errors alone; all errors are raised as well
    providers = ["CUDAExecutionProvider"] if cuda else []
    session = onnxruntime.InferenceSession(content, options, providers=[*providers, "CPUExecutionProvider"])
    ports = ([_onnx_port(port) for port in ports] for ports in (session.get_inputs(), session.get_outputs()))
    return Model(*ports, session.get_modelmeta().custom_metadata_map, session)


def _onnx_port(port: Any) -> Port:
    sides = [side if isinstance(side, int) else None for side in port.shape]
    return Port(port.name, DTYPES.get(port.type, port.type), sides)


def onnxruntime_run(model: Model) -> Run:
    """A model that `read_onnxruntime` has read; it computes in the precision that it was written in."""
    (name,) = [port.name for port in model.inputs]
    return lambda batch: model.runtime.run(None, {name: batch})
