"""What a user would write without this suite: the peer that the benchmark holds it against.

Photographs are decoded and augmented at their full size, letterboxed and normalised to float on the CPU; the network runs
in float32 and its default memory format, and each loss is read.
"""

from collections.abc import Iterator

import albumentations as A
import cv2
import torch
from albumentations.pytorch import ToTensorV2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from humanseg.data.transforms import IGNORE

# The recipes of conf/augment in albumentations' own transforms.
RECIPES = {
    "none": [],
    "classic": [
        A.GaussNoise(std_range=(0.0117647, 0.0117647), p=1),
        A.HorizontalFlip(p=0.5),
        A.Rotate(limit=(-10, 10), p=1, fill_mask=IGNORE),
        A.RandomResizedCrop(size=(512, 512), scale=(0.81, 1), ratio=(1, 1), p=1),
    ],
    "portrait": [
        A.HorizontalFlip(p=0.5),
        A.Affine(scale=(0.5, 2), translate_percent=(-0.15, 0.15), rotate=(-20, 20), fill_mask=IGNORE, p=1),
        A.ColorJitter(brightness=(0.6, 1.4), contrast=(0.7, 1.3), saturation=(0.5, 1.5), hue=(-0.05, 0.05), p=0.8),
        A.ToGray(p=0.05),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 5)), A.MotionBlur(blur_limit=(3, 7))], p=0.2),
        A.GaussNoise(std_range=(0.01, 0.05), p=0.2),
        A.ImageCompression(quality_range=(35, 95), p=0.3),
    ],
}


class Photographs(Dataset):
    """Files to what the network takes: float 3xSxS and class ids SxS.

    Args:
        paths: (image, mask) for each sample. size: S. mean, std: of values in [0, 1].
    """

    def __init__(self, paths: list[tuple], recipe: str, size: int, mean: list[float], std: list[float]):
        self.paths = paths
        square = A.PadIfNeeded(size, size, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=IGNORE)
        ending = [A.LongestMaxSize(size), square, A.Normalize(mean, std), ToTensorV2()]
        self.transform = A.Compose([*RECIPES[recipe], *ending])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image_path, mask_path = self.paths[index]
        image = cv2.cvtColor(cv2.imread(str(image_path)), cv2.COLOR_BGR2RGB)
        mask = (cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE) > 0).astype("uint8")
        done = self.transform(image=image, mask=mask)
        return done["image"], done["mask"].long()


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


def train(
    network: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    steps: int,
) -> float:
    """Some optimizer steps; returns the mean loss."""
    network.train()
    running = 0.0
    for _ in range(steps):
        images, masks = next(batches)
        images, masks = images.to(device), masks.to(device)
        optimizer.zero_grad()
        value = loss(network(images), masks)
        value = sum(value.values()) if isinstance(value, dict) else value
        value.backward()
        optimizer.step()
        running += value.item()
    return running / steps
