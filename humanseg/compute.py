"""Where and how a network runs: its device, precision and memory format, and the forward pass from uint8 to logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from humanseg.processes import torch_private

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Compute:
    """The forward pass: uint8 images in, float32 logits out, at the chosen device, precision and memory format."""

    device: torch.device
    precision: str  # fp32 | bf16 | fp16
    channels_last: bool
    mean: list[float]
    std: list[float]

    def __post_init__(self) -> None:
        # The tensors are made once: a copy from Python's memory at each call would make a GPU wait.
        self.on_device = torch.tensor(self.mean, device=self.device), torch.tensor(self.std, device=self.device)

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        """uint8 NxHxWx3 on any device -> float32 logits NxCxHxW on this one; of several outputs the first."""
        return self.outputs(model, images)[0]

    def outputs(self, model: nn.Module, images: Tensor) -> list[Tensor]:
        """As for a call, all outputs of the network in float32. Those after the first are for training alone."""
        images = images.to(self.device, non_blocking=True)
        inputs = to_input(images, *self.on_device, self.channels_last)
        with torch.autocast(self.device.type, DTYPES[self.precision], enabled=self.precision != "fp32"):
            return [output.float() for output in as_list(model(inputs))]

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device in the memory format."""
        return model.to(self.device, memory_format=torch.channels_last if self.channels_last else torch.preserve_format)


def as_list(found: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """What a network returned, logits or a list or tuple of them, as a list.

    Raises:
        ValueError: it is something else.
    """
    outputs = list(found) if isinstance(found, list | tuple) else [found]
    if not outputs or not all(isinstance(output, Tensor) for output in outputs):
        raise ValueError(
            f"the network returns a {type(found).__name__}: it must be logits NxCxHxW, or a list of logits"
        )
    return outputs


def to_input(images: Tensor, mean: Tensor | list[float], std: Tensor | list[float], channels_last: bool) -> Tensor:
    """Normalise: uint8 NxHxWx3 on the network's device -> float32 Nx3xHxW in the network's memory format."""
    mean_255 = torch.as_tensor(mean, device=images.device) * 255
    scale = 1 / (torch.as_tensor(std, device=images.device) * 255)
    normalised = ((images - mean_255) * scale).permute(0, 3, 1, 2)  # NHWC memory seen as NCHW is channels_last already
    return normalised.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` takes bf16 where the hardware is fast at it: CUDA from Ampere on, a CPU with AMX or AVX512-BF16.

    Raises:
        ValueError: an unknown precision.
    """
    if name not in ("auto", *DTYPES):
        raise ValueError(f"trainer.precision={name}: give auto, {', '.join(DTYPES)}")
    return name if name != "auto" else "bf16" if _fast_bf16(device) else "fp32"


def _fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch_private.cpu_has_fast_bf16()
