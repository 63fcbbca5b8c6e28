"""A plain script, as one writes it without this suite. The benchmark compares the suite with it.

Each epoch decodes the photographs, shrinks them, augments them by the run's own recipe, letterboxes and normalises
them to float on the CPU. The network runs in float32 and its default memory format, and each loss is read.
"""

import os
import time
from collections.abc import Callable, Iterator

import albumentations as A
import cv2
import torch
from albumentations.pytorch import ToTensorV2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from humanseg.compute import as_list
from humanseg.data.transforms import IGNORE, MARGIN
from humanseg.losses import total_loss
from humanseg.processes.hardware import finish


class Photographs(Dataset):
    """Files as the network takes them: float 3xSxS and class ids SxS.

    The photographs are shrunk before they are augmented. At their full size a recipe takes several times as long.

    Args:
        paths: (image, mask) for each sample. augment: an albumentations pipeline. size: S. mean, std: of values in
            [0, 1].
    """

    def __init__(self, paths: list[tuple], augment: Callable | None, size: int, mean: list[float], std: list[float]):
        self.paths, self.size = paths, size
        square = A.PadIfNeeded(size, size, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=IGNORE)
        self.shrink = A.Compose([A.LongestMaxSize(round(MARGIN * size), interpolation=cv2.INTER_AREA)])
        self.augment = augment or A.Compose([])
        self.finish = A.Compose([A.LongestMaxSize(size), square, A.Normalize(mean, std), ToTensorV2()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image_path, mask_path = self.paths[index]
        image = cv2.cvtColor(cv2.imread(os.fsencode(image_path)), cv2.COLOR_BGR2RGB)
        mask = (cv2.imread(os.fsencode(mask_path), cv2.IMREAD_GRAYSCALE) > 0).astype("uint8")
        sample = {"image": image, "mask": mask}
        for transform in (self.shrink, self.augment, self.finish):
            sample = transform(**sample)
        return sample["image"], sample["mask"].long()


def endless(photographs: Photographs, batch_size: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled batches, pass after pass."""
    loader = DataLoader(
        photographs,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )
    while True:
        yield from loader


class Script:
    """The training loop of a plain script, some steps at a time.

    It is measured at its best. It runs in this process, whose C library keeps freed memory (`hardware.keep_memory`): with
    glibc's own settings the same loop reaches half the rate, because the kernel zeroes each step's memory anew.
    """

    def __init__(
        self, network: nn.Module, photographs: Photographs, batch_size: int, workers: int, loss: nn.Module,
        device: torch.device,
    ):  # fmt: skip
        self.network, self.loss, self.device, self.batch_size = network.to(device), loss, device, batch_size
        size = photographs.size
        # A loss that asks for the photographs gets black ones: its time is the same.
        self.pictures = torch.zeros(batch_size, size, size, 3, dtype=torch.uint8, device=device)
        self.batches = endless(photographs, batch_size, workers)
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9)

    def steps(self, count: int) -> float:
        """Train for some optimizer steps; returns the seconds that they took."""
        finish(self.device)
        started = time.perf_counter()
        self.network.train()
        running = 0.0
        for _ in range(count):
            images, masks = next(self.batches)
            images, masks = images.to(self.device), masks.to(self.device)
            self.optimizer.zero_grad()
            value, _ = total_loss(self.loss, as_list(self.network(images)), masks, self.pictures)
            value.backward()
            self.optimizer.step()
            running += value.item()
        finish(self.device)
        return time.perf_counter() - started
