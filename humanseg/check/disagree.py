"""Where a network disagrees with the labels, and which network judges which samples."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from humanseg.check import measures
from humanseg.check.facts import THUMBNAIL
from humanseg.check.findings import Finding
from humanseg.check.scan import Sample, Scanned
from humanseg.check.store import Store, record
from humanseg.data.transforms import IGNORE, PERSON, resize_mask, shrunk_size, without_letterbox
from humanseg.metrics import person_probability
from humanseg.predictor import Predictor
from humanseg.processes.hardware import cores

log = logging.getLogger(__name__)

VERSION = 2  # of how both are compared; another one begins another file
AT_ONCE = 16  # photographs that the network sees at once
SURE = 0.8  # the network's probability for a person, or for none, from which a pixel counts
BLOB = 0.03  # share of the longer side: what is thinner is an edge that is off, and no person
LEAST = 0.05  # share of the photograph that is added to the union: of a tiny person a few pixels are no disagreement
# A finding disagrees by so much, and by so many median deviations more than the source's others. Of 400 photographs of eg1800
# and ccp with 80 seeded faults two networks were wrong by themselves on 4 above this, and on 8 above 0.15; no fault was lost.
CLEAR, APART = 0.2, 6
NUMBERS = ("score", "iou", "unlabelled", "nobody", "edge")  # see `compare`; each is in [0, 1]
DISAGREEMENT = record([(name, "<f4") for name in NUMBERS])


class Judge(NamedTuple):
    """A network, a word that stands for its weights, and by source the samples that it judges."""

    predictor: Predictor
    mark: str
    samples: list[tuple[Scanned, np.ndarray]]


class Judged(NamedTuple):
    """What a network says of a source's samples: records of DISAGREEMENT, zeros where it has seen none; the store of its masks."""

    records: np.ndarray
    store: Store


def judge(judges: list[Judge], folder: Path) -> dict[int, Judged]:
    """Hold labels against what networks see, by the id of each `Scanned`; what the folder knows already is not done again."""
    store, found = Store(folder / f"disagreements_v{VERSION}", DISAGREEMENT, possible), {}
    if _look_up(judges, store, found):
        with store.table.alone():
            left = _look_up(judges, store, found)  # another process may have compared some meanwhile
            total = sum(len(indices) for _, _, indices, _ in left)
            with tqdm(total=total, desc="network", unit=" photographs", leave=False, disable=None) as bar:
                for predictor, scanned, indices, keys in left:
                    found[id(scanned)].records[indices] = _compared(predictor, scanned, indices, keys, store)
                    bar.update(len(indices))
    return found


def possible(records: np.ndarray) -> np.ndarray:
    """Which records a comparison can have given."""
    return np.all([(records[name] >= 0) & (records[name] <= 1) for name in NUMBERS], axis=0)


def _look_up(judges: list[Judge], store: Store, found: dict[int, Judged]) -> list[tuple]:
    """Note in `found` what the store has. Returns what it lacks: predictor, source, indices and keys of a few samples each."""
    left = []
    for predictor, mark, samples in judges:
        for scanned, indices in samples:
            own = found.setdefault(id(scanned), Judged(np.zeros(len(scanned.facts), DISAGREEMENT), store)).records
            keys = _keys(scanned.facts["key"][indices], mark)
            own[indices] = store.find(keys)
            unseen = np.flatnonzero(own["lengths"][indices].sum(1) == 0)
            parts = (unseen[start : start + AT_ONCE] for start in range(0, len(unseen), AT_ONCE))
            left += [(predictor, scanned, indices[part], keys[part]) for part in parts]
    return left


def _keys(keys: np.ndarray, mark: str) -> np.ndarray:
    """A key for each sample and these weights; 0 stays 0."""
    salt = np.uint64(int.from_bytes(blake2b(mark.encode(), digest_size=8).digest()) | 1)
    return keys * salt


def _compared(
    predictor: Predictor, scanned: Scanned, indices: np.ndarray, keys: np.ndarray, store: Store
) -> np.ndarray:
    """The records of some samples of a source, which are kept."""
    records, pictures = np.zeros(len(indices), DISAGREEMENT), []
    with ThreadPoolExecutor(cores(alone=True)) as pool:
        pairs = list(pool.map(lambda index: _sample(scanned.source, index, predictor.size), indices.tolist()))
    logits = predictor.on_squares(predictor.squares([image for image, _ in pairs]))
    for one, (_, label), seen in zip(records, pairs, logits, strict=True):
        probability = person_probability(without_letterbox(seen, *label.shape)[None])[0].float().cpu().numpy()
        label = resize_mask(label, *probability.shape)
        for name, value in compare(probability, label).items():
            one[name] = value
        size = shrunk_size(*label.shape, THUMBNAIL)
        enlarged = cv2.resize(probability, size[::-1], interpolation=cv2.INTER_LINEAR)
        pictures.append((measures.mask_png((enlarged > 0.5).view(np.uint8)),))
    records["key"] = keys
    return store.add(records, pictures)


def _sample(source: object, index: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    return source.prepared(index, longest) if hasattr(source, "prepared") else source[index]


def compare(probability: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """How far a network and a label disagree.

    Args:
        probability: of the person, float32 HxW. label: class ids, uint8 HxW; what is ignored counts nowhere.

    Returns:
        ``score``: pixels on which the network is sure of the opposite, by those that are person for one of both. ``iou``.
        ``unlabelled``, ``nobody``, ``edge``: shares of the photograph: people without a label, labels without a person, and
        what is thinner.
    """
    valid, person = label != IGNORE, label == PERSON
    seen = (probability > 0.5) & valid
    more, less = (probability > SURE) & valid & ~person, (probability < 1 - SURE) & person
    side = max(round(BLOB * max(label.shape)), 2)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    blobs = [cv2.morphologyEx(part.view(np.uint8), cv2.MORPH_OPEN, kernel).sum() / label.size for part in (more, less)]
    wrong, union = more.sum() + less.sum(), (person | seen).sum()
    return {
        "score": wrong / (union + LEAST * label.size),
        "iou": (person & seen).sum() / union if union else 1.0,
        **{"unlabelled": blobs[0], "nobody": blobs[1], "edge": max(wrong / label.size - sum(blobs), 0.0)},
    }


def findings(scanned: Scanned, judged: Judged) -> Iterator[Finding]:
    """Samples of a source on which network and label disagree clearly, and more than on others."""
    records = judged.records
    known = np.flatnonzero(records["lengths"].sum(1))
    if not len(known):
        return
    scores = records["score"][known]
    middle = np.median(scores)
    least = max(CLEAR, middle + APART * np.median(np.abs(scores - middle)))
    for index in known[scores >= least].tolist():
        one = {name: float(records[name][index]) for name in NUMBERS}
        kind = max(("unlabelled", "nobody", "edge"), key=one.get)
        numbers = {"disagreement": one.pop("score"), **one}
        numbers = {name: round(value, 4) for name, value in numbers.items()}
        yield Finding(kind, (Sample(scanned, index),), _words(kind, one), numbers, numbers["disagreement"])


def _words(kind: str, one: dict[str, float]) -> str:
    if kind == "unlabelled":
        return f"the network sees people on {one['unlabelled']:.1%} of it that the label leaves out"
    if kind == "nobody":
        return f"the network sees nobody on {one['nobody']:.1%} of it that is labelled"
    return f"of what network or label have as person they agree on {one['iou']:.0%}"
