"""A file that mode=export wrote, or says so: its metadata is held against the model, and its outputs against both.

Nothing here imports torch: a file that this user did not export is opened in a process of its own, see `stranger`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from humanseg import terminal
from humanseg.config_rules import KEYS
from humanseg.inference import runtimes
from humanseg.inference.runtimes import Model, Port, Run
from humanseg.runs.reading import read_bytes
from humanseg.value_rules import SWITCH, Rule, one_of

LARGEST = 2**31  # bytes; no ONNX file is larger
LONGEST = 10_000  # characters of a fact as JSON
# The metadata that is read, each value as JSON. All else that a file says of itself is for people.
FACTS = {
    "image_size": KEYS["data.image_size"].rule,
    "pad_value": KEYS["data.pad_value"].rule,
    "mean": KEYS["data.mean"].rule,
    "std": KEYS["data.std"].rule,
    "classes": Rule(
        lambda value: (
            isinstance(value, list)
            and 2 <= len(value) <= 255
            and all(isinstance(name, str) and name.isprintable() and len(name) <= 100 for name in value)
        ),
        "2 to 255 names",
    ),
    "precision": one_of("fp32", "fp16"),
    "end_to_end": SWITCH,
}


class How(NamedTuple):
    """How a file is to run."""

    backend: str  # onnxruntime | openvino
    cuda: bool
    precision: str  # openvino: fp32 | bf16 | fp16; onnxruntime: auto, or the file's own
    threads: int


class Opened(NamedTuple):
    """A file that is ready to run."""

    run: Run  # float32 Nx3xHxW normalised -> [logits NxCxHxW]; end to end: uint8 NxHxWx3 -> [probability NxHxW]
    precision: str
    facts: dict[str, Any]


def read(path: Path) -> tuple[bytes, ...]:
    """What an exported file consists of: an .onnx is one file, an .xml has a .bin beside it.

    Raises:
        ValueError: one of them is missing, empty, too large or no file, or the .bin is a link.
    """
    parts = [path] if path.suffix == ".onnx" else [path, path.with_suffix(".bin")]
    content = []
    for part in parts:
        try:
            content.append(read_bytes(part, LARGEST, follow=part == path))
        except FileNotFoundError as error:
            raise ValueError(f"{part}: no such file{'' if part == path else f'; {path} needs it'}") from error
        except OSError as error:
            link = part != path and part.is_symlink()
            raise ValueError(f"{part} can't be read: {'it is a link' if link else error.strerror}") from error
        if not content[-1] and part == path:
            raise ValueError(f"{part} is empty")
    if len(content) == 2 and not content[0].startswith((b"<?xml", b"<net")):
        raise ValueError(f"{path} is no OpenVINO model")  # which would read an ONNX file under this name, too
    return tuple(content)


def opened(path: Path, content: tuple[bytes, ...], how: How) -> Opened:
    """Hold a file against itself, and make it ready to run.

    Args:
        content: as of `read`.

    Raises:
        ValueError: the runtime can't read it, mode=export didn't write it, its metadata and the model differ, or the
            runtime doesn't support the precision.
    """
    try:
        if how.backend == "openvino":
            model = runtimes.read_openvino(content, [*FACTS])
        else:
            model = runtimes.read_onnxruntime(content[0], how.cuda, how.threads)
    except Exception as error:  # of many types, for a damaged file
        raise ValueError(f"{path} can't be read by {how.backend}: {reason(error)}") from error
    facts = facts_of(model.metadata, path)
    refuse_lies(model, facts, path)
    if how.backend == "onnxruntime" and how.precision not in ("auto", facts["precision"]):
        own = facts["precision"]
        raise ValueError(
            f"precision={how.precision}: onnxruntime computes in the model's own {own}; give {own} or auto"
        )
    try:
        if how.backend == "openvino":
            run, precision = runtimes.openvino_run(model.runtime, how.precision, how.threads), how.precision
        else:
            run, precision = runtimes.onnxruntime_run(model), facts["precision"]
    except RuntimeError as error:
        raise ValueError(f"{path} can't be compiled by {how.backend}: {reason(error)}") from error
    return Opened(lambda batch: checked(run, batch, facts, path), precision, facts)


def facts_of(told: dict[str, str], path: Path) -> dict[str, Any]:
    """A file's metadata as plain values within bounds. Anyone may have written it, so anything else is refused.

    Raises:
        ValueError: a fact is missing or has a value that no export writes.
    """
    facts = {}
    for name, rule in FACTS.items():
        text = told.get(name)
        if not isinstance(text, str):
            raise ValueError(f"{path} was not written by mode=export: its metadata has no {name}")
        try:
            facts[name] = json.loads(text) if len(text) <= LONGEST else None
        except (ValueError, RecursionError):
            facts[name] = None
        if not rule.holds(facts[name]):
            raise ValueError(f"{path} has {name}={shown(text)} in its metadata, which is no {rule.words}")
    if not all(abs(item) <= 1000 for item in facts["mean"]) or not all(0 < item <= 1000 for item in facts["std"]):
        raise ValueError(f"{path} has a mean or std in its metadata that no photographs have")
    return facts


def refuse_lies(model: Model, facts: dict[str, Any], path: Path) -> None:
    """Hold a model's inputs and outputs against its metadata.

    Raises:
        ValueError: they differ.
    """
    given, name = promised_input(facts), "probability" if facts["end_to_end"] else "logits"
    results = [Port(name, "float32", [None, *shape[1:]]) for shape in shapes(facts, given.shape)]
    for what, ports, promised in (("input", model.inputs, [given]), ("output", model.outputs, results)):
        if len(ports) != 1 or not any(_fits(ports[0], one) for one in promised):
            said, has = " or ".join(map(str, promised)), "; ".join(map(str, ports[:3])) or "none"
            raise ValueError(f"{path}: its metadata promises one {what}, {said}, and the model has {len(ports)}: {has}")


def promised_input(facts: dict[str, Any]) -> Port:
    """The input of a file with these facts, at the network's own size."""
    size = facts["image_size"]
    if facts["end_to_end"]:
        return Port("image", "uint8", [None, size, size, 3])
    return Port("image", "float32", [None, 3, size, size])


