"""All that is borrowed from private parts of torch, as they were read in torch 2.11 and 2.14.

tests/test_private.py says in one sentence which of them a newer version no longer has.
"""

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.utils.tensorboard import FileWriter, SummaryWriter

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)  # the base of all batch and instance norms


def cpu_has_fast_bf16() -> bool:
    """Whether this CPU has AMX or AVX512-BF16."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def shared_bytes(count: int) -> Tensor:
    """uint8 in memory that a DataLoader worker shares with its main process, as torch's own collating allocates it."""
    return torch.empty(0, dtype=torch.uint8).set_(torch.UntypedStorage._new_shared(count))


def lerp_(ours: list[Tensor], theirs: list[Tensor], weight: float) -> None:
    """Move each of our tensors by a share of the way to its counterpart, in one kernel."""
    torch._foreach_lerp_(ours, theirs, weight)


def skipped_as_a_whole(optimizer: Optimizer) -> Optimizer:
    """Have loss scaling leave out SGD's steps whose gradients overflow, instead of the fused kernel.

    The kernel leaves out the weights of a first step, and a momentum behind that nothing has written.
    """
    if isinstance(optimizer, SGD):
        optimizer._step_supports_amp_scaling = False
    return optimizer


class BoardWriter(SummaryWriter):
    """A SummaryWriter that gives its events to `file`, which has add_event, flush and close, and to no thread."""

    def __init__(self, folder: str, file: object):
        self._file = file
        super().__init__(folder)

    def _get_file_writer(self) -> FileWriter:
        if self.file_writer is None:
            self.file_writer = _FileWriter(self._file)
            self.all_writers = {self.log_dir: self.file_writer}
        return self.file_writer


class _FileWriter(FileWriter):
    def __init__(self, file: object):
        self.event_writer = file


def add_summary(writer: SummaryWriter, summary: Summary, step: int | None = None) -> None:
    """Write one of TensorBoard's own summaries."""
    writer._get_file_writer().add_summary(summary, step)
