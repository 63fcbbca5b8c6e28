"""The connectivity loss of PP-HumanSeg (Chu et al. 2022, arXiv 2112.07146)."""

from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from humanseg.data.transforms import IGNORE, PERSON
from humanseg.metrics import person_probability


class Connectivity(nn.Module):
    """1 - the connectivity of the person, averaged over photographs: people in one piece, and no specks beside them.

    A person is a connected region of the mask. Its connectivity is the mean of its IoU with each region of the answer that
    touches it. A photograph's is the sum of these, divided by the number of people and of regions that touch nobody.

    The paper counts pixels of the answer, which have no gradient. Here they count with their probability, and:
    - a person whom no region touches has the mean probability there as connectivity
    - a region that touches nobody counts as its mean probability
    - a photograph without people costs its mean probability
    For probabilities of 0 and 1 that is the paper's value, but for photographs without people and those of which no
    person is touched: the paper adds the area that is wrong.

    Regions are found on the CPU, so a GPU waits.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        probability, valid, person = person_probability(logits), target != IGNORE, target == PERSON
        connected = connectivity(probability, regions(person), regions((probability >= 0.5) & valid))
        mean = (probability * valid).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)
        return torch.where(person.flatten(1).any(1), 1 - connected, mean).mean()


class Regions(NamedTuple):
    """Connected pixels in the planes of a batch; region 0 is what lies outside of all."""

    of: Tensor  # int64 NxHxW: the region of each pixel, numbered on over the batch
    plane: Tensor  # int64: the plane of each region, and N for region 0


def regions(planes: Tensor) -> Regions:
    """The regions of bool NxHxW; neighbours by a corner are connected."""
    ids, owners = [], [len(planes)]
    for number, plane in enumerate(planes.byte().cpu().numpy()):
        count, found = cv2.connectedComponents(plane)
        ids.append(np.where(found, found + len(owners) - 1, 0))
        owners += [number] * (count - 1)
    return Regions(
        torch.as_tensor(np.stack(ids), dtype=torch.int64, device=planes.device),
        torch.tensor(owners, device=planes.device),
    )


def connectivity(probability: Tensor, people: Regions, found: Regions) -> Tensor:
    """The connectivity in [0, 1] of each photograph, 0 where nobody is.

    Args:
        probability: of the person, NxHxW. people: of the masks. found: of the answers.
    """
    flat, person, region = probability.flatten(), people.of.flatten(), found.of.flatten()
    planes, persons, answers = len(probability), len(people.plane), len(found.plane)
    size, area = person.bincount(minlength=persons), _sums(flat, region, answers)

    both = ((person > 0) & (region > 0)).nonzero()[:, 0]
    pairs, place = (person[both] * answers + region[both]).unique(return_inverse=True)
    one, other = pairs // answers, pairs % answers
    common = _sums(flat[both], place, len(pairs))
    iou = common / (size[one] + area[other] - common)

    touching = one.bincount(minlength=persons)
    missed = _sums(flat, person, persons) / size.clamp(min=1)
    each = torch.where(touching > 0, _sums(iou, one, persons) / touching.clamp(min=1), missed)
    alone = (other.bincount(minlength=answers) == 0) * area / region.bincount(minlength=answers).clamp(min=1)

    number = people.plane.bincount(minlength=planes + 1) + _sums(alone, found.plane, planes + 1)
    return (_sums(each, people.plane, planes + 1) / number.clamp(min=1))[:planes]


def _sums(values: Tensor, places: Tensor, size: int) -> Tensor:
    """The sum of the values at each of 0 .. size - 1."""
    return torch.zeros(size, dtype=values.dtype, device=values.device).index_add(0, places, values)