def _fits(port: Port, promised: Port) -> bool:
    """Whether a port takes what is promised. The number of pictures must be free, other sides may be."""
    return (
        (port.name, port.dtype) == (promised.name, promised.dtype)
        and port.shape is not None
        and len(port.shape) == len(promised.shape)
        and port.shape[0] is None
        and all(side in (None, wanted) for side, wanted in zip(port.shape, promised.shape, strict=True))
    )


def shapes(facts: dict[str, Any], given: Sequence[int | None]) -> list[tuple[int | None, ...]]:
    """The shapes that an output may have for an input's. Two classes may share one channel, the person's."""
    if facts["end_to_end"]:
        return [tuple(given[:3])]
    number = len(facts["classes"])
    return [(given[0], channels, *given[2:]) for channels in ({1, 2} if number == 2 else {number})]


def checked(run: Run, batch: np.ndarray, facts: dict[str, Any], path: Path) -> list[np.ndarray]:
    """Run a file, and hold its output against what its metadata promises.

    Raises:
        ValueError: the runtime fails, or the output has another shape or type, or holds what is no number.
    """
    try:
        found = run(batch)
    except Exception as error:  # the runtimes raise errors of many types
        raise ValueError(f"{path} fails on {'x'.join(map(str, batch.shape))}: {reason(error)}") from error
    promised = shapes(facts, batch.shape)
    if found[0].shape not in promised or found[0].dtype != np.float32:
        said = " or ".join("x".join(map(str, shape)) for shape in promised)
        raise ValueError(f"{path} promises float32 {said} and gives {found[0].dtype} {found[0].shape!s:.60}")
    if not np.isfinite(found[0]).all():
        raise ValueError(f"{path} gives numbers that are not finite")
    return found


def reason(error: BaseException) -> str:
    """What a runtime's error says, as text that a terminal can show. OpenVINO's first lines name its sources."""
    return shown(terminal.reason(error, last=True))


def shown(text: str) -> str:
    """At most 200 characters of a text, as a terminal can show them."""
    return terminal.visible(text[:200])
