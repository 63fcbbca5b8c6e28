"""A network with what comes before and after it as one module, and a module as an ONNX or an OpenVINO model."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from humanseg import terminal
from humanseg.compute import as_list, to_input
from humanseg.inference.packages import import_openvino, require
from humanseg.metrics import person_probability

if TYPE_CHECKING:
    import openvino


class FirstOutput(nn.Module):
    """A network without its outputs after the first, which are for training alone."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return as_list(self.network(image))[0]


class OnSquares(nn.Module):
    """A network with the normalisation before it: uint8 NxHxWx3 -> float32 logits NxCxHxW."""

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]):
        super().__init__()
        self.network = FirstOutput(network)
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, squares: Tensor) -> Tensor:
        return self.network(to_input(squares, self.mean, self.std, False))


class Half(nn.Module):
    """A network in fp16 with float32 input and output. The given network itself becomes fp16."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = FirstOutput(network.half())

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image.half()).float()


class EndToEnd(nn.Module):
    """A whole prediction: uint8 NxHxWx3 photographs of one size -> the person's probability, float32 NxHxW.

    The letterbox and its inverse are products with matrices, rows @ image @ columns. Every runtime computes these
    alike, and no size in between depends on the photograph; exporters can't follow such a size. The weights are those
    of OpenCV's INTER_AREA where the photograph shrinks, and of bilinear interpolation where it grows.

    Args:
        stages: also return what lies between, to find the stage where two runtimes differ: float32 squares NxSxSx3 in
            0..255 and logits NxCxSxS.
    """

    def __init__(self, on_squares: nn.Module, size: int, pad_value: int, stages: bool = False):
        super().__init__()
        self.on_squares, self.size, self.pad_value, self.stages = on_squares, size, pad_value, stages

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        # Sizes are taken from the pixels' numbers: a size that is read from the shape would be a constant in a trace.
        y, x = (torch.arange(side, device=image.device) for side in image.shape[1:3])
        longest = torch.maximum(y[-1], x[-1]) + 1
        rows, inside_y, back_y = self._axis(y, longest)
        columns, inside_x, back_x = self._axis(x, longest)
        inner = torch.einsum("sh,nhwc->nswc", rows, image.float())
        inner = torch.einsum("tw,nswc->nstc", columns, inner)
        squares = inner.round() + self.pad_value * (1 - inside_y[:, None] * inside_x)[:, :, None]
        logits = self.on_squares(squares)
        probability = person_probability(back_y @ logits @ back_x.T)
        return (squares, logits, probability) if self.stages else probability

    def _axis(self, pixel: Tensor, longest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For one side: weights S x length into the square, a mask S of the photograph in it, weights length x S back.

        All numbers before the weights are whole: OpenVINO computes in bf16 where it can, and bf16 has no 300.5.
        """
        length, place = pixel[-1] + 1, torch.arange(self.size, device=pixel.device)
        inner = _rounded(length * self.size, longest).clamp(min=1)
        target = place - (self.size - inner) // 2
        inside = ((target >= 0) & (target < inner)).float()

        low, high = (target * length)[:, None], ((target + 1) * length)[:, None]
        area = torch.minimum(high, (pixel + 1) * inner) - torch.maximum(low, pixel * inner)
        area = area.clamp(min=0).float() / length.float()
        forth = torch.where(inner < length, area, _bilinear(target, inner, pixel, length)) * inside[:, None]
        return forth, inside, _bilinear(pixel, length, target, inner)


def _rounded(number: Tensor, divisor: Tensor) -> Tensor:
    """A quotient rounded to the nearest whole number; a half goes to the even one, as in Python's round."""
    whole, rest = number // divisor, 2 * (number % divisor)
    return whole + ((rest > divisor) | ((rest == divisor) & (whole % 2 == 1))).long()


def _bilinear(target: Tensor, targets: Tensor, source: Tensor, sources: Tensor) -> Tensor:
    """Weights, targets x sources, that resize a row of `sources` pixels to one of `targets` pixels.

    A pixel's centre is half a pixel from its edge. Beyond the first and the last centre the edge's pixel is repeated.

    Args:
        target, source: the numbers of the pixels, int64.
    """
    centre = ((2 * target + 1) * sources - targets).clamp(min=0).minimum(2 * targets * (sources - 1))
    away = (centre[:, None] - 2 * targets * source).abs()
    return (2 * targets - away).clamp(min=0).float() / (2 * targets).float()


def to_onnx(
    module: nn.Module, example: Tensor, dynamic: dict[int, str], name: str, outputs: list[str]
) -> "torch.onnx.ONNXProgram":
    """A module as an ONNX model.

    Args:
        example: an input, a batch of more than one: torch.export takes a batch size of 1 for a constant.
        dynamic: the input's free dimensions and their names. name: the input's. outputs: the outputs' names.

    Raises:
        ValueError: a package isn't installed, or torch can't export the module; its reason is in the sentence.
    """
    require("onnx", "onnxscript")
    try:
        with _quiet():
            return torch.onnx.export(
                module,
                (example,),
                input_names=[name],
                output_names=outputs,
                dynamic_shapes=(dynamic,),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter's stages raise errors of many types
        reason = terminal.reason(error.__cause__ or error)
        raise ValueError(f"torch can't export this network to ONNX: {reason}") from error


def to_openvino(module: nn.Module, example: Tensor) -> "openvino.Model":
    """A module as an OpenVINO model; batch, height and width are free.

    Raises:
        ValueError: openvino isn't installed, or it can't convert the module; its reason is in the sentence.
    """
    require("openvino")
    openvino = import_openvino()
    try:
        with _quiet(), torch.inference_mode():
            # Traced here, because openvino would run the network three more times to check its trace.
            traced = torch.jit.trace(module, example, check_trace=False)
            return openvino.convert_model(traced, example_input=example)
    except Exception as error:  # neither torch nor openvino has an error of its own for it
        raise ValueError(f"openvino can't convert this network: {terminal.reason(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters. They print versions and operator sets, which don't concern the user."""
    with terminal.without_warnings(), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
